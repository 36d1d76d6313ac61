# SPDX-License-Identifier: MIT
"""The names in docs/migration.md exist, ours, those of bitsandbytes and those of C; none of bitsandbytes and
mps-bitsandbytes is missing."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from libbnb._native import lib

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
# What `__all__` of mps_bitsandbytes 0.7.0 lists. It installs on Macs only.
OF_MPS_BITSANDBYTES = """
is_available has_native_kernels QuantState quantize_4bit dequantize_4bit matmul_4bit quantize_nf4 dequantize_nf4
matmul_nf4 NF4_CODEBOOK create_normal_map quantize_fp4 dequantize_fp4 matmul_fp4 FP4_CODEBOOK create_fp4_map
quantize_blockwise dequantize_blockwise quantize_fp8_e4m3 dequantize_fp8_e4m3 matmul_fp8_e4m3 quantize_rowwise
dequantize_rowwise matmul_int8 quantize_colrow dequantize_colrow matmul_colrow double_quant dequant_absmax spmm_coo
spmm_coo_int8 sparse_coo_from_dense quantize_sparse_coo Linear4bit Linear8bit LinearFP8 Embedding4bit Embedding8bit
EmbeddingNF4 EmbeddingFP4 OutlierAwareLinear SwitchBackLinear SwitchBackLinearCallback Adam8bit AdamW8bit Lion8bit
SGD8bit PagedAdam PagedAdamW PagedLion quantize_state dequantize_state BitsAndBytesConfig quantize_model
replace_linear_with_4bit replace_linear_with_8bit get_memory_footprint
""".split()

NAME = re.compile(r"`([A-Za-z_](?:[\w.]*\w)?)(?=[`( ])")  # a dotted name, alone or with arguments behind it


def rows(section: str) -> list[list[str]]:
    """Cells of the table of a section, its heading left out."""
    text = re.split(r"\n###? ", PAGE.partition(f"## From {section}\n")[2])[0]
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


def test_names_of_mps_bitsandbytes() -> None:
    """Each in one row, each row with a name of ours."""
    listed = [name for row in rows("mps-bitsandbytes") for name in names(row[0])]
    assert sorted(listed) == sorted(OF_MPS_BITSANDBYTES)
    assert all(any(name.startswith("bnb.") for name in names(row[1])) for row in rows("mps-bitsandbytes"))


def test_recorded_names_of_mps_bitsandbytes() -> None:
    theirs = pytest.importorskip("mps_bitsandbytes", exc_type=ImportError)
    if theirs.__version__ != "0.7.0":
        pytest.skip(f"mps_bitsandbytes is {theirs.__version__}, the names are those of 0.7.0")
    assert set(theirs.__all__) - {"__version__"} == set(OF_MPS_BITSANDBYTES)


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
