# SPDX-License-Identifier: MIT
"""Optimizer steps on arrays of any library, in place; and norms of gradients. The formulas are in
docs/optimizers.md."""

from __future__ import annotations

from typing import Any

from libbnb import _lists
from libbnb._errors import InvalidArgument
from libbnb._views import View, arrays_of
from libbnb.arrays import Array, ArrayKind, kind_of, stream_of
from libbnb.functional._checks import block_length

__all__ = ["gradient_norm", "optimizer_update_8bit_blockwise", "optimizer_update_32bit"]

OPTIMIZER_BLOCKSIZE = 256  # of 8-bit states, in bitsandbytes' checkpoints


def _in_place(kind: ArrayKind, array: Array, name: str) -> View:
    # A step is no part of a graph, so that p may require grad.
    detached = array.detach() if kind.name == "PyTorch" and hasattr(array, "detach") else array
    return kind.write(detached, name)


def _update(
    optimizer_name: str,
    g: Array,
    written: dict[str, Array | None],
    read: dict[str, Array | None],
    numbers: dict[str, Any],
    step: int,
    skip_zeros: bool,
    nonfinite: str,
    found_inf: Array | None,
    blocksize: int,
    param_norm: float = 0.0,
) -> None:
    optimizer = _lists.optimizer_number(optimizer_name)
    mode = _lists.nonfinite_number(nonfinite)
    kind = kind_of(g, "g")
    g, view = kind.read(g, "g")
    kept: list[Array] = []
    entries = _lists.OptimizerEntries(1)
    views = {"g": view}
    for name, array in written.items():
        if array is not None:
            views[name] = _in_place(kind, array, name)
    for name, array in read.items():
        if array is not None:
            array, views[name] = kind.read(array, name)
            kept.append(array)  # it may be a copy, which must live as long as the call
    for name, place in views.items():
        entries.write(name, [place])
    entries.steps[0] = block_length(step, "step")
    entries.param_norms[0] = param_norm
    found = None if found_inf is None else _in_place(kind, found_inf, "found_inf")
    config = _lists.OptimizerConfig(optimizer, numbers, bool(skip_zeros), mode, None, found)
    _lists.update(config, entries, blocksize, stream_of(kind, g, view), arrays_of(views.values()))


def optimizer_update_32bit(
    optimizer_name: str,
    g: Array,
    p: Array,
    state1: Array,
    beta1: float,
    eps: float,
    step: int,
    lr: float,
    state2: Array | None = None,
    beta2: float = 0.0,
    beta3: float = 0.0,
    alpha: float = 0.0,
    weight_decay: float = 0.0,
    gnorm_scale: float = 1.0,
    unorm_vec: Array | None = None,
    max_unorm: float = 0.0,
    skip_zeros: bool = False,
    *,
    nonfinite: str = "propagate",
    found_inf: Array | None = None,
    param_norm: float = 0.0,
) -> None:
    """One step of an optimizer with states in fp32. `p` and the states are updated in place.

    Parameters
    ----------
    optimizer_name
        "adam" (or "adamw": decay is decoupled in either; arXiv:1711.05101), "lamb" (arXiv:1904.00962), "ademamix"
        (arXiv:2409.03137), "lion" (arXiv:2302.06675), "momentum" (or "sgd"), "lars" (arXiv:1708.03888), "rmsprop",
        "adagrad".
    g
        Gradient: float32, float16 or bfloat16, n elements.
    p
        Parameter: float32, float16 or bfloat16, n elements.
    state1
        float32, n elements ("ademamix": 2 n, the fast average first). Zeros before the first step.
    beta1, beta2, beta3
        Decay rates in [0, 1). "lion" uses beta1 for the direction and beta2 for the state; "rmsprop" and "momentum" use
        beta1 only, "adagrad" none.
    eps
        Added to the square root of the second moment; at least 0.
    step
        Number of this step, from 1.
    lr
        Learning rate, at least 0.
    state2
        Second moments of "adam", "lamb" and "ademamix": float32, n elements.
    alpha
        Weight of the slow average of "ademamix".
    weight_decay
        At least 0. Decoupled for "adam", "lamb", "ademamix" and "lion", else added to the gradient.
    gnorm_scale
        What gradients are multiplied by first.
    unorm_vec
        float32, one element: becomes the norm of the update if `max_unorm` is above 0.
    max_unorm
        If above 0, the update is scaled down to a norm of ``max_unorm * norm(p)``.
    skip_zeros
        Whether elements with a gradient of 0 keep states and parameter.
    nonfinite
        What happens where a gradient is NaN or infinite: "propagate"; "skip_element", which keeps states and parameter
        of that element; "skip_step", which keeps all of them and needs `found_inf`.
    found_inf
        float32, one element: becomes 1 if a gradient is NaN or infinite, else stays what it was. With "skip_step",
        nothing is done if it is not 0 before.
    param_norm
        The norm of p for `max_unorm`, where it is known; 0: it is measured.

    Raises
    ------
    InvalidArgument
        An argument has a wrong dtype, size, place or value. Nothing was written.
    TypeError
        Something is no array, or not of the library of g.
    """
    numbers = {
        "lr": lr, "beta1": beta1, "beta2": beta2, "beta3": beta3, "alpha": alpha, "eps": eps,
        "weight_decay": weight_decay, "gnorm_scale": gnorm_scale, "max_unorm": max_unorm,
    }  # fmt: skip
    written = {"p": p, "state1": state1, "state2": state2, "unorm_vec": unorm_vec}
    _update(optimizer_name, g, written, {}, numbers, step, skip_zeros, nonfinite, found_inf, 0, param_norm)


def optimizer_update_8bit_blockwise(
    optimizer_name: str,
    g: Array,
    p: Array,
    state1: Array,
    state2: Array | None,
    beta1: float,
    beta2: float,
    beta3: float,
    alpha: float,
    eps: float,
    step: int,
    lr: float,
    qmap1: Array,
    qmap2: Array | None,
    absmax1: Array,
    absmax2: Array | None,
    weight_decay: float = 0.0,
    gnorm_scale: float = 1.0,
    skip_zeros: bool = False,
    *,
    max_unorm: float = 0.0,
    unorm_vec: Array | None = None,
    nonfinite: str = "propagate",
    found_inf: Array | None = None,
    blocksize: int = OPTIMIZER_BLOCKSIZE,
) -> None:
    """One step of an optimizer with states in 8 bits, blockwise (arXiv:2110.02861), in place.

    States are dequantized, updated as by `optimizer_update_32bit` in fp32, and quantized to the nearest codes with new
    scales. Arguments that are not listed here are those of `optimizer_update_32bit`.

    Parameters
    ----------
    state1, state2
        uint8, n elements ("ademamix": 2 n for `state1`). Zeros before the first step, like their scales.
    qmap1, qmap2
        What codes stand for: float32, 256 values, ascending. The signed dynamic map (`create_dynamic_map`) for
        averages of gradients, the unsigned one for second moments: `state2`, and `state1` of "rmsprop" and "adagrad".
    absmax1, absmax2
        Scales: float32, nb = ceil(n / blocksize) elements ("ademamix": 2 nb for `absmax1`).
    blocksize
        Elements per scale, 1 or more.

    Raises
    ------
    InvalidArgument
        An argument has a wrong dtype, size, place or value. Nothing was written.
    TypeError
        Something is no array, or not of the library of g.
    """
    numbers = {
        "lr": lr, "beta1": beta1, "beta2": beta2, "beta3": beta3, "alpha": alpha, "eps": eps,
        "weight_decay": weight_decay, "gnorm_scale": gnorm_scale, "max_unorm": max_unorm,
    }  # fmt: skip
    written = {
        "p": p, "state1": state1, "state2": state2, "absmax1": absmax1, "absmax2": absmax2, "unorm_vec": unorm_vec,
    }  # fmt: skip
    read = {"qmap1": qmap1, "qmap2": qmap2}
    size = block_length(blocksize)
    _update(optimizer_name, g, written, read, numbers, step, skip_zeros, nonfinite, found_inf, size)


def gradient_norm(tensors: Any, norms: Array | None = None, found_inf: Array | None = None) -> Array:
    """Euclidean norm of all elements of a list of arrays, in one read, summed in float64.

    Parameters
    ----------
    tensors
        An array, or several of one library on one device: float32, float16 or bfloat16, any shapes.
    norms
        Where the norm of each array goes, if wanted: float32 or float64, one element per array.
    found_inf
        float32, one element: becomes 1 if any element is NaN or infinite, else stays what it was.

    Returns
    -------
    array
        float32, shape (), of the kind and on the device of the arrays. ``min(1, limit / norm)`` is a clipping factor
        that optimizer steps take as `gnorm_scale`, without another pass over the gradients.

    Raises
    ------
    InvalidArgument
        There is no array, or one has a wrong dtype or place.
    TypeError
        Something is no array, or they are of different libraries.
    """
    one_array = hasattr(tensors, "shape")
    listed: list[Array] = [tensors] if one_array else list(tensors)
    if not listed:
        raise InvalidArgument("gradient_norm: tensors is empty")
    kind = kind_of(listed[0], "tensors[0]")
    kept: list[Array] = []
    views: list[View] = []
    for i, array in enumerate(listed):
        array, view = kind.read(array, f"tensors[{i}]")
        kept.append(array)
        views.append(view)
    each = None if norms is None else kind.write(norms, "norms")
    found = None if found_inf is None else kind.write(found_inf, "found_inf")
    total, t = kind.fresh((), kind.float32, kept[0])
    _lists.measure_norms(views, each, t, found, stream_of(kind, kept[0], views[0]))
    return total
