# SPDX-License-Identifier: MIT
"""The plug-in under bitsandbytes' layers and optimizers, transformers and PEFT: beside runs without it."""

from __future__ import annotations

import copy
import importlib.util
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
bitsandbytes = pytest.importorskip("bitsandbytes")
for needed in ("transformers", "accelerate"):
    pytest.importorskip(needed)

import plugin_models  # noqa: E402
from libbnb.integrations import bitsandbytes as plugin  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]
PEFT = importlib.util.find_spec("peft") is not None
nn, F = bitsandbytes.nn, bitsandbytes.functional


@pytest.fixture(scope="module", autouse=True)
def plugin_is_active() -> Iterator[None]:
    was_active = plugin.status().active
    plugin.activate()
    yield
    if not was_active:
        plugin.deactivate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    plugin_models.save_llama(path)
    return path


@pytest.fixture(scope="module")
def stock(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What comes out without the plug-in, from a process of its own."""
    file = tmp_path_factory.mktemp("stock") / "results.pt"
    command = [sys.executable, plugin_models.__file__, str(folder), str(file), str(PEFT)]
    environment = dict(os.environ, LIBBNB_PLUGIN="0")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return torch.load(file)


@pytest.fixture(scope="module")
def ours(folder: Path) -> dict[str, Any]:
    assert plugin.status().active
    return plugin_models.results(folder, PEFT)


# ---------------------------------------------------------------------------------------------------------------------
# Beside stock


@pytest.mark.parametrize("nested", [False, True])
def test_llama(ours: dict[str, Any], stock: dict[str, Any], nested: bool) -> None:
    (got, exact), (want, stock_exact) = ours[f"logits-{nested}"], stock[f"logits-{nested}"]
    if not nested:
        assert torch.equal(exact, stock_exact)  # the same codes and scales
    rounding = 2.0**-8 * float(exact.abs().max())  # of one bfloat16 result; a logit has seen a dozen of them
    errors = [float((a - b).square().mean().sqrt()) for a, b in ((got, exact), (want, stock_exact))]
    assert errors[0] < 3 * rounding and errors[0] < 1.25 * errors[1], errors
    assert float((got - want).abs().max()) < 30 * rounding
    tokens, margins = ours[f"generated-{nested}"]
    stock_tokens, _ = stock[f"generated-{nested}"]
    close = (margins < 15 * rounding).nonzero().flatten().tolist()
    same = close[0] if close else len(tokens)  # up to here there is no doubt which token is the likeliest
    assert same >= 2 and torch.equal(tokens[:same], stock_tokens[:same])


@pytest.mark.skipif(not PEFT, reason="not installed: peft")
def test_qlora(ours: dict[str, Any], stock: dict[str, Any]) -> None:
    (losses, gradients, adapters), (stock_losses, stock_gradients, stock_adapters) = ours["qlora"], stock["qlora"]
    assert losses[1] < losses[0]
    assert losses == pytest.approx(stock_losses, rel=5e-3)
    assert gradients.keys() == stock_gradients.keys() and len(gradients) == 8
    for name, gradient in gradients.items():
        largest = float(stock_gradients[name].abs().max())
        assert float((gradient - stock_gradients[name]).abs().max()) <= 0.1 * largest, name
    for name, weight in adapters.items():
        assert float((weight - stock_adapters[name]).abs().mean()) < 2e-3, name  # two steps of 1e-2


@pytest.mark.parametrize("layer", ["Linear4bit-eval", "Linear4bit-train", "Linear8bitLt-eval", "Linear8bitLt-train"])
def test_layers(ours: dict[str, Any], stock: dict[str, Any], layer: str) -> None:
    assert ours[layer].dtype == stock[layer].dtype
    # Stock rounds scales, and activations where weights are rewritten, to bfloat16 in evaluation.
    far = 2.0**-7 if layer == "Linear4bit-eval" else 2.0**-9
    assert float((ours[layer] - stock[layer]).abs().max()) < far * float(stock[layer].abs().max())


@pytest.mark.parametrize("optimizer", plugin_models.OPTIMIZERS)
def test_optimizers(ours: dict[str, Any], stock: dict[str, Any], optimizer: str) -> None:
    got, want = ours[f"optim-{optimizer}"], stock[f"optim-{optimizer}"]
    if optimizer == "LAMB":  # stock leaves out the bias corrections where it measures the update: steps are larger here
        assert float((got - want).abs().max()) < 0.05
    elif "8bit" in optimizer:
        assert float((got - want).abs().mean()) < 2e-4
    else:
        assert torch.allclose(got, want, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# What rewritten weights break in stock


def linear(n: int = 96, k: int = 64, **options: Any) -> Any:
    torch.manual_seed(2)
    return nn.Linear4bit(k, n, quant_type="nf4", **options).to("cpu")


@pytest.mark.parametrize("nested", [False, True])
def test_evaluation_leaves_weights_alone(nested: bool) -> None:
    layer = linear(compress_statistics=nested).eval()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with torch.no_grad():
        layer(torch.randn(3, 64))
    after = layer.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype and torch.equal(tensor, after[name]), name


def test_gradients_after_evaluation() -> None:
    layer, x = linear(), torch.randn(3, 64, requires_grad=True)
    with torch.no_grad():
        layer.eval()(x)
    layer.train()(x).sum().backward()
    dense = F.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    torch.testing.assert_close(x.grad, dense.sum(0).expand(3, 64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "k"), [(33, 64), (16, 96), (5, 70)])
def test_evaluation_of_any_shape(n: int, k: int) -> None:
    layer, x = linear(n, k, bias=False).eval(), torch.randn(3, k)
    dense = F.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), x @ dense.t(), rtol=1e-4, atol=1e-4)


def test_pickles_of_rewritten_weights() -> None:
    """A layer that stock has evaluated and somebody pickled: its weights are read in the layout they are in."""
    layer, x = linear(bias=True).eval(), torch.randn(3, 64)
    with torch.no_grad():
        want = layer(x)
    rewritten = copy.deepcopy(layer)
    state = rewritten.weight.quant_state
    rewritten.weight.data, rewritten.weight.quant_state = F._convert_weight_packed_for_cpu(rewritten.weight.data, state)
    rewritten.support_avx512bf16_for_cpu = True
    loaded = pickle.loads(pickle.dumps(rewritten))
    layer.support_avx512bf16_for_cpu = True  # pickled before it was evaluated
    with torch.no_grad():
        assert float((loaded(x) - want).abs().max()) < 2.0**-7 * float(want.abs().max())  # scales were rounded
        assert torch.equal(layer(x), want)
    assert not getattr(layer.weight.quant_state, "packing_format_for_cpu", False)


def test_saved_after_evaluation_and_loaded(folder: Path, tmp_path: Path) -> None:
    model = plugin_models.load_llama(folder).eval()
    tokens = plugin_models.inputs()
    with torch.no_grad():
        want = model(tokens).logits
    model.save_pretrained(tmp_path)
    import transformers

    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, device_map="cpu").eval()
    with torch.no_grad():
        assert torch.equal(again(tokens).logits, want)


def test_int8_training_with_full_precision_weights() -> None:
    """Its gradient of the weights needs an operator that stock does not have on the CPU."""
    from bitsandbytes.autograd._functions import MatMul8bitLt, MatmulLtState

    a, b = torch.randn(8, 64, dtype=torch.float16, requires_grad=True), torch.randn(16, 64, dtype=torch.float16)
    b.requires_grad_()
    # All gradients are 1, so that it makes no difference that bitsandbytes scales codes of rows by columns.
    MatMul8bitLt.apply(a, b, None, None, MatmulLtState()).sum().backward()
    for got, want in ((a.grad, b.detach().sum(0).expand(8, 64)), (b.grad, a.detach().sum(0).expand(16, 64))):
        assert float((got - want).norm() / want.norm()) < 0.03


def test_optimizer_state_in_8_bits_survives_a_checkpoint() -> None:
    p = torch.nn.Parameter(torch.randn(64, 96))
    optimizer = bitsandbytes.optim.AdamW8bit([p], lr=1e-2)
    p.grad = torch.randn(64, 96)
    optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = torch.nn.Parameter(p.detach().clone())
    loaded = bitsandbytes.optim.AdamW8bit([again], lr=1e-2)
    loaded.load_state_dict(torch.load(file))
    again.grad = p.grad.clone()
    optimizer.step()
    loaded.step()
    assert torch.equal(p, again)
