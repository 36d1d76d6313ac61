# SPDX-License-Identifier: MIT
"""What products with quantized weights have in common: factors, results and their shapes."""

from __future__ import annotations

from typing import Any

from libbnb._errors import InvalidArgument
from libbnb._views import View
from libbnb.arrays import Array, ArrayKind, as_matrix


def shape_text(shape: Any) -> str:
    """A shape as error messages show it."""
    return str(list(shape))


def shapes_differ(a: Any, b: Any, why: str) -> InvalidArgument:
    """The error of a product whose factors do not fit."""
    return InvalidArgument(f"A has shape {shape_text(a)} and B {shape_text(b)}: {why}")


def read_matrix(kind: ArrayKind, array: Array, name: str, strided: bool) -> tuple[Array, View]:
    """An input of two dimensions, with rows that may be apart if it is `strided`."""
    if strided:
        array, view = kind.read_rows(array, name)
    else:
        array, view = kind.read(array, name)
    shape = array.shape
    if len(shape) != 2:
        raise InvalidArgument(f"{name} has shape {shape_text(shape)}, must have 2 dimensions")
    return array, view if strided else as_matrix(view, shape[0], shape[1])


def read_factors(
    kind: ArrayKind, A: Array, B: Array, names: tuple[str, str] = ("A", "B"), strided: bool = True
) -> tuple[Array, View, Array, View]:
    """The factors of A @ B^T: rows along the last axis of A, and a matrix B with rows of the same length.

    Rows may be apart, those of B only if it is `strided`.
    """
    a_name, b_name = names
    left, a = kind.read_rows(A, a_name)
    right, b = read_matrix(kind, B, b_name, strided)
    if a[1] != b[1]:
        raise InvalidArgument(
            f"{a_name} has shape {shape_text(left.shape)} and {b_name} {shape_text(right.shape)}: "
            f"rows of {a[1]} and of {b[1]} elements have no product"
        )
    return left, a, right, b


def result(kind: ArrayKind, out: Array | None, like: Array, rows: int, cols: int, dtype: Any) -> tuple[Array, View]:
    """The result of a product with the leading axes of `like`: a new array, or the caller's, as a matrix."""
    lead = like.shape
    shape = (rows, cols) if len(lead) == 2 else (*lead[:-1], cols)
    if out is None:
        out, view = kind.fresh(shape, dtype, like)
        return out, as_matrix(view, rows, cols)
    return out, write_matrix(kind, out, shape, rows, cols)


def write_matrix(kind: ArrayKind, out: Array, shape: tuple[int, ...], rows: int, cols: int) -> View:
    """An output of the caller as a matrix; it must have the shape of the result."""
    view = kind.write(out, "out")
    given = getattr(out, "shape", None)  # an object that only shows its memory has none
    if (given is not None and tuple(given) != shape) or view[0] != rows * cols:
        text = f"{view[0]} elements" if given is None else f"shape {shape_text(given)}"
        raise InvalidArgument(f"out has {text}, must have shape {shape_text(shape)}")
    return as_matrix(view, rows, cols)


def read_optional(kind: ArrayKind, array: Array | None, name: str) -> tuple[Array | None, View | None]:
    """An input that may be absent."""
    if array is None:
        return None, None
    return kind.read(array, name)
