# SPDX-License-Identifier: MIT
"""Choosing a format for each layer so that all of them fit into a budget and the model changes least.

Each layer has a few options, each with a size and a cost, and costs are taken to add up. That is a multiple-choice
knapsack problem. Only options on the lower convex hull of a layer's (size, cost) points are looked at; from the
smallest of each layer on, the step that avoids most cost per byte comes next. That order is the one of the problem's
linear relaxation: where the budget is used up exactly nothing is better, and elsewhere less than one step is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from libbnb.checkpoint.errors import CheckpointError

_WORST = 1e6  # nats: what breaks the model costs more than all that does not


@dataclass(frozen=True)
class Budget:
    """How large the result may be: one of the two.

    Attributes
    ----------
    bits : float or None
        Bits for an element of the layers that are chosen from, on average, scales included.
    nbytes : int or None
        Bytes of all tensors of the model.
    """

    bits: float | None = None
    nbytes: int | None = None

    def limit(self, elements: int, other_bytes: int) -> int:
        """Bytes for the layers: they have so many elements, everything else has so many bytes."""
        if self.bits is not None:
            return math.floor(self.bits * elements / 8)
        assert self.nbytes is not None
        return self.nbytes - other_bytes

    def __str__(self) -> str:
        return f"{self.bits:g} bits per weight" if self.bits is not None else f"{self.nbytes} bytes"


@dataclass(frozen=True)
class Option:
    """What a layer may become.

    Attributes
    ----------
    label : str
        A format, or what says that the layer stays as it is.
    nbytes : int
        Size of the layer then.
    cost : float
        How much that changes the model, 0 or more.
    """

    label: str
    nbytes: int
    cost: float


@dataclass(frozen=True)
class Allocation:
    """A choice for every layer.

    Attributes
    ----------
    labels : dict
        The label of each layer's option.
    nbytes, cost
        Sums over the layers.
    path : list of (int, float)
        Sizes and costs on the way: from the smallest options of all layers to the best of all, whatever the limit.
    """

    labels: dict[str, str]
    nbytes: int
    cost: float
    path: list[tuple[int, float]] = field(default_factory=lambda: list[tuple[int, float]]())


def allocate(options: dict[str, list[Option]], limit: float) -> Allocation:
    """Choose an option for each layer, with little cost in at most `limit` bytes.

    Parameters
    ----------
    options
        By layer; at least one for each.
    limit
        Bytes for all layers; infinite for the best of each.

    Returns
    -------
    Allocation
        What was chosen.

    Raises
    ------
    CheckpointError
        Even the smallest options do not fit.
    """
    hulls = {name: _hull([_finite(option) for option in given]) for name, given in options.items()}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    nbytes = sum(option.nbytes for option in chosen.values())
    if nbytes > limit:
        raise CheckpointError(f"the layers have {nbytes} bytes in their smallest form, the budget leaves {limit:.0f}")
    path = [(nbytes, _cost(chosen))]
    everything = dict(chosen)
    for name, position in _steps(hulls):
        step = hulls[name][position]
        everything[name] = step
        path.append((sum(option.nbytes for option in everything.values()), _cost(everything)))
        # A step that does not fit is passed over: a cheaper one behind it may.
        previous = hulls[name][position - 1]
        if chosen[name] is previous and nbytes + step.nbytes - previous.nbytes <= limit:
            nbytes += step.nbytes - previous.nbytes
            chosen[name] = step
    return Allocation({name: option.label for name, option in chosen.items()}, nbytes, _cost(chosen), path)


def _finite(option: Option) -> Option:
    return option if option.cost <= _WORST else Option(option.label, option.nbytes, _WORST)


def _cost(chosen: dict[str, Option]) -> float:
    return math.fsum(option.cost for option in chosen.values())


def _steps(hulls: dict[str, list[Option]]) -> list[tuple[str, int]]:
    """All steps from one option of a layer to its next, those that avoid most cost per byte first."""
    steps = [(name, position) for name, hull in hulls.items() for position in range(1, len(hull))]
    return sorted(steps, key=lambda step: _slope(hulls[step[0]][step[1] - 1], hulls[step[0]][step[1]]))


def _slope(smaller: Option, larger: Option) -> float:
    """Cost per byte between two options: negative, because the larger one costs less."""
    return (larger.cost - smaller.cost) / (larger.nbytes - smaller.nbytes)


def _hull(options: list[Option]) -> list[Option]:
    """The options on the lower convex hull: each larger than the one before, and at a lower cost, with less effect."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda option: (option.nbytes, option.cost)):
        if hull and option.cost >= hull[-1].cost:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull
