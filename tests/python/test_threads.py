# SPDX-License-Identifier: MIT
"""Calls from many Python threads, from forked children, and from signal handlers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import libbnb
from libbnb import _native

X = np.random.default_rng(11).standard_normal(100_000).astype(np.float32)


def work(seed: int) -> list[Any]:
    """A bit of everything on an array of its own."""
    x = np.roll(X, seed)[: 5000 + 100 * seed]
    packed, state = libbnb.quantize_4bit(x, quant_type="nf4", compress_statistics=bool(seed % 2))
    codes, state8 = libbnb.quantize_blockwise(x, blocksize=64 + seed)
    q, stats, _ = libbnb.int8_vectorwise_quant(x.reshape(-1, 100))
    return [
        packed, state.absmax, libbnb.dequantize_4bit(packed, state), codes, libbnb.dequantize_blockwise(codes, state8),
        q, stats, *libbnb.quantize_fp8(x, blocksize=32), *libbnb.quantize_ternary(x),
    ]  # fmt: skip


def same(got: list[Any], want: list[Any]) -> bool:
    return all(np.array_equal(a.view(np.uint8), b.view(np.uint8)) for a, b in zip(got, want, strict=True))


def test_many_threads() -> None:
    want = [work(seed) for seed in range(8)]
    barrier = threading.Barrier(8)

    def run(seed: int) -> bool:
        barrier.wait()
        return all(same(work(seed), want[seed]) for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(8)))


def test_threads_that_fail_do_not_mix_their_messages() -> None:
    barrier = threading.Barrier(8)

    def run(n: int) -> bool:
        packed = libbnb.quantize_nf4(np.ones(64 * (n + 1), np.float32))[0]
        barrier.wait()
        for _ in range(200):
            try:
                libbnb.dequantize_4bit(
                    packed, absmax=np.ones(n + 20, np.float32), out=np.empty(64 * (n + 1), np.float32)
                )
            except libbnb.InvalidArgument as error:
                if f"absmax has {n + 20} elements, must have {n + 1}" not in str(error):
                    return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(8)))


def test_the_first_use_may_be_in_many_threads_at_once(python: Callable[..., Any]) -> None:
    code = (
        "import threading, numpy as np, libbnb\n"
        "barrier = threading.Barrier(16); results = []\n"
        "def run():\n"
        "    barrier.wait(); results.append(libbnb.quantize_nf4(np.ones(64, 'f'))[0].tobytes())\n"
        "threads = [threading.Thread(target=run) for _ in range(16)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert len(results) == 16 and len(set(results)) == 1\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_after_fork(python: Callable[..., Any]) -> None:
    """In children of a process that has used all its threads, and in the parent afterwards."""
    code = (
        "import os, numpy as np, libbnb\n"
        "x = np.random.default_rng(0).standard_normal(3_000_000).astype('f')\n"
        "libbnb.set_num_threads(4)\n"
        "def work():\n"
        "    packed, state = libbnb.quantize_nf4(x)\n"
        "    return packed.tobytes() + libbnb.dequantize_4bit(packed, state).tobytes()\n"
        "want = work()\n"
        "for generation in range(3):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        grandchild = os.fork()\n"
        "        good = work() == want\n"
        "        if grandchild == 0: os._exit(0 if good else 1)\n"
        "        os._exit(0 if good and os.waitpid(grandchild, 0)[1] == 0 else 1)\n"
        "    assert work() == want\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers")
def test_signal_handlers_may_call() -> None:
    """A handler runs between any two steps of a call, in the same thread."""
    want = work(2)
    calls = 0

    def handler(number: int, frame: Any) -> None:
        nonlocal calls
        calls += 1
        libbnb.quantize_nf4(X[:50])
        with pytest.raises(libbnb.InvalidArgument):
            libbnb.quantize_nf4(X[:50], blocksize=3)

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for _ in range(60):
            assert same(work(2), want)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert calls > 0


def test_descriptors_are_reused() -> None:
    work(0)
    frames = len(_native.frames)
    for _ in range(50):
        work(0)
        with pytest.raises(libbnb.InvalidArgument):
            libbnb.quantize_nf4(X.astype(np.float64))
    assert len(_native.frames) == frames


def test_references_are_given_back() -> None:
    x, code = X[:1000].copy(), libbnb.create_dynamic_map()
    packed, state = libbnb.quantize_nf4(x)
    before = [sys.getrefcount(thing) for thing in (x, code, packed, state.absmax)]
    for _ in range(20):
        libbnb.quantize_nf4(x)
        libbnb.quantize_blockwise(x, code=code)
        libbnb.dequantize_4bit(packed, state)
    assert before == [sys.getrefcount(thing) for thing in (x, code, packed, state.absmax)]
