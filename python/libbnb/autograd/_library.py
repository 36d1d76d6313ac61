# SPDX-License-Identifier: MIT
"""How an operator of the namespace `libbnb` becomes known to PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from libbnb._errors import InvalidArgument
from libbnb.arrays import ArrayKind, kind_of

NAMESPACE = "libbnb"
_library: Any = torch.library  # parts of it have no types
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def define(signature: str, kernel: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Defines an operator: its schema, its kernel for all devices, and what it returns for tensors without memory.

    Kernels call functions of `libbnb` that do not come back to operators and see themselves where their tensors are.
    """
    name = f"{NAMESPACE}::{signature.partition('(')[0]}"
    _library.define(name, signature[signature.index("(") :])
    _library.register_kernel(name, None, kernel)  # torch.compile does not look into it, unlike with impl()
    _library.register_fake(name, fake)


def define_gradients(
    name: str, kernel: Callable[..., Any], keep: Callable[..., None], gradients: Callable[..., Any]
) -> Callable[..., Any]:
    """Gives an operator its gradients: what is kept of the call, and the gradient of each argument.

    What is returned takes all arguments and calls the kernel with these gradients, for where nobody traces: the
    operator would take 70 us there for a small product, this 25 (torch 2.13; it has no setup_context because that alone
    takes 40).
    """
    _library.register_autograd(f"{NAMESPACE}::{name}", gradients, setup_context=keep)

    def forward(ctx: Any, *arguments: Any) -> Any:
        output = kernel(*arguments)
        keep(ctx, arguments, output)
        return output

    members = {"forward": staticmethod(forward), "backward": staticmethod(gradients)}
    function: Any = type(name, (torch.autograd.Function,), members)
    return function.apply


def eager(*arrays: torch.Tensor | None) -> bool:
    """Whether nothing but gradients can be wanted of a call: no tracing, no transforms, no subclasses."""
    if torch.compiler.is_compiling():
        return False
    with torch.no_grad():
        return not any(array is not None and kind_of(array, "A").wants_operator(array) for array in arrays)


def unknown_length() -> Any:
    """A length that depends on values: what a fake kernel returns in its place."""
    return _library.get_ctx().new_dynamic_size()


def wants(ctx: Any, index: int) -> bool:
    """Whether the gradient of an argument is wanted. PyTorch leaves out trailing arguments that have their defaults."""
    return index < len(ctx.needs_input_grad) and ctx.needs_input_grad[index]


def torch_kind(like: torch.Tensor) -> ArrayKind:
    """The array kind of PyTorch."""
    return kind_of(like, "A")


def require(condition: bool, message: Callable[[], str]) -> None:
    """Raises InvalidArgument unless a condition holds; torch.compile may assume it from here on."""
    if not condition:
        raise InvalidArgument(message())


def require_float(tensor: torch.Tensor, name: str) -> None:
    """A tensor of a dtype that activations may have."""
    require(tensor.dtype in FLOATS, lambda: f"{name} is {tensor.dtype}, must be float32, float16 or bfloat16")


def require_dtype(tensor: torch.Tensor, dtype: torch.dtype, name: str) -> None:
    """A tensor of one dtype."""
    require(tensor.dtype == dtype, lambda: f"{name} is {tensor.dtype}, must be {dtype}")


def require_bias(bias: torch.Tensor | None, count: int) -> None:
    """A bias with an element for each output."""
    if bias is not None:
        require_float(bias, "bias")
        require(bias.numel() == count, lambda: f"bias has {bias.numel()} elements, must have {count}")


def require_factors(A: torch.Tensor, shape: Any, b_name: str = "B") -> None:
    """Factors of A @ B^T whose rows are equally long."""
    require(len(shape) == 2, lambda: f"{b_name} has shape {list(shape)}, must be [N, K]")
    require(A.dim() > 0, lambda: "A has no dimensions, must have at least 1")
    require(
        A.shape[-1] == shape[1],
        lambda: (
            f"A has shape {list(A.shape)} and {b_name} {list(shape)}: rows of {A.shape[-1]} and of {shape[1]} elements "
            f"have no product"
        ),
    )


def require_out(out: torch.Tensor, shape: Any, dtype: torch.dtype) -> None:
    """An output as large as the result."""
    require(tuple(out.shape) == tuple(shape), lambda: f"out has shape {list(out.shape)}, must have {list(shape)}")
    require(out.dtype == dtype, lambda: f"out is {out.dtype}, must be {dtype}")
