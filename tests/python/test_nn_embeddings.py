# SPDX-License-Identifier: MIT
"""Embedding tables, in 4 and 8 bits and for training."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

import libbnb  # noqa: E402
from layers import needs_bitsandbytes, pickled, save_and_load, stock_bitsandbytes  # noqa: E402
from libbnb import nn, optim  # noqa: E402

pytestmark = pytest.mark.torch

IDS = torch.tensor([[0, 9, 3], [9, 1, 7]])
# Rows of whole blocks, of half blocks, of no even part of a block, and of an odd length.
WIDTHS = [128, 32, 66, 33]


def _table(width: int = 128, dtype: Any = torch.float32) -> Any:
    torch.manual_seed(2)
    return torch.nn.Embedding(10, width, dtype=dtype)


MAKE = {
    "nf4": lambda table: nn.EmbeddingNF4.from_embedding(table),
    "fp4": lambda table: nn.EmbeddingFP4.from_embedding(table),
    "nf4-blocks": lambda table: nn.Embedding4bit.from_embedding(table, quant_type="nf4", blocksize=32),
    "nf4-bf16-storage": lambda table: nn.EmbeddingNF4.from_embedding(table, quant_storage=torch.bfloat16),
    "int8": lambda table: nn.Embedding8bit.from_embedding(table),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", MAKE)
def test_rows(name: str, width: int, dtype: Any) -> None:
    """The rows of the dequantized table, for any shape of ids."""
    table = _table(width, dtype)
    made = MAKE[name](table)
    whole = made.weight.dequantize().to(dtype)
    for ids in (IDS, torch.tensor(4), torch.empty(0, dtype=torch.long), IDS.int()):
        rows = made(ids)
        assert rows.dtype == dtype and rows.shape == (*ids.shape, width)
        assert torch.equal(rows, F.embedding(ids, whole))
    error = (whole.float() - table.weight.float()).norm() / table.weight.float().norm()
    assert float(error.detach()) < (0.15 if "4" in name else 0.02)


def test_nested_tables_load() -> None:
    """The state decides, whether bitsandbytes would write such a table or not."""
    table = _table()
    codes, state = libbnb.quantize_4bit(table.weight.detach(), quant_type="nf4", compress_statistics=True)
    made = nn.EmbeddingNF4(10, 128)
    made.weight = nn.Params4bit.from_state(codes, state, module=made)
    assert torch.equal(made(IDS), F.embedding(IDS, libbnb.dequantize_4bit(codes, state)))


@pytest.mark.parametrize("name", MAKE)
def test_moves_and_copies(name: str) -> None:
    """Quantized by a move, the first call or loading; the dtype of rows follows the model's."""
    table = _table()
    made = MAKE[name](table)
    expected = made(IDS)
    saved = save_and_load(made.state_dict(), True)
    for copied in (copy.deepcopy(made), pickled(made), save_and_load(made, False)):
        assert torch.equal(copied(IDS), expected)
    for device in ("cpu", "meta"):
        empty = MAKE[name](torch.nn.Embedding(10, 128, device="meta"))
        if device == "cpu":
            empty = empty.to_empty(device="cpu")
        empty.load_state_dict(saved)
        assert torch.equal(empty(IDS), expected)
    lazy = MAKE[name](torch.nn.Embedding(10, 128, device="meta")).to_empty(device="cpu")
    lazy.load_state_dict(table.state_dict())
    assert torch.equal(lazy(IDS), expected)
    lazy.load_state_dict(_table().state_dict())
    assert torch.equal(lazy(IDS), expected)
    assert made.half()(IDS).dtype == torch.float16 and made.float()(IDS).dtype == torch.float32
    assert torch.equal(made(IDS), expected)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", MAKE)
def test_compile(name: str, width: int) -> None:
    torch._dynamo.reset()
    made = MAKE[name](_table(width))
    assert torch.equal(torch.compile(made, fullgraph=True, backend="aot_eager")(IDS), made(IDS))


@needs_bitsandbytes
@pytest.mark.parametrize("name", ["EmbeddingNF4", "EmbeddingFP4", "Embedding8bit"])
def test_as_bitsandbytes(name: str) -> None:
    """The same rows, of whole blocks: for others its AVX-512 kernel takes the scales of other blocks."""
    import bitsandbytes

    table = _table()
    table.weight.data = table.weight.data.half().float()
    rows: list[Any] = []
    with stock_bitsandbytes():
        for module in (nn, bitsandbytes.nn):
            made = getattr(module, name)(10, 128)
            made.load_state_dict(table.state_dict())
            rows.append(made.to("cpu")(IDS))
    step = 0.01 if name == "Embedding8bit" else 0  # a code at the middle of two may be the other one
    assert torch.allclose(*rows, rtol=1e-6, atol=step * float(rows[1].abs().max()))


def test_max_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="max_norm"):
        nn.EmbeddingNF4.from_embedding(torch.nn.Embedding(4, 64, max_norm=1.0))


@pytest.mark.parametrize("kind", ["Embedding", "StableEmbedding"])
def test_tables_for_training(kind: str) -> None:
    """Xavier's numbers, a padding row of zeros, 32-bit states under an 8-bit optimizer."""
    made = getattr(nn, kind)(300, 64, padding_idx=5)
    bound = (6 / (300 + 64)) ** 0.5
    assert float(made.weight.abs().max().detach()) <= bound and not made.weight[5].any()
    optimizer = optim.Adam8bit(made.parameters(), lr=1e-2, min_8bit_size=0)
    made(torch.tensor([1, 2])).sum().backward()
    optimizer.step()
    assert optimizer.state[made.weight]["state1"].dtype == torch.float32
    optim.GlobalOptimManager.get_instance().initialize()
    plain = _table()
    shared = getattr(nn, kind).from_embedding(plain)
    assert shared.weight is plain.weight
    optim.GlobalOptimManager.get_instance().initialize()


def test_stable_embedding_normalizes() -> None:
    made = nn.StableEmbedding(10, 64, dtype=torch.bfloat16)
    rows = made(IDS)
    assert rows.dtype == torch.bfloat16
    assert torch.allclose(rows.float().mean(-1), torch.zeros(2, 3), atol=0.02)
    assert torch.allclose(rows.float().std(-1, correction=0), torch.ones(2, 3), atol=0.02)
