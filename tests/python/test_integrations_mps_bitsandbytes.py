# SPDX-License-Identifier: MIT
"""Checkpoints of mps-bitsandbytes: what its layers would save, made here from the description of its formats."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import libbnb as bnb  # noqa: E402
from libbnb import nn  # noqa: E402
from libbnb.integrations.mps_bitsandbytes import convert_state_dict, load_state_dict  # noqa: E402

pytestmark = pytest.mark.torch

FP4 = np.array([0, 1, 2, 4, 6, 8, 12, 16], np.float32) / 16
TABLES = {"nf4": bnb.get_4bit_type("nf4"), "fp4": np.concatenate([FP4, -FP4])}


def blocks_of(weights: np.ndarray[Any, Any], blocksize: int) -> np.ndarray[Any, Any]:
    """[rows, blocks, blocksize]: rows padded by zeros to whole blocks."""
    rows, cols = weights.shape
    padded = np.zeros((rows, -(-cols // blocksize) * blocksize), np.float32)
    padded[:, :cols] = weights
    return padded.reshape(rows, -1, blocksize)


def encode_4bit(weights: np.ndarray[Any, Any], quant_type: str, blocksize: int) -> tuple[Any, Any]:
    """Bytes with the first code in the low half, [rows, bytes], and fp32 absmax, [rows, blocks]."""
    blocks = blocks_of(weights, blocksize)
    absmax = np.maximum(np.abs(blocks).max(-1), np.float32(1e-8))
    distances = np.abs((blocks / absmax[..., None])[..., None] - TABLES[quant_type])
    codes = distances.argmin(-1).astype(np.uint8).reshape(len(weights), -1)
    return codes[:, ::2] + 16 * codes[:, 1::2], absmax


def encode_absmax(absmax: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Linear int8 in blocks of 256, and the largest of each block."""
    blocks = blocks_of(absmax.reshape(1, -1), 256)[0]
    largest = blocks.max(-1)
    codes = np.rint(blocks * (np.float32(127) / largest[:, None])).astype(np.int8)
    return codes.ravel()[: absmax.size], largest


def decode(state_dict: dict[str, Any], prefix: str, cols: int) -> np.ndarray[Any, Any]:
    """What mps-bitsandbytes computes with, in fp32: the weights of a Linear4bit."""
    state = state_dict[prefix + "weight_quant_state"]
    data, absmax = state_dict[prefix + "weight"].numpy(), state["absmax"].numpy()
    if state["state2"] is not None:
        scale = state["state2"]["absmax"].numpy() / np.float32(127)
        absmax = absmax.astype(np.float32) * scale.repeat(256)[: absmax.size]
    codes = np.empty(2 * data.size, np.uint8)
    codes[::2], codes[1::2] = data % 16, data // 16
    values = TABLES[state["quant_type"]][codes].reshape(absmax.size, -1) * absmax[:, None]
    return values.reshape(state["shape"][0], -1)[:, :cols]


def linear_4bit(
    weights: np.ndarray[Any, Any], quant_type: str, blocksize: int, prefix: str = "", nested: bool = False
) -> dict[str, Any]:
    data, absmax = encode_4bit(weights, quant_type, blocksize)
    state2 = None
    if nested:
        absmax, largest = encode_absmax(absmax)
        state2 = {
            "absmax": torch.from_numpy(largest), "shape": torch.Size(absmax.shape), "blocksize": 256,
            "quant_type": "int8", "dtype": torch.float32, "state2": None,
        }  # fmt: skip
    state = {
        "absmax": torch.from_numpy(absmax.ravel()), "shape": torch.Size(weights.shape), "blocksize": blocksize,
        "quant_type": quant_type, "dtype": torch.float16, "state2": state2,
    }  # fmt: skip
    return {prefix + "weight": torch.from_numpy(data.ravel()), prefix + "weight_quant_state": state}


def weights_of(rng: np.random.Generator, rows: int, cols: int) -> np.ndarray[Any, Any]:
    weights = rng.standard_normal((rows, cols)).astype(np.float32)
    weights[0] = 0  # absmax is 1e-8 there
    return weights


def state_of(tensors: dict[str, Any], prefix: str = "weight.") -> bnb.QuantState:
    return bnb.QuantState.from_dict({k: v for k, v in tensors.items() if k.startswith(prefix)})


def floats(state: bnb.QuantState, codes: Any) -> np.ndarray[Any, Any]:
    out = torch.empty(state.shape)
    return bnb.dequantize_4bit(codes, state, out=out).numpy()


def bits(array: Any) -> Any:
    return np.ascontiguousarray(array).view(np.uint32)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("rows", "cols", "blocksize", "becomes"),
    [(6, 192, 64, 64), (300, 128, 64, 64), (3, 96, 64, 32), (5, 80, 256, 16), (1, 71, 64, 64), (7, 64, 4096, 64)],
)
def test_nf4_keeps_every_bit(
    rng: np.random.Generator, rows: int, cols: int, blocksize: int, becomes: int, nested: bool
) -> None:
    theirs = linear_4bit(weights_of(rng, rows, cols) if rows > 1 else rng.standard_normal((1, cols)), "nf4", blocksize)
    theirs = linear_4bit(decode(theirs, "", cols) + 0, "nf4", blocksize, nested=nested)
    converted = convert_state_dict(theirs)
    layer = converted.layers[""]
    assert (layer.kind, layer.is_exact, layer.quant_type) == ("Linear4bit", True, "nf4")
    state = state_of(converted.state_dict)
    assert (state.blocksize, state.shape, state.dtype) == (becomes, torch.Size([rows, cols]), torch.float16)
    assert state.nested == (nested and (rows == 1 or cols % blocksize == 0))
    assert converted.state_dict["weight"].shape == ((rows * cols + 1) // 2, 1)
    np.testing.assert_array_equal(bits(floats(state, converted.state_dict["weight"])), bits(decode(theirs, "", cols)))


def test_repacked_bytes(rng: np.random.Generator) -> None:
    theirs = linear_4bit(weights_of(rng, 4, 128), "nf4", 64)
    made = convert_state_dict(theirs).state_dict
    data = theirs["weight"].numpy()
    np.testing.assert_array_equal(made["weight"].numpy().ravel(), data // 16 + data % 16 * 16)
    np.testing.assert_array_equal(made["weight.absmax"], theirs["weight_quant_state"]["absmax"])


@pytest.mark.parametrize("nested", [False, True])
def test_bitsandbytes_reads_the_result(rng: np.random.Generator, nested: bool) -> None:
    theirs = pytest.importorskip("bitsandbytes.functional")
    source = linear_4bit(weights_of(rng, 16, 128), "nf4", 64, nested=nested)
    made = convert_state_dict(source).state_dict
    parts = {key.removeprefix("weight."): value for key, value in made.items() if key != "weight"}
    state = theirs.QuantState.from_dict(parts, torch.device("cpu"))
    state.dtype = torch.float32
    np.testing.assert_array_equal(theirs.dequantize_4bit(made["weight"], state).numpy(), decode(source, "", 128))


@pytest.mark.parametrize(("rows", "cols"), [(3, 71), (5, 70)])
def test_rows_that_cannot_be_cut_are_quantized_again(rng: np.random.Generator, rows: int, cols: int) -> None:
    theirs = linear_4bit(weights_of(rng, rows, cols), "nf4", 64)
    converted = convert_state_dict(theirs)
    assert not converted.layers[""].is_exact
    expected, _ = bnb.quantize_nf4(torch.from_numpy(decode(theirs, "", cols)), blocksize=64)
    assert torch.equal(converted.state_dict["weight"], expected)
    assert state_of(converted.state_dict).shape == torch.Size([rows, cols])


@pytest.mark.parametrize(("cols", "blocksize", "scales"), [(128, 64, 2), (96, 64, 3), (71, 64, 71)])
@pytest.mark.parametrize("nested", [False, True])
def test_fp4_is_exact_as_fp8(rng: np.random.Generator, cols: int, blocksize: int, scales: int, nested: bool) -> None:
    theirs = linear_4bit(weights_of(rng, 6, cols), "fp4", blocksize, nested=nested)
    converted = convert_state_dict(theirs)
    assert converted.layers[""].kind == "LinearFP8" and converted.layers[""].is_exact
    made = converted.state_dict
    assert made["weight"].dtype == torch.float8_e4m3fn and made["weight_scale"].shape == (6, scales)
    back = bnb.dequantize_fp8(made["weight"], made["weight_scale"], blocksize=cols // scales)
    np.testing.assert_array_equal(bits(back.numpy()), bits(decode(theirs, "", cols)))


@pytest.mark.parametrize("fp4", ["nf4", "fp4"])
def test_fp4_quantized_again(rng: np.random.Generator, fp4: str) -> None:
    theirs = linear_4bit(weights_of(rng, 8, 128), "fp4", 64)
    converted = convert_state_dict(theirs, fp4=fp4)
    assert (converted.layers[""].is_exact, converted.layers[""].quant_type) == (False, fp4)
    expected, state = bnb.quantize_4bit(torch.from_numpy(decode(theirs, "", 128)), quant_type=fp4)
    assert torch.equal(converted.state_dict["weight"], expected)
    assert torch.equal(converted.state_dict["weight.absmax"], state.absmax)


# ---------------------------------------------------------------------------------------------------------------------
# Models


class Model(torch.nn.Module):
    """One layer of each class that mps-bitsandbytes has."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(20, 64, padding_idx=3)
        self.letters = torch.nn.Embedding(10, 64)
        self.block = torch.nn.ModuleDict(
            {name: torch.nn.Linear(64, 64) for name in ("nf4", "fp4", "int8", "fp8", "outliers", "switchback")}
        )
        self.norm = torch.nn.LayerNorm(64)

    def forward(self, words: Any, letters: Any) -> Any:
        return self.words(words) + self.letters(letters)


def int8_rows(weights: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    largest = np.abs(weights).max(1)
    codes = np.clip(np.rint(weights * (127 / largest)[:, None]), -127, 127).astype(np.int8)
    return torch.from_numpy(codes), torch.from_numpy(largest)


def saved(model: Model) -> dict[str, Any]:
    """What mps-bitsandbytes would save, through a file."""
    state: dict[str, Any] = {k: v.detach() for k, v in model.state_dict().items() if "weight" not in k or "norm" in k}
    weight = {n: m.weight.detach().numpy() for n, m in model.named_modules() if hasattr(m, "weight")}
    data, absmax = encode_4bit(weight["words"], "nf4", 32)
    state |= {"words.weight_packed": torch.from_numpy(data), "words.weight_absmax": torch.from_numpy(absmax)}
    for name in ("letters", "block.int8"):
        codes, scales = int8_rows(weight[name])
        state |= {f"{name}.weight_int8": codes, f"{name}.weight_scales": scales}
    for name in ("nf4", "fp4"):
        state |= linear_4bit(weight[f"block.{name}"], name, 64, f"block.{name}.")
    codes, scales = bnb.quantize_fp8(torch.from_numpy(weight["block.fp8"]))
    state |= {"block.fp8.weight_fp8": codes.view(torch.uint8), "block.fp8.weight_scales": scales.flatten()}
    rest = weight["block.outliers"].copy()
    rest[:, [5, 9]] = 0
    codes, scales = int8_rows(rest)
    state |= {
        "block.outliers.weight_int8": codes,
        "block.outliers.weight_scales": scales,
        "block.outliers.outlier_indices": torch.tensor([5, 9]),
        "block.outliers.outlier_weights": torch.from_numpy(weight["block.outliers"][:, [5, 9]]).half(),
    }
    codes, scales = int8_rows(weight["block.switchback"])
    state |= {
        "block.switchback.weight_int8": codes,
        "block.switchback.weight_scales": scales,
        "block.switchback.weight_fp": torch.from_numpy(weight["block.switchback"]).half(),
    }
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_model_of_all_layers() -> None:
    torch.manual_seed(1)
    model, target = Model(), Model()
    state = saved(model)
    before = {key: value.clone() for key, value in state.items() if isinstance(value, torch.Tensor)}
    layers = load_state_dict(target, state)
    assert all(torch.equal(state[key], value) for key, value in before.items())
    assert {name: layer.kind for name, layer in layers.items()} == {
        "words": "Embedding4bit",
        "letters": "Linear8bitLt",
        "block.nf4": "Linear4bit",
        "block.fp4": "LinearFP8",
        "block.int8": "Linear8bitLt",
        "block.fp8": "LinearFP8",
        "block.outliers": "OutlierAwareLinear",
        "block.switchback": "SwitchBackLinear",
    }
    assert all(layer.is_exact for layer in layers.values())
    block: Any = target.block
    assert [type(m) for m in (target.words, target.letters, block["int8"])] == [
        nn.Embedding4bit, nn.Embedding8bit, nn.Linear8bitLt,
    ]  # fmt: skip
    assert target.words.padding_idx == 3
    for name in ("nf4", "fp4"):
        expected = decode(state, f"block.{name}.", 64)
        found = block[name].dequantized_weight().float().numpy()
        np.testing.assert_array_equal(found, expected.astype(np.float16 if name == "nf4" else np.float32))
        x = torch.randn(5, 64)
        y = x @ torch.from_numpy(expected).T + model.block[name].bias
        torch.testing.assert_close(block[name](x), y, atol=2e-2, rtol=2e-2)  # x is rounded to bfloat16 in some
    assert torch.equal(block["int8"].weight.CB, state["block.int8.weight_int8"])
    assert torch.equal(block["int8"].weight.SCB, state["block.int8.weight_scales"])
    assert torch.equal(block["fp8"].weight.data.view(torch.uint8), state["block.fp8.weight_fp8"])
    assert torch.equal(block["switchback"].weight, state["block.switchback.weight_fp"])
    assert torch.equal(target.norm.weight, model.norm.weight)
    x = torch.randn(4, 64)
    for name, bound in {"int8": 0.05, "fp8": 0.1, "outliers": 0.05}.items():
        difference = (block[name](x) - model.block[name](x)).norm() / model.block[name](x).norm()
        assert difference < bound, name
    rows = target(torch.arange(20), torch.arange(20) % 10)
    torch.testing.assert_close(rows.float(), model(torch.arange(20), torch.arange(20) % 10), atol=0.6, rtol=0)
    words = target.words(torch.arange(20)).float().numpy()
    codes = state["words.weight_packed"].numpy()
    table = np.stack([codes % 16, codes // 16], -1).reshape(20, 64)
    exact = TABLES["nf4"][table] * state["words.weight_absmax"].numpy().repeat(32, 1)
    np.testing.assert_array_equal(words, exact)


def test_embeddings_in_fp4_are_quantized_again(rng: np.random.Generator) -> None:
    data, absmax = encode_4bit(weights_of(rng, 5, 64), "fp4", 64)
    state = {"e.weight_packed": torch.from_numpy(data), "e.weight_absmax": torch.from_numpy(absmax)}
    converted = convert_state_dict(state, embedding_quant_type="fp4", embedding_dtype=torch.bfloat16)
    assert (converted.layers["e"].kind, converted.layers["e"].is_exact) == ("Embedding4bit", False)
    made = state_of(converted.state_dict, "e.weight.")
    assert (made.quant_type, made.dtype) == ("nf4", torch.bfloat16)
    table = np.stack([data % 16, data // 16], -1).reshape(5, 64)
    found = floats(made, converted.state_dict["e.weight"])
    assert np.abs(found - TABLES["fp4"][table] * absmax).max() < 0.16 * absmax.max()


def test_what_is_no_layer_of_theirs_stays() -> None:
    state = {"norm.weight": torch.ones(4), "head.weight": torch.ones(2, 4), "head.bias": torch.ones(2)}
    converted = convert_state_dict(state)
    assert converted.layers == {} and converted.state_dict == state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": None}, "l.weight is missing"),
        ({"weight": torch.zeros(7, dtype=torch.uint8)}, "l.weight has 7 elements, must have 128"),
        ({"weight": torch.zeros(128)}, "l.weight is torch.float32"),
        ({"absmax": torch.zeros(3)}, "absmax has 3 elements, must have 4"),
        ({"absmax": None}, "absmax is missing"),
        ({"quant_type": "int8"}, "quant_type is 'int8'"),
        ({"blocksize": 48}, "blocksize 48"),
        ({"shape": ()}, r"shape \(\)"),
        ({"state2": {"blocksize": 64}}, "state2"),
    ],
)
def test_dicts_that_do_not_fit(rng: np.random.Generator, change: dict[str, Any], message: str) -> None:
    state = linear_4bit(weights_of(rng, 2, 128), "nf4", 64, "l.")
    for key, value in change.items():
        if key == "weight":
            state["l.weight"] = value
        else:
            state["l.weight_quant_state"][key] = value
    with pytest.raises(bnb.InvalidArgument, match=message):
        convert_state_dict(state)


def test_arguments_and_models_that_do_not_fit(rng: np.random.Generator) -> None:
    with pytest.raises(bnb.InvalidArgument, match="fp4 is 'int8'"):
        convert_state_dict({}, fp4="int8")
    with pytest.raises(bnb.InvalidArgument, match="embedding_quant_type"):
        convert_state_dict({}, embedding_quant_type="int8")
    for shape in ((5, 2), (4, 0), (4, 64)):
        tensors = {"e.weight_packed": torch.zeros(4, 32, dtype=torch.uint8), "e.weight_absmax": torch.ones(shape)}
        with pytest.raises(bnb.InvalidArgument, match="does not fit"):
            convert_state_dict(tensors)
    with pytest.raises(bnb.InvalidArgument, match="weight_scales is missing"):
        convert_state_dict({"l.weight_int8": torch.zeros(4, 4, dtype=torch.int8)})
    state = linear_4bit(weights_of(rng, 4, 64), "nf4", 64, "l.")
    with pytest.raises(bnb.InvalidArgument, match="has no l"):
        load_state_dict(torch.nn.Sequential(), state)
    with pytest.raises(bnb.InvalidArgument, match="l is a Embedding"):
        load_state_dict(torch.nn.ModuleDict({"l": torch.nn.Embedding(4, 64)}), state)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_state_dict(torch.nn.ModuleDict({"l": torch.nn.Linear(32, 8, False)}), state)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("quant_type", ["nf4", "fp4"])
def test_layers_of_the_package_itself(quant_type: str, nested: bool) -> None:
    theirs = pytest.importorskip("mps_bitsandbytes", exc_type=ImportError)
    torch.manual_seed(2)
    float_layer = torch.nn.Linear(192, 48)
    source = theirs.Linear4bit.from_linear(float_layer, quant_type=quant_type, compress_statistics=nested)
    expected = theirs.dequantize_4bit(source.weight, source.weight_quant_state)
    target = torch.nn.Sequential(torch.nn.Linear(192, 48))
    layers = load_state_dict(target, {f"0.{key}": value for key, value in source.state_dict().items()})
    assert layers["0"].is_exact
    found: Any = target[0]
    assert torch.equal(found.dequantized_weight().to(expected.dtype), expected)
    assert torch.equal(found.bias, source.bias)
    for made, ours in (
        (theirs.Linear8bit.from_linear(float_layer), "Linear8bitLt"),
        (theirs.LinearFP8.from_linear(float_layer), "LinearFP8"),
        (theirs.OutlierAwareLinear.from_linear(float_layer), "OutlierAwareLinear"),
        (theirs.SwitchBackLinear.from_linear(float_layer), "SwitchBackLinear"),
    ):
        target = torch.nn.Sequential(torch.nn.Linear(192, 48))
        state = {f"0.{key}": value for key, value in made.state_dict().items()}
        assert load_state_dict(target, state)["0"].kind == ours == type(target[0]).__name__
        x = torch.randn(4, 192)
        y = made.half()(x.half()).float()
        assert (target[0](x.to(target[0].bias.dtype)).float() - y).norm() < 0.03 * y.norm()
    for made in (theirs.Embedding4bit, theirs.Embedding8bit):
        table = made.from_embedding(torch.nn.Embedding(30, 64))
        target = torch.nn.Sequential(torch.nn.Embedding(30, 64))
        load_state_dict(target, {f"0.{key}": value for key, value in table.state_dict().items()})
        rows = target[0](torch.arange(30)).half()
        torch.testing.assert_close(rows, table(torch.arange(30)), rtol=1e-3 * (made is theirs.Embedding8bit), atol=0)
