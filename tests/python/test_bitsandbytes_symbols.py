# SPDX-License-Identifier: MIT
"""A program written for libbitsandbytes_cpu.so runs on our library: the same calls to both, side by side."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import c_symbols as c

SIZES = [1, 2, 7, 63, 64, 65, 1000, 4096, 10_007]
BLOCKSIZES = [1, 3, 64, 100, 4096, 1 << 40]
NF4 = np.array(
    "BF800000 BF3239B1 BF066B30 BECA32A0 BE91A24D BE3D353F BDBA7871 00000000"
    " 3DA2FAFF 3E24CAE3 3E7C04DD 3EAD033A 3EE1A4B8 3F1007AB 3F3913B3 3F800000".split()
)
FP4 = np.array(
    "00000000 3BAAAAAB 3F2AAAAB 3F800000 3EAAAAAB 3F000000 3E2AAAAB 3E800000"
    " 80000000 BBAAAAAB BF2AAAAB BF800000 BEAAAAAB BF000000 BE2AAAAB BE800000".split()
)
CODEBOOKS = {
    name: np.array([int(word, 16) for word in words], np.uint32).view(np.float32)
    for name, words in {"nf4": NF4, "fp4": FP4}.items()
}


@pytest.fixture(scope="module")
def ours() -> ctypes.CDLL:
    return c.load_ours()


@pytest.fixture(scope="module")
def theirs() -> ctypes.CDLL:
    return c.load_theirs()


def normal(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def quantize(library: ctypes.CDLL, t: str, code: np.ndarray, x: np.ndarray, blocksize: int) -> tuple:
    out = np.full(x.size + 16, 0xAA, np.uint8)
    absmax = np.full(-(-x.size // blocksize) + 4, 123.0, np.float32)
    function = getattr(library, f"cquantize_blockwise_cpu_{t}")
    function(c.pointer(code), c.pointer(x), c.pointer(absmax), c.pointer(out), blocksize, x.size)
    assert (out[x.size :] == 0xAA).all()
    assert (absmax[-4:] == 123.0).all()
    return out[: x.size], absmax[:-4]


def test_every_name_of_the_wheel_exists(ours: ctypes.CDLL) -> None:
    if not shutil.which("nm"):
        pytest.skip("no nm to list symbols with")
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", str(c.bitsandbytes_library_path())], capture_output=True, text=True, check=True
    ).stdout
    names = [line.split()[-1] for line in listing.splitlines()]
    names = [name for name in names if not name.startswith("_Z")]  # C++ leftovers that no program can mean
    assert len(names) >= 14
    assert [name for name in names if not hasattr(ours, name)] == []
    assert [name for name in names if name not in c.ALL] == []


@pytest.mark.parametrize("name", c.ALL)
def test_every_declared_name_exists(ours: ctypes.CDLL, name: str) -> None:
    assert hasattr(ours, name)


@pytest.mark.parametrize("t", c.FLOATS)
@pytest.mark.parametrize("blocksize", BLOCKSIZES)
def test_dequantize_blockwise_equals_theirs(ours: ctypes.CDLL, theirs: ctypes.CDLL, t: str, blocksize: int) -> None:
    code = c.dynamic_map(ours)
    for n in SIZES:
        a = np.random.default_rng(n).integers(0, 256, n, np.uint8)
        absmax = np.abs(normal(-(-n // blocksize), n)) * 3
        outs = []
        for library in (ours, theirs):
            out = np.full(n + 8, 77, c.storage(t))
            function = getattr(library, f"cdequantize_blockwise_cpu_{t}")
            function(c.pointer(code), c.pointer(a), c.pointer(absmax), c.pointer(out), blocksize, n)
            outs.append(out)
        assert outs[0].tobytes() == outs[1].tobytes()


def dequantize_4bit(library: ctypes.CDLL, name: str, a: np.ndarray, absmax: np.ndarray, shape: tuple, blocksize: int):
    out = np.full(shape[0] * shape[1] + 8, 77, c.storage(name[-4:]))
    getattr(library, f"cdequantize_blockwise_cpu_{name}")(
        c.pointer(a), c.pointer(absmax), c.pointer(out), blocksize, *shape
    )
    assert (out[-8:] == 77).all()
    return out[:-8]


def exact_4bit(quant_type: str, a: np.ndarray, absmax: np.ndarray, n: int, blocksize: int) -> np.ndarray:
    nibbles = np.stack([a >> 4, a & 15], axis=1).ravel()[:n]
    return CODEBOOKS[quant_type][nibbles] * np.repeat(absmax, blocksize)[:n]


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("t", c.FLOATS)
@pytest.mark.parametrize("blocksize", [32, 64, 128, 1024])
def test_dequantize_4bit_equals_theirs(
    ours: ctypes.CDLL, theirs: ctypes.CDLL, quant_type: str, t: str, blocksize: int
) -> None:
    for rows, cols in [(1, blocksize), (3, 4 * blocksize), (17, blocksize), (1, 10 * blocksize)]:
        n = rows * cols
        a = np.random.default_rng(n).integers(0, 256, n // 2, np.uint8)
        absmax = np.abs(normal(n // blocksize, n))
        name = f"{quant_type}_{t}"
        mine = dequantize_4bit(ours, name, a, absmax, (rows, cols), blocksize)
        other = dequantize_4bit(theirs, name, a, absmax, (rows, cols), blocksize)
        assert mine.tobytes() == c.narrow(exact_4bit(quant_type, a, absmax, n, blocksize), t).tobytes()
        # FP4 code 8 is -0; their vector path, unlike their scalar path and their GPU library, makes it +0.
        assert (c.widen(mine, t) == c.widen(other, t)).all()
        differ = mine.view(f"u{mine.itemsize}") != other.view(f"u{mine.itemsize}")
        nibbles = np.stack([a >> 4, a & 15], axis=1).ravel()
        assert (nibbles[differ] == 8).all()
        assert quant_type == "fp4" or not differ.any()


@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
@pytest.mark.parametrize("t", c.FLOATS)
@pytest.mark.parametrize(("rows", "cols", "blocksize"), [(4, 96, 64), (5, 48, 32), (3, 7, 64), (2, 4096, 4096)])
def test_dequantize_4bit_where_rows_are_not_whole_blocks(
    ours: ctypes.CDLL, quant_type: str, t: str, rows: int, cols: int, blocksize: int
) -> None:
    # bitsandbytes takes the scales of other blocks here (its AVX-512 path), or reads past them.
    n = rows * cols
    a = np.random.default_rng(n).integers(0, 256, -(-n // 2), np.uint8)
    absmax = np.abs(normal(-(-n // blocksize), n))
    mine = dequantize_4bit(ours, f"{quant_type}_{t}", a, absmax, (rows, cols), blocksize)
    assert mine.tobytes() == c.narrow(exact_4bit(quant_type, a, absmax, n, blocksize), t).tobytes()


@pytest.mark.parametrize("t", c.FLOATS)
@pytest.mark.parametrize("blocksize", BLOCKSIZES)
def test_quantize_blockwise_is_exact(ours: ctypes.CDLL, t: str, blocksize: int) -> None:
    for signed in (True, False):
        code = c.dynamic_map(ours, signed)
        for n in SIZES:
            bits = c.narrow(normal(n, n) if signed else normal(n, n) ** 2, t)
            x = c.widen(bits, t)
            out, absmax = quantize(ours, t, code, bits, blocksize)
            assert absmax.tobytes() == c.scales(x, min(blocksize, n)).tobytes()
            assert out.tobytes() == c.nearest(code, c.normalised(x, min(blocksize, n))).tobytes()


@pytest.mark.parametrize("t", c.FLOATS)
@pytest.mark.parametrize("blocksize", [64, 256, 4096])
def test_quantize_blockwise_is_theirs_but_for_their_table(
    ours: ctypes.CDLL, theirs: ctypes.CDLL, t: str, blocksize: int
) -> None:
    # Their table of 65536 entries is off by up to 4 codes near zero, in fewer than 0.3 % of normal values.
    code, bits = c.dynamic_map(ours), c.narrow(normal(1 << 18), t)
    mine, my_absmax = quantize(ours, t, code, bits, blocksize)
    other, their_absmax = quantize(theirs, t, code, bits, blocksize)
    assert my_absmax.tobytes() == their_absmax.tobytes()
    distance = np.abs(mine.astype(int) - other.astype(int))
    assert distance.max() <= 4
    assert (distance != 0).mean() < 0.003


def test_zeros_small_values_and_all_codes_survive(ours: ctypes.CDLL) -> None:
    for signed, zero in ((True, 127), (False, 0)):
        code = c.dynamic_map(ours, signed)
        x = np.array([0, 1, 0, 1e-9], np.float32)
        assert quantize(ours, "fp32", code, x, 64)[0].tolist() == [zero, 255, zero, zero]
        assert (quantize(ours, "fp32", code, code, 256)[0] == np.arange(256)).all()


def test_code_is_read_anew_at_every_call_and_never_written(ours: ctypes.CDLL) -> None:
    code, x = c.dynamic_map(ours), np.array([1.0, 0.3, -0.0003, 0.001], np.float32)
    before = code.tobytes()
    first = quantize(ours, "fp32", code, x, 4)[0].copy()
    assert code.tobytes() == before
    code[100:127] = code[100]  # in place; the entries that a cache might look at stay
    second = quantize(ours, "fp32", code, x, 4)[0]
    assert first.tobytes() == c.nearest(np.frombuffer(before, np.float32), x).tobytes()
    assert second.tobytes() == c.nearest(code, x).tobytes()
    assert first.tobytes() != second.tobytes()


def test_unaligned_pointers(ours: ctypes.CDLL) -> None:
    x, code = normal(1000), c.dynamic_map(ours)
    sizes = {"code": 1024, "x": 4000, "absmax": 64, "out": 1000, "back": 4000}
    buffers = {name: np.zeros(size + 1, np.uint8)[1:] for name, size in sizes.items()}
    buffers["code"][:], buffers["x"][:] = code.view(np.uint8), x.view(np.uint8)
    p = {name: c.pointer(buffer) for name, buffer in buffers.items()}
    assert ours.cquantize_blockwise_cpu_fp32(p["code"], p["x"], p["absmax"], p["out"], 64, 1000) == c.OK
    assert ours.cdequantize_blockwise_cpu_fp32(p["code"], p["out"], p["absmax"], p["back"], 64, 1000) == c.OK
    out, absmax = quantize(ours, "fp32", code, x, 64)
    assert buffers["out"].tobytes() == out.tobytes()
    assert buffers["back"].tobytes() == (code[out] * np.repeat(absmax, 64)[:1000]).tobytes()


@pytest.mark.slow
def test_more_than_2_to_the_31_elements(ours: ctypes.CDLL) -> None:
    n = (1 << 31) + 4096
    if available_memory() < n * 5 // 2:
        pytest.skip("less than 5 GiB of memory are free")
    if b"reference" == isa(ours):
        pytest.skip("this CPU has the reference kernels only: minutes")
    code = c.dynamic_map(ours)
    x = np.zeros(n, np.uint16)  # pages that are only read cost nothing
    x[-1] = 0x3F80  # 1.0
    out = np.empty(n, np.uint8)
    absmax = np.empty(n // 4096, np.float32)
    status = ours.cquantize_blockwise_cpu_bf16(
        c.pointer(code), c.pointer(x), c.pointer(absmax), c.pointer(out), 4096, n
    )
    assert status == c.OK
    assert out[-1] == 255
    assert absmax[-1] == 1.0
    assert (out[-4097:-1] == 127).all()
    assert not absmax[:-1].any()


def isa(library: ctypes.CDLL) -> bytes:
    library.bnb_isa_active.restype = ctypes.c_char_p
    return library.bnb_isa_active()


def available_memory() -> int:
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))


PROGRAM = """
import ctypes, os, sys
ours, load = os.environ["BNB_LIB_PATH"], ctypes.cdll.LoadLibrary
ctypes.cdll.LoadLibrary = lambda path: load(ours if "libbitsandbytes_" in str(path) else path)
import torch, bitsandbytes as bnb, bitsandbytes.functional as F
from bitsandbytes.cextension import lib
assert lib._lib.bnb_abi_version() == 1, "not our library"

A = torch.randn(256, 192, generator=torch.Generator().manual_seed(1))
A[3, 5] = 0
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    q, state = F.quantize_blockwise(A.to(dtype), blocksize=64)
    back = F.dequantize_blockwise(q, state)
    assert q[3, 5] == 127 and back[3, 5] == 0
    exact = (A.to(dtype).float().view(-1, 64) / state.absmax[:, None]).view(A.shape)
    assert ((state.code[q.long()] - exact).abs() <= (state.code - exact[..., None]).abs().amin(-1) + 1e-6).all()
    for quant_type in ("nf4", "fp4"):
        packed, state = F.quantize_4bit(A.to(dtype), quant_type=quant_type, compress_statistics=True)
        back = F.dequantize_4bit(packed, state)
        assert (back.float() - A).abs().mean() < 0.12 and back.dtype == dtype

linear = bnb.nn.Linear4bit(192, 64, quant_type="nf4", compute_dtype=torch.float32)
weight = linear.weight.data.clone()
linear = linear.to("cpu").eval()
x = torch.randn(8, 192)
with torch.no_grad():
    y = linear(x)
W = F.dequantize_4bit(linear.weight.data, linear.weight.quant_state)
assert torch.allclose(y, torch.nn.functional.linear(x, W, linear.bias), atol=1e-5)

p = torch.nn.Parameter(torch.ones(8192))
adam = bnb.optim.AdamW8bit([p], lr=1e-2, weight_decay=0.0)
p.grad = torch.zeros(8192); p.grad[0] = 1
adam.step(); p.grad = torch.zeros(8192); adam.step()
assert p[0] < 1 and (p[1:] == 1).all(), "a zero gradient moved a parameter"
print("all right")
"""


@pytest.mark.torch
@pytest.mark.slow
def test_bitsandbytes_python_runs_on_our_library(ours: ctypes.CDLL) -> None:
    pytest.importorskip("torch")
    c.bitsandbytes_library_path()
    env = os.environ | {"BNB_LIB_PATH": c.our_library_path()}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all right"
