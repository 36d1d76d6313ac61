# SPDX-License-Identifier: MIT
"""Sharing out the steps of a plan: all of them, once, whole files on a machine, about the same number of bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libbnb.checkpoint.split import split

SIZES = st.lists(st.integers(0, 1000), max_size=30)


@given(SIZES, st.integers(1, 6), st.integers(1, 9))
def test_one_machine(sizes: list[int], files: int, processes: int) -> None:
    """Everybody gets what lies together; nobody more than an equal share and one step."""
    steps = dict(enumerate(sizes))
    parts = split(steps, {number: str(number % files) for number in steps}, ["here"] * processes)
    assert [number for part in parts for number in part] == list(steps)
    for part in parts:
        assert sum(steps[number] for number in part) <= sum(sizes) / processes + max(sizes, default=0)


@given(SIZES, st.integers(1, 12), st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
def test_machines(sizes: list[int], per_file: int, machines: list[str]) -> None:
    """A file is written by one machine, wherever its processes stand in the list."""
    steps = dict(enumerate(sizes))
    file_of = {number: str(number // per_file) for number in steps}
    parts = split(steps, file_of, machines)
    assert sorted(number for part in parts for number in part) == list(steps)
    for file in set(file_of.values()):
        writers = {machines[rank] for rank, part in enumerate(parts) for number in part if file_of[number] == file}
        assert len(writers) == 1


def test_examples() -> None:
    assert split({0: 5, 1: 5, 2: 5, 3: 5}, dict.fromkeys(range(4), "a"), [0, 0]) == [[0, 1], [2, 3]]
    assert split({0: 5, 1: 5, 2: 5, 3: 5}, {0: "a", 1: "a", 2: "a", 3: "b"}, [0, 1]) == [[0, 1, 2], [3]]
    assert split({7: 9, 8: 9}, {7: "a", 8: "a"}, [0, 1, 1]) == [[], [7], [8]]
    assert split({0: 9, 1: 9}, {0: "a", 1: "a"}, [0, 1]) == [[0, 1], []], "one file: one machine, the first"
    assert split({0: 4, 1: 4, 2: 4, 3: 4}, {0: "a", 1: "a", 2: "b", 3: "b"}, [0, 1, 0, 1]) == [[0], [2], [1], [3]]
    assert split({}, {}, [0, 0, 1]) == [[], [], []]
