# SPDX-License-Identifier: MIT
"""Makes a reference page for each public package of Python: what its `__all__` lists, by the modules that define it.

Public are libbnb, its packages and the modules of libbnb.integrations. The pages name things; mkdocstrings reads the
sources and puts signatures and docstrings in.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PYTHON = Path(__file__).resolve().parents[2] / "python"
INSIDE = {"libbnb.arrays", "libbnb.cli", "libbnb.functional"}  # no interface, or all of it is in libbnb itself


@dataclass
class Module:
    """What the source of a module says without being run."""

    doc: str
    exported: list[str] = field(default_factory=list)
    origin: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (module, its name there)


def _source(module: str) -> Path | None:
    path = PYTHON / module.replace(".", "/")
    found = (p for p in (path / "__init__.py", path.with_suffix(".py")) if p.exists())
    return next(found, None)


def read(name: str) -> Module:
    path = _source(name)
    assert path is not None, name
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = Module(ast.get_docstring(tree) or "")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("libbnb"):
            for alias in node.names:
                module.origin[alias.asname or alias.name] = (str(node.module), alias.name)
        elif isinstance(node, (ast.Assign, ast.AugAssign)) and _is_all(node):
            if isinstance(node.value, ast.Attribute):  # __all__ += functional.__all__
                package = f"{name}.{ast.unparse(node.value.value)}"
                inner = read(package)
                module.exported += inner.exported
                module.origin |= {n: inner.origin.get(n, (package, n)) for n in inner.exported}
            else:
                module.exported += ast.literal_eval(node.value)
    return module


def _is_all(node: ast.Assign | ast.AugAssign) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def _sentence(doc: str) -> str:
    """The first one of a docstring."""
    return re.split(r"(?<=[\w`')])\.\s", " ".join(doc.split("\n\n")[0].split()) + " ")[0].rstrip(" .")


def _title(doc: str) -> tuple[str, str]:
    """A heading, and what else the first paragraph of a docstring says."""
    paragraph = " ".join(doc.split("\n\n")[0].split())
    sentence = _sentence(doc)
    if len(sentence) <= 75:
        return sentence, paragraph[len(sentence) + 1 :].strip()
    return re.split(r": |, ", sentence)[0], paragraph


def public_packages() -> list[str]:
    packages = ["libbnb"]
    for path in sorted((PYTHON / "libbnb").rglob("*.py")):
        parts = path.relative_to(PYTHON).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if any(part.startswith("_") and part != "__init__" for part in parts) or name in (*INSIDE, "libbnb"):
            continue
        in_integrations = parts[1] == "integrations" and len(name.split(".")) == 3
        is_package = parts[-1] == "__init__" and len(name.split(".")) == 2
        if (in_integrations or is_package) and read(name).exported:
            packages.append(name)
    return packages


def page(name: str) -> str:
    module = read(name)
    first, *rest = module.doc.split("\n\n")
    lines = [f"# {name}", "", " ".join(first.split()), ""] + [line for text in rest for line in (text, "")]
    groups: dict[str, list[str]] = {}
    for exported in module.exported:
        if exported.startswith("__") or f"{name}.{exported}" in INSIDE:
            continue
        origin, there = module.origin.get(exported, (name, exported))
        submodule = f"{origin}.{there}"
        groups.setdefault(submodule if _source(submodule) else origin, []).append(exported)
    for origin, names in sorted(groups.items(), key=lambda group: group[0].split(".")[-1].lstrip("_")):
        title, more = _title(read(origin).doc) if origin != name else ("Defined here", "")
        lines += [f"## {title}", "", more, ""]
        for exported in sorted(names, key=str.lower):
            lines += [f"::: {name}.{exported}", ""]
    return "\n".join(lines)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    packages = public_packages()
    for name in packages:
        files.append(File.generated(config, f"reference/{name}.md", content=page(name)))
    lines = [f"- [{name}]({name}.md): {_sentence(read(name).doc)}" for name in packages]
    index = (
        "# Reference\n\nMade from the docstrings of the Python package and the comments of the C header.\n\n"
        + "\n".join(lines)
        + "\n- [C functions](c.md): the operations and services of `bnb.h`\n"
        + "- [bitsandbytes' C symbols](../bitsandbytes_symbols.md): those of `bitsandbytes.h`\n"
    )
    files.append(File.generated(config, "reference/index.md", content=index))
    return files
