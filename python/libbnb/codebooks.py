# SPDX-License-Identifier: MIT
"""The values that codes stand for: the maps of 8-bit blockwise quantization and the tables of the 4-bit types."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from libbnb import _native
from libbnb._errors import InvalidArgument, Unsupported
from libbnb.arrays import NUMPY, Array

__all__ = ["create_dynamic_map", "create_fp8_map", "create_linear_map", "create_normal_map", "get_4bit_type"]

Float32: TypeAlias = NDArray[np.float32]

CODE_SIZE: Final = 256

# AbnormalFloat for blocks of 64 (arXiv:2306.06965), in the descending order that bitsandbytes gives it.
_AF4 = (
    1.0, 0.72424863, 0.55496234, 0.42563882, 0.31675666, 0.21961274, 0.12934483, 0.04273164,
    0.0, -0.04934812, -0.14982478, -0.25607552, -0.3736951, -0.51243739, -0.69441008, -1.0,
)  # fmt: skip


def _padded(values: Float32) -> Float32:
    # A stable sort keeps +0 and -0 in the order they were given.
    return np.sort(np.concatenate([values, np.zeros(CODE_SIZE - len(values), np.float32)]), kind="stable")


def create_dynamic_map(signed: bool = True, max_exponent_bits: int = 7, total_bits: int = 8) -> Float32:
    """The dynamic map: a code whose exponent takes as many bits as it needs.

    A run of zero bits counts the decimal exponent, the bits behind it divide the range 0.1 to 1 evenly
    (arXiv:2110.02861, section 2.1).

    Parameters
    ----------
    signed
        Whether negative values have codes. Second moments of optimizers have none.
    max_exponent_bits
        The number of decimal exponents: the smallest one is ``10**(1 - max_exponent_bits)``.
    total_bits
        Bits of a code, sign included, 2 to 8. Fewer than 8 give fewer distinct values and more zeros.

    Returns
    -------
    numpy.ndarray
        float32, shape (256,), ascending. With the default bits the table of `bnb_create_dynamic_map`, the same on every
        host; bitsandbytes' entries vary with the host by an ulp or two.

    Raises
    ------
    InvalidArgument
        There are not so many bits.
    """
    if (max_exponent_bits, total_bits) == (7, 8):
        return np.frombuffer(_native.ffi.buffer(_native.dynamic_map(bool(signed))), np.float32).copy()
    return compute_dynamic_map(bool(signed), max_exponent_bits, total_bits)


def compute_dynamic_map(signed: bool, max_exponent_bits: int, total_bits: int) -> Float32:
    """`create_dynamic_map` by its formula, the usual bits included."""
    value_bits = total_bits - 1
    if not 2 <= total_bits <= 8 or not 1 <= max_exponent_bits <= value_bits:
        raise InvalidArgument(
            f"create_dynamic_map: total_bits is {total_bits} and max_exponent_bits {max_exponent_bits}, must be 2 to 8 "
            "and 1 to total_bits - 1"
        )
    values = [np.zeros(1, np.float32), np.ones(1, np.float32)]
    for i in range(max_exponent_bits):
        intervals = 2 ** (i + value_bits - max_exponent_bits + (0 if signed else 1))
        means = _interval_means(intervals) * np.float32(10.0 ** (i - (max_exponent_bits - 1)))
        values += [means, -means] if signed else [means]
    # Codes that no exponent uses divide the largest one a second time.
    extra = 2 ** (value_bits - max_exponent_bits) - 1 if signed else 2 ** (value_bits - max_exponent_bits + 1) - 2
    if extra > 0:
        means = _interval_means(extra)
        values += [means, -means] if signed else [means]
    return _padded(np.concatenate(values))


def _linspace(start: float, end: float, n: int) -> Float32:
    """n evenly spaced fp32 values as torch.linspace computes them on CPUs with FMA: from both ends to the middle.

    A product of an fp32 step and a small integer is exact in fp64 and so is its sum with the ends used here, which
    makes the rounding to fp32 the only one, as in an FMA.
    """
    if n == 1:
        return np.array([start], np.float32)
    step = np.float64(np.float32(np.float32(end) - np.float32(start)) / np.float32(n - 1))
    i = np.arange(n)
    first = np.float64(np.float32(start)) + step * i
    last = np.float64(np.float32(end)) - step * (n - 1 - i)
    return np.asarray(np.where(i < n // 2, first, last), np.float32)


def _interval_means(intervals: int) -> Float32:
    bounds = _linspace(0.1, 1.0, intervals + 1)
    return (bounds[:-1] + bounds[1:]) / np.float32(2)


def create_linear_map(signed: bool = True, total_bits: int = 8, add_zero: bool = True) -> Float32:
    """Evenly spaced values from -1 (or 0) to 1.

    Parameters
    ----------
    signed
        Whether the range starts at -1.
    total_bits
        Bits of a code, 2 to 8; fewer than 8 are padded with zeros.
    add_zero
        For 8 signed bits: give one value up so that zero is among the others.

    Returns
    -------
    numpy.ndarray
        float32, shape (256,), ascending. (bitsandbytes puts the padding in the middle of the values, which for fewer
        than 8 bits does not ascend.)

    Raises
    ------
    InvalidArgument
        `total_bits` is not 2 to 8.
    """
    if not 2 <= total_bits <= 8:
        raise InvalidArgument(f"create_linear_map: total_bits is {total_bits}, must be 2 to 8")
    count = 2**total_bits
    if signed and (add_zero or total_bits < 8):
        count -= 1
    return _padded(_linspace(-1.0 if signed else 0.0, 1.0, count))


def create_normal_map(offset: float = 0.9677083, use_extra_value: bool = True) -> Float32:
    """Quantiles of the normal distribution as an 8-bit code: NF4 with the default arguments.

    Parameters
    ----------
    offset
        Probability of the largest quantile, above 0.5 and below 1 (arXiv:2305.14314, appendix E).
    use_extra_value
        Eight positive values and seven negative ones; otherwise seven of each.

    Returns
    -------
    numpy.ndarray
        float32, shape (256,), ascending, largest value 1, zeros between the negative and the positive ones.

    Raises
    ------
    InvalidArgument
        `offset` is not between 0.5 and 1.
    """
    if not 0.5 < offset < 1.0:
        raise InvalidArgument(f"create_normal_map: offset is {offset}, must be between 0.5 and 1")
    quantile = NormalDist().inv_cdf
    positive = [quantile(float(p)) for p in _linspace(offset, 0.5, 9 if use_extra_value else 8)[:-1]]
    negative = [-quantile(float(p)) for p in _linspace(offset, 0.5, 8)[:-1]]
    values = _padded(np.array(positive + negative, np.float64).astype(np.float32))
    return values / values.max()


def create_fp8_map(
    signed: bool = True, exponent_bits: int = 5, precision_bits: int = 2, total_bits: int = 8
) -> Float32:
    """The values of a small floating-point format, scaled to a largest value of 1.

    An exponent field x of e bits has the bias B = 2**(e - 1); a fraction f stands for f * 2**-B where x is 0, else for
    (1 + f) * 2**(B + 1 - x). These are bitsandbytes' maps; they are neither the OCP 8-bit floats (see `quantize_fp8`)
    nor, for 4 bits, the FP4 of `quantize_4bit` (see `get_4bit_type`).

    Parameters
    ----------
    signed
        Whether one bit is a sign.
    exponent_bits, precision_bits
        Bits of the exponent (1 or more) and of the fraction.
    total_bits
        Their sum with the sign, 8 or fewer; fewer are padded with zeros.

    Returns
    -------
    numpy.ndarray
        float32, shape (256,), ascending.

    Raises
    ------
    InvalidArgument
        The bits do not add up to `total_bits`, or there are more than 8.
    """
    sum_of_bits = exponent_bits + precision_bits + (1 if signed else 0)
    if sum_of_bits != total_bits or total_bits > 8 or exponent_bits < 1 or precision_bits < 0:
        raise InvalidArgument(
            f"create_fp8_map: exponent_bits {exponent_bits}, precision_bits {precision_bits} and {int(signed)} for "
            f"the sign must add up to total_bits, which is {total_bits} and must not exceed 8"
        )
    bias = 2 ** (exponent_bits - 1)
    values: list[float] = []
    for exponent in range(2**exponent_bits):
        for k in range(2**precision_bits):
            fraction = k / 2**precision_bits
            value = fraction * 2.0**-bias if exponent == 0 else (1 + fraction) * 2.0 ** (bias + 1 - exponent)
            values += [value, -value] if signed else [value]
    table = _padded(np.array(values, np.float32))
    return table / table.max()


def table_4bit(quant_type: int) -> Float32:
    """The 16 values of FP4 or NF4, by the number that the C library gives the type: what the 16 codes decode to."""
    codes = np.array([0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF], np.uint8)
    one = np.ones(1, np.float32)
    table = np.empty(16, np.float32)
    _native.call(
        _native.lib.cdequantize_4bit,
        _native.NULL,
        NUMPY.read(codes, "A")[1],
        NUMPY.read(one, "absmax")[1],
        None,
        quant_type,
        16,
        NUMPY.write(table, "out"),
    )
    return table + np.float32(0)  # bitsandbytes' table has +0 where FP4's code 8 decodes to -0


def get_4bit_type(typename: str, device: Any = None, blocksize: int = 64) -> Array:
    """The 16 values of a 4-bit type, in the order of their codes, largest magnitude 1.

    Parameters
    ----------
    typename
        "nf4" (arXiv:2305.14314), "fp4", "int4" or "af4" (arXiv:2306.06965, blocks of 64 only). `quantize_4bit` speaks
        the first two.
    device
        None for a NumPy array, else a device of PyTorch.
    blocksize
        Elements per block; "af4" depends on it.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        float32, shape (16,).

    Raises
    ------
    Unsupported
        There is no such type, or none for this block size.
    """
    if typename in ("nf4", "fp4"):
        table = table_4bit(_native.QUANT_TYPES[typename])
    elif typename == "int4":
        table = np.array([*range(7, -1, -1), *range(0, -8, -1)], np.float32) / np.float32(7)
    elif typename == "af4" and blocksize == 64:
        table = np.array(_AF4, np.float32)
    elif typename == "af4":
        raise Unsupported(f"get_4bit_type: af4 is known for blocks of 64 only, not of {blocksize}")
    else:
        raise Unsupported(f"get_4bit_type: typename is {typename!r}, must be 'nf4', 'fp4', 'int4' or 'af4'")
    if device is None:
        return table
    import torch

    return torch.from_numpy(table).to(device)  # pyright: ignore[reportUnknownMemberType]
