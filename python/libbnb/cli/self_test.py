# SPDX-License-Identifier: MIT
"""Whether operations compute on a GPU what they compute on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import libbnb
from libbnb.cli.bench_device import Array, Device, Host

_SHAPE = (48, 320)
_PRODUCT_ERROR = 1e-5  # of float32 sums of so many products in another order, relative to the result's norm

Test = Callable[[Array], list[Array]]


def _four_bit(floats: Array, quant_type: str) -> list[Array]:
    codes, state = libbnb.quantize_4bit(floats, quant_type=quant_type)
    return [codes, state.absmax, libbnb.dequantize_4bit(codes, state)]


def _nested(floats: Array) -> list[Array]:
    codes, state = libbnb.quantize_4bit(floats, quant_type="nf4", compress_statistics=True)
    return [state.absmax, libbnb.dequantize_4bit(codes, state)]


def _blockwise(floats: Array) -> list[Array]:
    codes, state = libbnb.quantize_blockwise(floats, blocksize=256)
    return [codes, state.absmax, libbnb.dequantize_blockwise(codes, state)]


def _int8(floats: Array) -> list[Array]:
    codes, stats, _ = libbnb.int8_vectorwise_quant(floats)
    return [codes, stats, libbnb.int8_vectorwise_dequant(codes, stats)]


def _fp8(floats: Array) -> list[Array]:
    codes, scale = libbnb.quantize_fp8(floats)
    return [codes, scale, libbnb.dequantize_fp8(codes, scale)]


def _mx(floats: Array) -> list[Array]:
    codes, scale, _ = libbnb.quantize_mx(floats, "mxfp4")
    return [codes, scale, libbnb.dequantize_mx(codes, scale, quant_type="mxfp4")]


def _ternary(floats: Array) -> list[Array]:
    codes, scale = libbnb.quantize_ternary(floats)
    return [codes, libbnb.dequantize_ternary(codes, scale, shape=_SHAPE)]


def _int8_product(floats: Array) -> list[Array]:
    codes, _, _ = libbnb.int8_vectorwise_quant(floats)
    return [libbnb.int8_linear_matmul(codes, codes)]


def _adam(floats: Array) -> list[Array]:
    parameter, first, second = floats + 1, floats * 0, floats * 0
    libbnb.optimizer_update_32bit(
        "adam", floats, parameter, first, beta1=0.9, eps=1e-8, step=1, lr=0.1, state2=second, beta2=0.999
    )
    return [parameter, first, second]


def _product(floats: Array) -> list[Array]:
    return [libbnb.matmul_4bit(floats, *libbnb.quantize_nf4(floats))]


_TESTS: dict[str, Test] = {
    "nf4": lambda floats: _four_bit(floats, "nf4"),
    "fp4": lambda floats: _four_bit(floats, "fp4"),
    "nf4 with double quantization": _nested,
    "blockwise 8-bit": _blockwise,
    "int8": _int8,
    "fp8": _fp8,
    "mxfp4": _mx,
    "ternary": _ternary,
    "int8 as integers": _int8_product,
    "step of Adam": _adam,
    "product nf4": _product,
}


@dataclass(frozen=True)
class Difference:
    """What is not as on the CPU: the operation, how, and whether it is wrong or just not there."""

    operation: str
    how: str
    is_error: bool = True


def differences(device: Device) -> list[Difference]:
    """Compares a device with the CPU. Nothing, if all is right.

    Quantized values have to be the same bits, products the same up to the order of sums.
    """
    floats = np.random.default_rng(7).standard_normal(_SHAPE, np.float32)
    host = Host()
    found: list[Difference] = []
    for name, test in _TESTS.items():
        expected = [host.host(array) for array in test(floats)]
        try:
            how = _difference(name, expected, [device.host(array) for array in test(device.array(floats))])
        except libbnb.Unsupported as error:
            found.append(Difference(name, f"not there: {error}", is_error=False))
        except (libbnb.Error, RuntimeError, TypeError) as error:  # PyTorch's are the other ones
            found.append(Difference(name, str(error)))
        else:
            found += [Difference(name, how)] if how else []
    return found


def _difference(name: str, expected: list[Array], found: list[Array]) -> str:
    pairs = list(zip(expected, found, strict=True))
    if name.startswith("product"):
        errors = [float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in pairs]
        return "" if max(errors) < _PRODUCT_ERROR else f"relative error {max(errors):.2g}"
    count = sum(int((a.ravel().view(np.uint8) != b.ravel().view(np.uint8)).sum()) for a, b in pairs)
    return f"{count} bytes differ" if count else ""
