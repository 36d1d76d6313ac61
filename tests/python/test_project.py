# SPDX-License-Identifier: MIT
"""The project's own machinery: workflows, issue forms, commit checks and the making of wheels name what exists."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")
tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))

# Made by an earlier step of a job, or part of the machine that runs it.
MADE = {"build", "dist", "report", "site", ".venv"}


@functools.cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def jobs(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def commands() -> Iterator[tuple[str, str]]:
    """(where it stands, a command line) of workflows, .ci, commit checks, wheels and CONTRIBUTING."""
    for path in WORKFLOWS:
        for name, job in jobs(path).items():
            yield from ((f"{path.name}: {name}", step["run"]) for step in job["steps"] if "run" in step)
    for script in sorted((ROOT / ".ci").iterdir()):
        text = script.read_text(encoding="utf-8").replace("\\\n", " ")
        yield from ((f".ci/{script.name}", line.strip()) for line in text.splitlines() if not line.startswith("#"))
    for hook in hooks():
        yield f"pre-commit: {hook['id']}", hook["entry"]
    wheels = pyproject()["tool"]["cibuildwheel"]
    yield from (("cibuildwheel", line) for line in wheels["test-command"] + wheels["linux"]["repair-wheel-command"])
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL):
        yield from (("CONTRIBUTING.md", line) for line in block.splitlines())


def hooks() -> list[dict[str, Any]]:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    return repository["hooks"]


def files_named(command: str) -> set[str]:
    """Words of a command that are paths in the repository."""
    words: list[str] = re.split(r"""[\s"'()$<>|;&=]+""", command.replace("{project}/", "").replace("${{", " "))
    return {w for w in words if re.fullmatch(r"(?:[.\w-]+/)+[\w.-]+|[\w-]+\.(?:py|toml|md|ini)", w) and "*" not in w}


def test_commands_name_files_that_exist() -> None:
    looked_at = 0
    for where, command in commands():
        for name in files_named(command):
            if Path(name).parts[0] in MADE or re.match(r"(scratch|venv|tools|bin|dev)/", name):
                continue
            looked_at += 1
            assert (ROOT / name).exists(), f"{where}: there is no {name}: {command}"
    assert looked_at >= 8


def test_commands_use_extras_options_and_setups_that_exist() -> None:
    extras = set(pyproject()["project"]["optional-dependencies"])
    options = set(re.findall(r"^option\('(\w+)'", (ROOT / "meson.options").read_text(encoding="utf-8"), re.MULTILINE))
    options |= {"werror", "b_sanitize", "b_lundef", "b_vscrt", "optimization"}  # Meson's own
    setups = set(re.findall(r"add_test_setup\('(\w+)'", (ROOT / "tests/meson.build").read_text(encoding="utf-8")))
    found = {"extra": 0, "option": 0, "setup": 0}
    for where, command in commands():
        for listed in re.findall(r"(?:^|\s|\")\.\[([\w,]+)\]|\.gz\)\[([\w,]+)\]", command):
            names = set("".join(listed).split(","))
            found["extra"] += 1
            assert names <= extras, f"{where}: no such extra: {names - extras}"
        for name in re.findall(r"\s-D(\w+)=", command):
            found["option"] += 1
            assert name in options, f"{where}: Meson has no option {name}"
        for name in re.findall(r"--setup (\w+)", command):
            found["setup"] += 1
            assert name in setups, f"{where}: tests/meson.build has no setup {name}"
    assert min(found.values()) >= 3, found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_bounded_and_pinned(path: Path) -> None:
    """Every job ends, gets no more rights than it needs, and runs actions of a stated version."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["permissions"] == {"contents": "read"}
    for name, job in jobs(path).items():
        assert 0 < job["timeout-minutes"] <= 120, name
        rights = job.get("permissions", {})
        assert set(rights) <= ({"contents", "id-token"} if name == "publish" else set()), name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), f"{name}: {step}"
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+(\.\d+)*|release/v\d+)", step["uses"]), step["uses"]
        for needed in job.get("needs", []):
            assert needed in jobs(path), f"{path.name}: {name} needs {needed}"


def test_systems_that_are_tested_and_released() -> None:
    def systems(job: dict[str, Any]) -> set[str]:
        return {re.sub(r"-\d+(\.\d+)?", "", row["system"]) for row in job["strategy"]["matrix"]["include"]}

    released = systems(jobs(ROOT / ".github/workflows/wheels.yml")["wheels"])
    assert released == {"ubuntu", "ubuntu-arm", "macos", "macos-intel", "windows"}
    tests = jobs(ROOT / ".github/workflows/tests.yml")
    for job in (tests["native"], tests["python"]):
        assert systems(job) == released - {"macos-intel"}
        never_built = {row["system"] for row in job["strategy"]["matrix"]["include"] if row["never_built"]}
        assert {"macos-15", "windows-2022"} <= never_built, "remove this line with the README's row about them"


def test_releases_are_published_without_a_password() -> None:
    publish = jobs(ROOT / ".github/workflows/wheels.yml")["publish"]
    assert publish["permissions"]["id-token"] == "write" and publish["environment"] == "pypi"
    assert set(publish["needs"]) == set(jobs(ROOT / ".github/workflows/wheels.yml")) - {"publish"}
    assert "secrets." not in "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.name == "config.yml":
        assert form["blank_issues_enabled"] is True
        return
    assert form["name"] and form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids)) and all(field["attributes"]["label"] for field in form["body"])
    labels = " ".join(field["attributes"]["label"] for field in form["body"])
    wanted = {"bug.yml": ["libbnb doctor --json"], "speed.yml": ["libbnb doctor --json", "libbnb bench --json"]}
    assert all(command in labels for command in wanted.get(path.name, []))


def test_commit_checks_have_the_versions_of_the_dev_extra() -> None:
    dev = dict(re.fullmatch(r"([\w-]+)(?:\[\w+\])?([=>].*)", line).groups() for line in _extra("dev"))  # type: ignore[union-attr]
    pinned = [requirement for hook in hooks() for requirement in hook.get("additional_dependencies", [])]
    assert {requirement.split("==")[0] for requirement in pinned} == {
        "ruff",
        "clang-format",
        "typos",
        "check-jsonschema",
    }
    for requirement in pinned:
        name, version = requirement.split("==")
        assert dev[name] == f"=={version}"


def _extra(name: str) -> list[str]:
    return pyproject()["project"]["optional-dependencies"][name]


@pytest.mark.skipif(shutil.which("pre-commit") is None, reason="pre-commit is not installed")
def test_commit_checks_are_valid() -> None:
    command = ["pre-commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("platform", "arch", "tag"),
    [
        ("linux", "x86_64", "manylinux_x86_64"),
        ("linux", "aarch64", "manylinux_aarch64"),
        ("macos", "arm64", "macosx_arm64"),
        ("windows", "AMD64", "win_amd64"),
    ],
)
def test_wheels_that_are_built(platform: str, arch: str, tag: str) -> None:
    """By cibuildwheel itself, which also reads the whole configuration."""
    pytest.importorskip("cibuildwheel")
    command = [sys.executable, "-m", "cibuildwheel", "--platform", platform, "--archs", arch]
    done = subprocess.run(
        [*command, "--print-build-identifiers", str(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lowest = "cp" + pyproject()["project"]["requires-python"].removeprefix(">=").replace(".", "")
    assert done.stdout.split()[0] == f"{lowest}-{tag}", (
        "what is built first is tested with the lowest version of Python"
    )


def test_the_version_of_cibuildwheel() -> None:
    """The workflow's and the tests' are the same."""
    (step,) = (s for s in jobs(ROOT / ".github/workflows/wheels.yml")["wheels"]["steps"] if "run" in s)
    version = re.search(r"cibuildwheel==([\d.]+)", step["run"])
    assert version and any(line.startswith(f"cibuildwheel=={version.group(1)};") for line in _extra("test"))
