# SPDX-License-Identifier: MIT
"""Which process does which steps of a plan.

A weight file belongs to one machine: two machines that write parts of one page of a file can lose bytes on a network
file system. On a machine its tensors are shared out, because there the processes see the same pages. Everybody gets
what lies together in the source, and about the same number of bytes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def split(steps: dict[int, int], file_of: dict[int, str], machines: Sequence[Hashable]) -> list[list[int]]:
    """Share out steps.

    Parameters
    ----------
    steps : dict
        The bytes that each step reads, by its number, in the order of the source.
    file_of : dict
        The name of the file that the step writes to.
    machines : sequence
        For each process, what it has in common with the others on its machine.

    Returns
    -------
    list of list of int
        For each process the numbers of its steps, in their order.
    """
    files: dict[str, int] = {}
    for number, nbytes in steps.items():
        files[file_of[number]] = files.get(file_of[number], 0) + nbytes
    # Processes of one machine stand side by side.
    ranks = sorted(range(len(machines)), key=lambda rank: machines.index(machines[rank]))
    places = _places(list(files.values()), len(ranks))
    machine_of = {name: machines[ranks[place]] for name, place in zip(files, places, strict=True)}
    parts: list[list[int]] = [[] for _ in machines]
    for machine in dict.fromkeys(machines):
        here = [rank for rank in ranks if machines[rank] == machine]
        numbers = [number for number in steps if machine_of[file_of[number]] == machine]
        for number, place in zip(numbers, _places([steps[number] for number in numbers], len(here)), strict=True):
            parts[here[place]].append(number)
    return parts


def _places(weights: list[int], parts: int) -> list[int]:
    """The part of the whole in which the middle of each weight lies, when they are laid end to end."""
    total = max(1, sum(weights))
    places: list[int] = []
    begin = 0
    for weight in weights:
        middle = max(0, 2 * begin + weight - 1)  # in half bytes; one that lies between two parts belongs to the first
        places.append(min(parts - 1, middle * parts // (2 * total)))
        begin += weight
    return places
