# SPDX-License-Identifier: MIT
"""Which library is loaded and when, what `info` says, and the settings of a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import libbnb

Run = Callable[..., "subprocess.CompletedProcess[str]"]
QUANTIZE = "import numpy, libbnb; libbnb.quantize_nf4(numpy.ones(64, 'f')); "


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1, done.stdout
    last = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in last, done.stderr


def test_import_needs_no_torch_and_loads_nothing(python: Run) -> None:
    code = (
        "import sys, libbnb; from libbnb import _native;"
        "heavy = {'torch', 'jax', 'scipy', 'mlx', 'typer', 'rich', 'safetensors', 'matplotlib'} & sys.modules.keys();"
        "assert not heavy, heavy;"
        "maps = open('/proc/self/maps').read() if sys.platform == 'linux' else '';"
        "assert 'libbnb' not in maps.replace('_cdef', ''), maps;"
        "import numpy; libbnb.quantize_nf4(numpy.ones(64, 'f')); assert 'torch' not in sys.modules;"
        "assert 'libcuda' not in open('/proc/self/maps').read() if sys.platform == 'linux' else True"
    )
    ok(python(code))


def test_torch_is_not_imported_even_if_it_is_there(python: Run) -> None:
    pytest.importorskip("torch")
    ok(python(QUANTIZE + "import sys; assert 'torch' not in sys.modules"))


def test_a_broken_torch_does_not_matter(python: Run, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('broken')\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    ok(python(QUANTIZE, PYTHONPATH=path))


def test_the_folder_of_the_sources_is_not_the_package(python: Run) -> None:
    root = Path(__file__).resolve().parents[2]
    ok(python(f"import os, sys; os.chdir({str(root)!r}); sys.path.insert(0, ''); {QUANTIZE} assert libbnb.__file__"))


def test_info() -> None:
    info = libbnb.info()
    assert info["version"] == info["library_version"] == libbnb.__version__
    assert Path(info["library"]).exists() and info["abi_version"] == 1
    assert info["backends"][0] == {"name": "cpu", "devices": 1}
    assert info["installed"]["cpu"].endswith((".so", ".dylib", ".dll"))
    names = [isa["name"] for isa in info["isas"]]
    assert names[0] == "reference" and info["isas"][0]["available"]
    assert info["isa"] in names and info["isa_reason"]
    assert info["num_threads"] >= 1
    json.dumps(info)


def test_lib_path(python: Run, tmp_path: Path) -> None:
    library = libbnb.info()["library"]
    copy = tmp_path / "renamed.so"
    shutil.copy(library, copy)
    out = ok(python(QUANTIZE + "i = libbnb.info(); print(i['library'], i['chosen_by'])", BNB_LIB_PATH=str(copy)))
    assert out.split() == [str(copy), "BNB_LIB_PATH"]
    ok(python(QUANTIZE, BNB_LIB_PATH=os.path.relpath(copy)))
    ok(python(QUANTIZE, BNB_LIB_PATH=""))


def test_lib_path_that_is_wrong(python: Run, tmp_path: Path) -> None:
    fails(python(QUANTIZE, BNB_LIB_PATH=str(tmp_path / "none.so")), "LoadError", "BNB_LIB_PATH", "none.so")
    text = tmp_path / "text.so"
    text.write_text("not a library")
    fails(python(QUANTIZE, BNB_LIB_PATH=str(text)), "LoadError", "BNB_LIB_PATH", "text.so")
    fails(python(QUANTIZE, BNB_LIB_PATH=str(tmp_path)), "LoadError", "BNB_LIB_PATH")
    ok(python("import libbnb", BNB_LIB_PATH=str(text)))  # nothing is loaded before it is needed


def test_libraries_of_others(python: Run, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    for name, source, words in (
        ("other", "int other;", ("is not a libbnb",)),
        ("future", "unsigned bnb_abi_version(void) { return 99; }", ("ABI version 99", "needs 1")),
    ):
        (tmp_path / f"{name}.c").write_text(source)
        library = tmp_path / f"{name}.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / f"{name}.c"], check=True)
        fails(python(QUANTIZE, BNB_LIB_PATH=str(library)), "LoadError", str(library), *words)


def test_backend(python: Run) -> None:
    out = ok(python(QUANTIZE + "print(libbnb.info()['chosen_by'])", BNB_BACKEND="cpu"))
    assert out.strip() == "BNB_BACKEND"
    fails(python(QUANTIZE, BNB_BACKEND="tpu"), "LoadError", "BNB_BACKEND is 'tpu'", "cuda")
    if "metal" not in libbnb.info()["installed"]:
        fails(python(QUANTIZE, BNB_BACKEND="metal"), "LoadError", "BNB_BACKEND is 'metal'", "only cpu")
    out = ok(
        python(QUANTIZE + "print(libbnb.info()['chosen_by'])", BNB_BACKEND="tpu", BNB_LIB_PATH=libbnb.info()["library"])
    )
    assert out.strip() == "BNB_LIB_PATH"


def test_a_failed_load_can_be_repeated(python: Run) -> None:
    code = (
        "import os, numpy, libbnb\n"
        "for _ in range(2):\n"
        "    try: libbnb.quantize_nf4(numpy.ones(64, 'f'))\n"
        "    except libbnb.LoadError: pass\n"
        "    else: raise SystemExit('loaded')\n"
        "del os.environ['BNB_BACKEND']\n"
        "libbnb.quantize_nf4(numpy.ones(64, 'f'))\n"
    )
    ok(python(code, BNB_BACKEND="tpu"))


def test_isa_from_the_environment(python: Run) -> None:
    out = ok(python(QUANTIZE + "i = libbnb.info(); print(i['isa']); print(i['isa_reason'])", BNB_CPU_ISA="reference"))
    assert out.splitlines()[0] == "reference" and "BNB_CPU_ISA" in out
    fails(python(QUANTIZE, BNB_CPU_ISA="mmx"), "BNB_CPU_ISA", "mmx")
    assert ok(python("import libbnb; print(libbnb.info()['isa'])", BNB_CPU_ISA="mmx")).strip() == "None"


def test_every_instruction_set_gives_the_same_bits(rng: np.random.Generator) -> None:
    x = rng.standard_normal(10_007).astype(np.float32)
    results = []
    try:
        for isa in libbnb.info()["isas"]:
            if not isa["available"]:
                continue
            libbnb.set_isa(isa["name"])
            assert libbnb.info()["isa"] == isa["name"]
            packed, state = libbnb.quantize_nf4(x)
            codes, state8 = libbnb.quantize_blockwise(x, blocksize=100)
            results.append(
                (
                    packed,
                    state.absmax,
                    libbnb.dequantize_4bit(packed, state),
                    codes,
                    libbnb.dequantize_blockwise(codes, state8),
                )
            )
    finally:
        libbnb.set_isa(None)
    for result in results[1:]:
        for got, want in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(got, want)


def test_isas_that_are_not_there() -> None:
    before = libbnb.info()["isa"]
    with pytest.raises(libbnb.Error, match="mmx"):
        libbnb.set_isa("mmx")
    for isa in libbnb.info()["isas"]:
        if not isa["available"]:
            with pytest.raises(libbnb.Unsupported, match=isa["name"]):
                libbnb.set_isa(isa["name"])
    assert libbnb.info()["isa"] == before


def test_number_of_threads(python: Run) -> None:
    default = libbnb.get_num_threads()
    x = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    want = libbnb.quantize_nf4(x)[0]
    try:
        for n in (1, 2, 3, 7):
            libbnb.set_num_threads(n)
            assert libbnb.get_num_threads() == libbnb.info()["num_threads"] == n
            np.testing.assert_array_equal(libbnb.quantize_nf4(x)[0], want)
        for bad in (-1, 2**31, -(2**31) - 1):
            with pytest.raises(libbnb.InvalidArgument, match="num_threads"):
                libbnb.set_num_threads(bad)
        for bad in (1.5, "2", None, True):
            with pytest.raises(TypeError, match="num_threads"):
                libbnb.set_num_threads(bad)  # type: ignore[arg-type]
    finally:
        libbnb.set_num_threads(0)
    assert libbnb.get_num_threads() == default
    assert ok(python("import libbnb; print(libbnb.get_num_threads())", BNB_NUM_THREADS="3")).strip() == "3"


def test_the_top_level_has_what_functional_has() -> None:
    assert set(libbnb.functional.__all__) <= set(libbnb.__all__)
    for name in libbnb.__all__:
        assert getattr(libbnb, name) is not None


@pytest.mark.torch
def test_signatures_are_those_of_bitsandbytes() -> None:
    import inspect

    pytest.importorskip("torch")
    theirs = pytest.importorskip("bitsandbytes")
    # Our own; operators of theirs without a function; and what older releases of theirs have.
    only_here = {"quantize_fp8", "dequantize_fp8", "matmul_fp8", "gradient_norm", "linear_int8"}
    only_here |= {"quantize_ternary", "dequantize_ternary", "gemm_ternary", "linear_ternary"}
    only_here |= {"quantize_mx", "dequantize_mx", "gemm_mx"}
    only_here |= {"int8_scaled_mm", "int8_mixed_scaled_mm"}
    only_here |= {"COOSparseTensor", "coo_zeros", "spmm_coo", "spmm_coo_very_sparse"}
    for name in libbnb.functional.__all__:
        place = theirs.functional if hasattr(theirs.functional, name) else theirs
        assert hasattr(place, name) == (name not in only_here), name
        if name in only_here:
            continue
        ours, their = (
            list(inspect.signature(getattr(f, name)).parameters.values()) for f in (libbnb.functional, place)
        )
        for a, b in zip(ours, their, strict=False):
            assert a.name == b.name, name
            default = str(b.default).removeprefix("torch.")
            assert a.default == b.default or a.default == default, (name, a.name)
        for extra in ours[len(their) :]:
            assert extra.default is not inspect.Parameter.empty, (name, extra.name)
        assert len(ours) >= len(their), name
