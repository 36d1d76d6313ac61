# SPDX-License-Identifier: MIT
"""The names in docs/migration.md exist, ours, those of bitsandbytes and those of C; none of bitsandbytes is missing."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from libbnb._native import lib

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
NAME = re.compile(r"`([A-Za-z_](?:[\w.]*\w)?)(?=[`( ])")  # a dotted name, alone or with arguments behind it


def rows(section: str) -> list[list[str]]:
    """Cells of the table of a section, its heading left out."""
    text = PAGE.partition(f"## From {section}\n")[2].partition("\n## ")[0]
    found = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert len(found) > 5, section
    return found[2:]


def sections() -> list[str]:
    return re.findall(r"^## From (.*)$", PAGE, re.MULTILINE)


def names(cell: str) -> list[str]:
    return NAME.findall(cell)


def look_up(path: str) -> Any:
    """An attribute, or a module that has to be imported first."""
    first, *rest = path.split(".")
    found = importlib.import_module(first)
    for position, part in enumerate(rest):
        if not hasattr(found, part):
            importlib.import_module(".".join([first, *rest[: position + 1]]))
        found = getattr(found, part)
    return found


@pytest.mark.torch
@pytest.mark.parametrize("section", [name for name in sections() if name != "bitsandbytes-sys"])
def test_names_on_our_side(section: str) -> None:
    pytest.importorskip("torch")
    found = [name for row in rows(section) for name in names(row[1]) if name.startswith("bnb.")]
    assert len(found) >= 5
    for name in found:
        look_up("lib" + name)


@pytest.mark.torch
def test_names_of_bitsandbytes() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    listed = {name for row in rows("bitsandbytes") for name in names(row[0])} - {"BitsAndBytesConfig"}
    for name in listed:
        look_up(f"bitsandbytes.{name}")

    # What it offers and defines itself.
    for module in (bitsandbytes.functional, bitsandbytes.nn):
        short = module.__name__.removeprefix("bitsandbytes.")
        own = {
            f"{short}.{name}"
            for name, value in vars(module).items()
            if not name.startswith("_") and str(getattr(value, "__module__", "")).startswith(module.__name__)
        }
        assert len(own) > 10 and own <= listed, own - listed


@pytest.mark.torch
def test_optimizers_of_bitsandbytes() -> None:
    """The row says: every class."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    import libbnb.optim

    classes = {name for name, value in vars(bitsandbytes.optim).items() if isinstance(value, type)}
    assert len(classes) > 20 and classes <= set(libbnb.optim.__all__)


def test_names_of_bitsandbytes_sys() -> None:
    """They are functions of the library that is loaded."""
    found = [name for row in rows("bitsandbytes-sys") for name in names(row[1])]
    library = lib.found()[0]
    assert len(found) >= 10
    for name in found:
        assert callable(getattr(library, name)), name
