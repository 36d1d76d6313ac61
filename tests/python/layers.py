# SPDX-License-Identifier: MIT
"""Layers of all formats, and what the tests of layers share."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from libbnb import nn  # noqa: E402

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="not installed: bitsandbytes"
)

# name: what makes a quantized layer of a float one
FROM_LINEAR: dict[str, Callable[[Any], Any]] = {
    "nf4": lambda linear: nn.LinearNF4.from_linear(linear, compress_statistics=False),
    "nf4-nested": lambda linear: nn.LinearNF4.from_linear(linear),
    "fp4": lambda linear: nn.LinearFP4.from_linear(linear, compress_statistics=False),
    "fp4-blocks": lambda linear: nn.Linear4bit.from_linear(linear, compress_statistics=False, blocksize=32),
    "nf4-bf16-storage": lambda linear: nn.LinearNF4.from_linear(linear, quant_storage=torch.bfloat16),
    "int8": lambda linear: nn.Linear8bitLt.from_linear(linear),
    "int8-threshold": lambda linear: nn.Linear8bitLt.from_linear(linear, threshold=6.0),
    "fp8": lambda linear: nn.LinearFP8.from_linear(linear),
    "fp8-e5m2": lambda linear: nn.LinearFP8.from_linear(linear, quant_type="fp8_e5m2", blocksize=32),
}
FORMATS = list(FROM_LINEAR)


def linear(inputs: int = 128, outputs: int = 96, bias: bool = True, dtype: Any = torch.float32, seed: int = 0) -> Any:
    """A float layer with weights as trained ones have them."""
    torch.manual_seed(seed)
    made = torch.nn.Linear(inputs, outputs, bias)
    torch.nn.init.normal_(made.weight, std=0.05)
    return made.to(dtype).eval()


def make(name: str, source: Any = None) -> Any:
    """A quantized layer."""
    return FROM_LINEAR[name](linear() if source is None else source)


def empty(name: str, like: Any, device: str = "cpu") -> Any:
    """A layer of the same kind whose weights are still to be loaded."""
    plain = torch.nn.Linear(like.in_features, like.out_features, like.bias is not None, device="meta")
    made = FROM_LINEAR[name](plain)
    return made if device == "meta" else made.to_empty(device=device)


def x(rows: int = 5, inputs: int = 128, dtype: Any = torch.float32, outliers: bool = False) -> Any:
    """Activations."""
    made = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(1)).to(dtype)
    if outliers:
        made[:, 7] *= 40
    return made


def codes_of(layer: Any) -> Any:
    """The bytes of a quantized weight."""
    return layer.weight.data.contiguous().view(torch.uint8).flatten()


@contextlib.contextmanager
def stock_bitsandbytes() -> Iterator[None]:
    """bitsandbytes with its own kernels, whether the plug-in had put libbnb's into it or not."""
    import bitsandbytes  # noqa: F401  (it activates the plug-in)

    from libbnb.integrations import bitsandbytes as plugin

    active = plugin.status().active
    if active:
        plugin.deactivate()
    try:
        yield
    finally:
        if active:
            plugin.activate()


def save_and_load(value: Any, weights_only: bool) -> Any:
    """Through torch.save."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


def pickled(value: Any) -> Any:
    """Through pickle."""
    return pickle.loads(pickle.dumps(value))
