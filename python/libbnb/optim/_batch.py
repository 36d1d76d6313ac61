# SPDX-License-Identifier: MIT
"""Parameters that one call of the C library updates, described once and looked over before each step.

Looking over costs one C function per tensor and property: data pointers, sizes and dtypes are compared with those
that the descriptors were made of. Where anything but a pointer to a gradient has changed, the batch is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter, is_, methodcaller
from typing import Any, cast

import torch

from libbnb import _lists
from libbnb._errors import InvalidArgument
from libbnb._views import BufferView, View, vector_of
from libbnb.arrays import ArrayKind, kind_of, stream_of
from libbnb.arrays.torch_kind import TorchKind
from libbnb.optim import _sharded, _states

BLOCKSIZE = 256
_LEGACY_BLOCKSIZE = 2048  # of bitsandbytes before 0.44

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_PAGED = ("state1", "state2")
TWO_STATES = ("adam", "adamw", "lamb", "ademamix")

_pointer: Callable[[torch.Tensor], int] = torch.Tensor.data_ptr
_numel: Callable[[torch.Tensor], int] = torch.Tensor.numel
_is_contiguous: Callable[[torch.Tensor], bool] = torch.Tensor.is_contiguous
_is_neg: Callable[[torch.Tensor], bool] = torch.Tensor.is_neg
_dtype = attrgetter("dtype")
_layout = attrgetter("layout")

State = dict[str, Any]


def averages_of(optimizer_name: str) -> int:
    """How many averages state1 holds."""
    return 2 if optimizer_name == "ademamix" else 1


def blocks(n: int, blocksize: int = BLOCKSIZE) -> int:
    """Number of blocks of n elements."""
    return -(-n // blocksize)


def blocksize_of(optimizer_name: str, p: torch.Tensor, state: State, name: str) -> int:
    """The block size of a parameter's states, 0 if they are in fp32. Everything about the states is checked.

    Raises
    ------
    InvalidArgument
        The states are none of this optimizer, or not of this parameter.
    """
    n = _sharded.local(p).numel()
    averages = averages_of(optimizer_name)
    wanted = {"state1": averages * n}
    if optimizer_name in TWO_STATES:
        wanted["state2"] = n
    for key, count in wanted.items():
        found = state.get(key)
        if not isinstance(found, torch.Tensor):
            raise InvalidArgument(f"{name}: its state has no {key}: it is of another optimizer ({sorted(state)})")
        if found.dtype not in (torch.float32, torch.uint8) or found.dtype != state["state1"].dtype:
            raise InvalidArgument(f"{name}: {key} has dtype {found.dtype}, must be float32 or uint8, like state1")
        here = _sharded.local(found)
        if here.numel() != count or not here.is_contiguous():
            raise InvalidArgument(f"{name}: {key} has shape {tuple(here.shape)}, must have {count} elements in rows")
    if state["state1"].dtype == torch.float32:
        return 0
    return _check_scales(wanted, averages, n, p, state, name)


def _check_scales(wanted: dict[str, int], averages: int, n: int, p: torch.Tensor, state: State, name: str) -> int:
    sizes: set[int] = set()
    for key in wanted:
        i = key[-1]
        absmax, qmap = state.get("absmax" + i), state.get("qmap" + i)
        if not isinstance(absmax, torch.Tensor) or not isinstance(qmap, torch.Tensor):
            raise InvalidArgument(f"{name}: its 8-bit state has no absmax{i} and qmap{i}: it is not blockwise")
        factor = averages if key == "state1" else 1
        scales = _sharded.local(absmax)
        fits = [b for b in (BLOCKSIZE, _LEGACY_BLOCKSIZE) if scales.numel() == factor * blocks(n, b)]
        if _sharded.is_sharded(absmax) and scales.numel() >= factor * blocks(n):
            fits = [BLOCKSIZE]
        for tensor, key_ in ((scales, "absmax" + i), (qmap, "qmap" + i)):
            if tensor.dtype != torch.float32 or not tensor.is_contiguous():
                raise InvalidArgument(f"{name}: {key_} is {tensor.dtype}, must be float32 in one piece")
        if not fits or qmap.numel() != 256:
            raise InvalidArgument(
                f"{name}: absmax{i} and qmap{i} have {scales.numel()} and {qmap.numel()} elements, must have "
                f"{factor * blocks(n)} and 256"
            )
        sizes.add(fits[0])
    if len(sizes) != 1:
        raise InvalidArgument(f"{name}: absmax1 and absmax2 are of different block sizes")
    return sizes.pop()


def check_parameter(p: Any, g: Any, name: str) -> None:
    """Whether a parameter and its gradient are of a sort that a step can work on."""
    for role, tensor in (("", p), (".grad", g)):
        if tensor.layout is not torch.strided:
            raise InvalidArgument(f"{name}{role} is {tensor.layout}, must be dense")
        if tensor.dtype not in _FLOATS:
            raise InvalidArgument(f"{name}{role} has dtype {tensor.dtype}, must be float32, float16 or bfloat16")
    if g.device != p.device:
        raise InvalidArgument(f"{name}.grad is on {g.device}, the parameter on {p.device}")
    if g.shape != p.shape:
        raise InvalidArgument(f"{name}.grad has shape {tuple(g.shape)}, the parameter {tuple(p.shape)}")


class Batch:
    """Parameters of one group, device and kind of state."""

    def __init__(
        self,
        optimizer_name: str,
        places: Sequence[tuple[int, int]],
        params: Sequence[torch.Tensor],
        grads: Sequence[torch.Tensor],
        states: Sequence[State],
        blocksize: int,
    ) -> None:
        self.optimizer_name = optimizer_name
        self.places = places  # (group, index) of each parameter
        self.params = list(params)
        self.states = list(states)
        self.blocksize = blocksize
        self.sharded = any(_sharded.is_sharded(p) for p in params)
        here = self._local(params)
        self.kind: ArrayKind = kind_of(here[0], "p")
        self.entries = _lists.OptimizerEntries(len(params))
        self.paged = any(_states.is_paged(state[name]) for state in states for name in _PAGED if name in state)
        self._like = here[0]
        self._gradients_now: list[torch.Tensor] = []  # compact, local
        self._handles = isinstance(self._view(here[0], "p"), BufferView)
        place = cast(TorchKind, self.kind).place if self._handles else _pointer
        self._place: Callable[[torch.Tensor], _lists.Place] = place

        self._p_facts = self._facts(here)
        self.entries.write("p", [self._view(p.detach().contiguous(), "p") for p in here])
        self.state_tensors: dict[str, list[torch.Tensor]] = {}
        self._state_places: dict[str, list[_lists.Place]] = {}
        self._describe_states()
        gradients = self._gradients(grads)
        self._g_facts = self._sorts(gradients)
        self._gradients_now = self._compact(gradients)
        self.entries.write("g", [self._view(g, "grad") for g in self._gradients_now])

    # -- describing ------------------------------------------------------------------------------------------------

    def _local(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [_sharded.local(t) for t in tensors] if self.sharded else list(tensors)

    def _gradients(self, grads: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if not self.sharded:
            return list(grads)
        return [_sharded.local_gradient(p, g) for p, g in zip(self.params, grads, strict=True)]

    def _view(self, tensor: torch.Tensor, name: str) -> View:
        return self.kind.read(tensor.detach(), name)[1]

    def _describe_states(self) -> None:
        names = ["state1"] + ["state2"] * (self.optimizer_name in TWO_STATES)
        if self.blocksize:
            names += [prefix + name[-1] for name in names for prefix in ("absmax", "qmap")]
        if "unorm_vec" in self.states[0]:
            names.append("unorm_vec")
        device = self._view(self._like, "p")[5]
        averages = averages_of(self.optimizer_name)
        for name in names:
            column = [state[name] for state in self.states]
            here = self._local(column)
            views: list[View] = []
            for tensor, p in zip(here, self._local(self.params), strict=True):
                view = self._view(tensor, name)
                n = view[0]
                if name.startswith("absmax"):  # those of shards are padded
                    n = (averages if name == "absmax1" else 1) * blocks(p.numel(), self.blocksize)
                views.append(vector_of(view, n, device, view[6]))
            self.entries.write(name, views)
            self.state_tensors[name] = column
            self._state_places[name] = list(map(self._place, here))

    def _facts(self, tensors: Sequence[torch.Tensor]) -> tuple[list[Any], ...]:
        return tuple(list(map(f, tensors)) for f in (self._place, _numel, _dtype, _is_contiguous))

    @staticmethod
    def _sorts(tensors: Sequence[torch.Tensor]) -> tuple[list[Any], ...]:
        return tuple(list(map(f, tensors)) for f in (_numel, _dtype, _layout))

    @staticmethod
    def _compact(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
        if all(map(_is_contiguous, gradients)) and not any(map(_is_neg, gradients)):
            return gradients
        return [g.contiguous().resolve_neg() for g in gradients]

    # -- each step -------------------------------------------------------------------------------------------------

    def refresh(self, grads: Sequence[torch.Tensor], states_of: Callable[[torch.Tensor], Any]) -> bool:
        """Points the descriptors to new gradients. False if more than that has changed."""
        if not all(map(is_, map(states_of, self.params), self.states)):
            return False
        for name, column in self.state_tensors.items():
            if not all(map(is_, map(methodcaller("get", name), self.states), column)):
                return False
            if list(map(self._place, self._local(column))) != self._state_places[name]:
                return False
        if self._facts(self._local(self.params)) != self._p_facts:
            return False
        gradients = self._gradients(grads)
        if self._sorts(gradients) != self._g_facts:
            return False
        self._gradients_now = self._compact(gradients)
        self.entries.move("g", list(map(self._place, self._gradients_now)))
        return True

    def gradients(self) -> list[torch.Tensor]:
        """The gradients of this step, as the C library sees them. Empty after `release`."""
        return self._gradients_now

    def written(self) -> list[torch.Tensor]:
        """The tensors that a step writes, those here of sharded ones."""
        columns = [column for name, column in self.state_tensors.items() if not name.startswith("qmap")]
        return self._local([*self.params, *(t for column in columns for t in column)])

    def release(self) -> None:
        """Lets go of the gradients, which must not live longer because of this."""
        self._gradients_now = []

    def prefetch(self) -> None:
        """Starts to fetch states that are pages."""
        for name in _PAGED if self.paged else ():
            for p, state in zip(self.params, self.state_tensors.get(name, ()), strict=False):
                _states.prefetch(p, state)

    def steps(self) -> list[int]:
        """Number of the next step of each parameter."""
        return [state["step"] + 1 for state in self.states]

    def count_step(self) -> None:
        """Remembers that a step was done."""
        for state in self.states:
            state["step"] += 1

    def run(self, config: _lists.OptimizerConfig) -> None:
        """One step of all parameters."""
        places, _, _, compact = self._p_facts
        copies: dict[int, torch.Tensor] = {}
        if not all(compact):  # one more pass each way: states are in the order of elements, not of memory
            here = self._local(self.params)
            copies = {i: here[i].detach().contiguous() for i, fits in enumerate(compact) if not fits}
            moved = [self._place(copies[i]) if i in copies else place for i, place in enumerate(places)]
            self.entries.move("p", moved)
        self.entries.steps[:] = self.steps()
        arrays = self._arrays(copies) if self._handles else ()
        _lists.update(config, self.entries, self.blocksize, self.stream(), arrays)
        for i, copy in copies.items():
            _sharded.local(self.params[i]).detach().copy_(copy)

    def _arrays(self, copies: dict[int, torch.Tensor]) -> list[torch.Tensor]:
        """All tensors of a step."""
        params = [copies.get(i, p) for i, p in enumerate(self._local(self.params))]
        states = [t for column in self.state_tensors.values() for t in self._local(column)]
        return [*self._gradients_now, *params, *states]

    def stream(self) -> Any:
        """The queue on which the parameters' work runs."""
        return stream_of(self.kind, self._like, self._view(self._like, "p"))
