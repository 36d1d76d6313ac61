# SPDX-License-Identifier: MIT
"""libbnb.quality: a study of a model with a layer that is known to be hard finds it, and its numbers are right."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("safetensors")

import torch

import language_models
import libbnb
from libbnb.checkpoint import Checkpoint, CheckpointError, quantize_checkpoint
from libbnb.checkpoint.formats import parse_format
from libbnb.nn import QuantizationConfig, quantize_model
from libbnb.quality import Budget, Option, Study, allocate, study_model
from libbnb.quality.layers import settings_of
from libbnb.quality.model import Prediction, Replay, load_model, predict, replaced
from libbnb.quality.report import as_html, command, write_report
from libbnb.quality.text import read_windows

pytestmark = pytest.mark.torch

FORMATS = ("nf4", "int8", "fp8")
WINDOWS, LENGTH = 3, 48
BUDGET = Budget(bits=8.3)  # of NF4's 4.7 with the overhead of small layers, enough for one large layer in float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model with a layer that 4 bits do not suit."""
    made = tmp_path_factory.mktemp("quality") / "model"
    made.mkdir()
    tokenizer = language_models.save_tokenizer(made)
    model = language_models.trained_llama(tokenizer)
    language_models.plant_outliers(model, 1)
    model.save_pretrained(made)
    (made.parent / "text.txt").write_text(language_models.text(12000)[8000:])
    return made


PLANTED = "model.layers.1.mlp.down_proj"


@pytest.fixture(scope="module")
def text(folder: Path) -> Path:
    return folder.parent / "text.txt"


@pytest.fixture(scope="module")
def study(folder: Path, text: Path) -> Study:
    formats = {name: parse_format(name) for name in FORMATS}
    return study_model(folder, text, formats, BUDGET, windows=WINDOWS, window=LENGTH)


def _windows(folder: Path, text: Path) -> Any:
    model, tokenizer = load_model(folder)
    return model, read_windows(text, tokenizer, WINDOWS, LENGTH)


def test_the_planted_layer_is_found(study: Study) -> None:
    """Far ahead in NF4, and first in int8, whose rows have one scale; FP8's relative precision does not mind."""
    nf4, int8, fp8 = (study.ranking(format) for format in FORMATS)
    assert [len(ranking) for ranking in (nf4, int8, fp8)] == [14, 14, 14]
    assert nf4[0].module == int8[0].module == PLANTED
    assert nf4[0].sensitivity > 10 * nf4[1].sensitivity
    in_fp8 = {one.module: one.sensitivity for one in fp8}
    assert in_fp8[PLANTED] < 2 * max(of for module, of in in_fp8.items() if module != PLANTED)
    assert nf4[0].sensitivity > 100 * in_fp8[PLANTED]
    # The weights' own error does not tell: that is what the text is for.
    weights = sorted((one for one in study.layers if one.format == "nf4"), key=lambda one: -one.weight_error)
    assert weights[0].weight_error < 1.2 * weights[-1].weight_error


def test_models_are_ordered_as_formats_are(study: Study) -> None:
    by_label = {model.label: model for model in study.models}
    dense = by_label["dense"]
    assert list(by_label)[:4] == ["dense", *FORMATS] and dense.divergence == 0.0 and dense.bits_per_weight == 32
    assert by_label["nf4"].divergence > 10 * by_label["int8"].divergence > 0
    assert dense.loss < 1.0 < by_label["nf4"].perplexity  # it has learned something: a guess would cost log(64)
    assert all(model.perplexity == math.exp(model.loss) for model in study.models)
    assert by_label["nf4"].nbytes < by_label["int8"].nbytes < dense.nbytes == study.nbytes
    assert study.text["held_out"] and study.text["windows"] == study.text["check_windows"] == WINDOWS


def test_suggestions(study: Study) -> None:
    """The layer stays, the budget is kept, and the measured model is what was hoped for."""
    nf4 = next(one for one in study.suggestions if one.format == "nf4")
    assert nf4.keep[0] == PLANTED and nf4.model.bits_per_weight <= 8.3
    whole = next(model for model in study.models if model.label == "nf4")
    assert nf4.model.divergence < whole.divergence / 5
    assert nf4.predicted == pytest.approx(
        math.fsum(one.sensitivity for one in study.layers if one.format == "nf4" and one.name in nf4.formats)
    )
    mixed = study.suggestions[-1]
    assert " + " in mixed.format and mixed.skip_modules is None and command(mixed) == ""
    assert mixed.formats[f"{PLANTED}.weight"] != "nf4" and mixed.predicted <= nf4.predicted
    assert study.best is not None
    assert study.best.model.divergence == min(one.model.divergence for one in study.suggestions)


def test_the_suggestion_is_what_a_config_makes(study: Study, folder: Path, text: Path) -> None:
    """`quantize_model` with the skip list gives the model that was measured."""
    nf4 = next(one for one in study.suggestions if one.format == "nf4")
    model, windows = _windows(folder, text)
    quantize_model(
        model,
        QuantizationConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=nf4.skip_modules),
    )
    kept = [name for name, part in model.named_modules() if type(part) is torch.nn.Linear]
    assert sorted(kept) == sorted([*nf4.keep, "lm_head"])
    with torch.no_grad():
        losses = [
            float(torch.nn.functional.cross_entropy(model(input_ids=w).logits[0, :-1], w[0, 1:])) for w in windows.check
        ]
    assert sum(losses) / len(losses) == pytest.approx(nf4.model.loss, rel=1e-6)  # a mean of float32, in another order


def test_the_suggestion_is_what_the_command_makes(study: Study, folder: Path, tmp_path: Path) -> None:
    nf4 = next(one for one in study.suggestions if one.format == "nf4")
    words = command(nf4).split()
    assert words[:6] == ["libbnb", "quantize", "SRC", "DST", "--format", "nf4"]
    assert words[6::2] == ["--exclude"] * len(nf4.keep) and words[7::2] == nf4.keep
    quantize_checkpoint(folder, tmp_path / "out", parse_format("nf4"), exclude=nf4.keep)
    made = Checkpoint(tmp_path / "out")
    assert set(made.packed) == set(nf4.formats) and made.nbytes == nf4.model.nbytes
    assert made.source.config["quantization_config"]["llm_int8_skip_modules"] == nf4.skip_modules


def test_numbers_of_one_layer(study: Study, folder: Path, text: Path) -> None:
    """The same from the model with this weight replaced by what comes back from 4 bits."""
    name = "model.layers.0.self_attn.o_proj"
    found = next(one for one in study.layers if one.module == name and one.format == "nf4")
    model, windows = _windows(folder, text)
    changed = copy.deepcopy(model)
    weight = model.get_submodule(name).weight.detach()
    back = libbnb.dequantize_4bit(*libbnb.quantize_nf4(weight))
    changed.get_submodule(name).weight.data = back
    signal = noise = 0.0
    divergences: list[float] = []
    losses: list[float] = []
    for window in windows.study:
        seen: list[Any] = []
        hook = model.get_submodule(name).register_forward_hook(lambda _m, x, y, seen=seen: seen.extend((x[0], y)))
        with torch.no_grad():
            dense, other = (one(input_ids=window).logits[0].log_softmax(-1) for one in (model, changed))
        hook.remove()
        signal += float(seen[1].double().square().sum())
        noise += float((seen[0].double() @ (back - weight).double().T).square().sum())
        divergences.append(float((dense.exp() * (dense - other)).sum(-1).mean()))
        first, second = (-one[:-1].gather(1, window[0, 1:, None]).mean() for one in (dense, other))
        losses.append(float(second - first))
    # Products in float32 with 64 terms; the sums over the text are of values far above their rounding.
    assert found.output_error == pytest.approx(math.sqrt(noise / signal), rel=1e-4)
    assert found.sensitivity == pytest.approx(sum(divergences) / len(divergences), rel=1e-3)
    assert found.loss_increase == pytest.approx(sum(losses) / len(losses), rel=1e-2)
    assert found.weight_error == pytest.approx(float((back - weight).norm() / weight.norm()), rel=1e-5)
    assert found.output_error_weights_only is None


def test_int8_tells_weights_from_activations(study: Study) -> None:
    for one in study.layers:
        if one.format == "int8":
            assert one.output_error is not None and one.output_error_weights_only is not None
            assert 0 < one.output_error_weights_only < one.output_error
        assert one.dense_nbytes == 4 * one.elements > one.nbytes


def test_replay_changes_no_bit(study: Study, folder: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that were not run again gave what they would have given."""
    runs: list[int] = []
    real = Replay._number
    monkeypatch.setattr(Replay, "_number", lambda self, layer: (runs.append(real(self, layer)), 0)[1])
    again = study_model(folder, text, {"nf4": parse_format("nf4")}, windows=WINDOWS, window=LENGTH)
    assert 1 in runs
    assert again.layers == [one for one in study.layers if one.format == "nf4"]
    assert again.suggestions == [] and again.best is None


class _Adds(torch.nn.Module):
    """A block that changes its input in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        return x.add_(self.layer(x))


class _InPlace(torch.nn.Module):
    """A model of blocks that write over each other's outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(16, 8)
        self.blocks = torch.nn.ModuleList([_Adds(), _Adds(), _Adds()])
        self.head = torch.nn.Linear(8, 16)

    def forward(self, input_ids: Any, use_cache: bool = False) -> Any:
        x = self.embedding(input_ids)
        for block in self.blocks:
            x = block(x)
        return type("Output", (), {"logits": self.head(x)})


def test_replay_is_not_used_where_it_would_lie() -> None:
    torch.manual_seed(0)
    model, window = _InPlace(), torch.arange(10)[None]
    replay = Replay(model)
    replay.check(model, window, ["blocks.2.layer"])
    with replay.recording():
        before = predict(model, window, 0)
    with replay.before("blocks.2.layer"):
        assert torch.equal(predict(model, window, 0).log_probabilities, before.log_probabilities)


def test_divergence() -> None:
    """The definition in double precision: for large and for tiny changes, and for probabilities that are no float."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 40, generator=generator, dtype=torch.float64) * 4
    logits[0, 3], logits[1, 4] = -200.0, -math.inf
    for size in (3.0, 1e-1, 1e-3):
        other = logits + size * torch.randn(5, 40, generator=generator, dtype=torch.float64)
        p, q = logits.log_softmax(-1), other.log_softmax(-1)
        expected = float((p.exp() * (p - q)).nan_to_num().sum(-1).mean())
        found = Prediction(p.float(), 0.0).divergence_of(Prediction(q.float(), 0.0))
        # An error eps in log p, of 4, changes d by that much, and d is about as large as the change.
        assert found == pytest.approx(expected, rel=2 * 4 * 2**-23 / size + 1e-6)
    dense = Prediction(logits[:1].log_softmax(-1).float(), 0.0)
    wild = (100 * logits[:1].roll(1, -1)).log_softmax(-1)  # elements of either are e^-20000, or 0 in float32
    expected = float((dense.log_probabilities.double().exp() * (dense.log_probabilities.double() - wild)).sum())
    assert dense.divergence_of(Prediction(wild.float(), 0.0)) == pytest.approx(expected, rel=1e-5)
    assert dense.divergence_of(Prediction(wild.float() * math.nan, math.nan)) == math.inf


def test_replaced_puts_back_whatever_happens(folder: Path) -> None:
    model, _ = load_model(folder)
    before = model.get_submodule(PLANTED)
    with pytest.raises(RuntimeError), replaced(model, {PLANTED: torch.nn.Identity()}):
        assert model.get_submodule(PLANTED) is not before
        raise RuntimeError
    assert model.get_submodule(PLANTED) is before


def test_other_models(folder: Path, text: Path, tmp_path: Path) -> None:
    """GPT-2 has its weights transposed, and its checkpoint has names without the prefix of the model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    tokenizer = language_models.save_tokenizer(tmp_path)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=32, n_layer=2, n_head=2)
    GPT2LMHeadModel(config).to(torch.bfloat16).save_pretrained(tmp_path)
    formats = {"nf4:32+dq": parse_format("nf4:32+dq"), "int8": parse_format("int8")}
    found = study_model(tmp_path, text, formats, windows=1, window=64, exclude=["*.h.1.mlp*", "h.1.mlp*"])
    assert len(found.layers) == 2 * 6 and found.text["window_tokens"] == 31  # all that it has positions for
    for one in found.layers:
        limit = 0.2 if one.format != "int8" else 0.03  # a tenth is usual for 4 bits, a hundredth for int8 and bfloat16
        assert one.output_error is not None and 0 < one.output_error < limit


def test_other_windows(folder: Path, tmp_path: Path) -> None:
    _, tokenizer = load_model(folder)
    path = tmp_path / "text.txt"
    path.write_text(language_models.text(100))
    pieces = read_windows(path, tokenizer, 2, 20)
    assert pieces.prefix == 1 and pieces.held_out and pieces.tokens == 80
    whole = torch.cat([one[0, 1:] for one in (pieces.study[0], pieces.check[0], pieces.study[1], pieces.check[1])])
    assert tokenizer.convert_ids_to_tokens(whole.tolist()) == list(language_models.text(80))
    assert all(int(one[0, 0]) == tokenizer.bos_token_id for one in pieces.study)
    short = read_windows(path, tokenizer, 2, 400)
    assert not short.held_out and torch.equal(short.study[0], short.check[0]) and short.tokens == 100
    for content, words in ((b"", "has 0 tokens"), (b"a", "has 1 tokens"), (b"ab\xff", "no text in UTF-8")):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=words):
            read_windows(path, tokenizer, 2, 20)
    with pytest.raises(CheckpointError, match="no such file"):
        read_windows(tmp_path / "nothing.txt", tokenizer, 2, 20)


def test_formats_without_layers() -> None:
    assert settings_of(parse_format("fp8-e5m2:16")).fp8_quant_type == "fp8_e5m2"
    config = settings_of(parse_format("fp4:128+dq"))
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_blocksize, config.bnb_4bit_use_double_quant) == (
        "fp4",
        128,
        True,
    )

    class Other:
        name = "mystery"

    with pytest.raises(CheckpointError, match="mystery has no layers"):
        settings_of(Other())  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------------
# The budget


_options = st.lists(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=6), min_size=1, max_size=3
)


@settings(max_examples=300)
@given(_options, st.integers(0, 90))
def test_allocation(sizes_and_costs: list[list[tuple[int, int]]], limit: int) -> None:
    """Beside all combinations: it fits whenever one does, and loses less than one layer's step; none on its path."""
    options = {
        f"{i}": [Option(f"{j}", nbytes, float(cost)) for j, (nbytes, cost) in enumerate(layer)]
        for i, layer in enumerate(sizes_and_costs)
    }
    every = [
        (sum(one.nbytes for one in combination), sum(one.cost for one in combination))
        for combination in itertools.product(*options.values())
    ]
    fitting = [cost for nbytes, cost in every if nbytes <= limit]
    if not fitting:
        with pytest.raises(CheckpointError, match="the budget leaves"):
            allocate(options, limit)
        return
    found = allocate(options, limit)
    chosen = [next(one for one in options[name] if one.label == label) for name, label in found.labels.items()]
    assert found.nbytes == sum(one.nbytes for one in chosen) <= limit
    assert found.cost == sum(one.cost for one in chosen)
    largest_step = max(max(one.cost for one in layer) - min(one.cost for one in layer) for layer in options.values())
    assert found.cost <= min(fitting) + largest_step
    for nbytes, cost in found.path:
        assert cost == min(other for size, other in every if size <= nbytes)
    # No combination is below the straight lines between the steps of the path.
    sizes, costs = zip(*found.path, strict=True)
    assert all(cost >= np.interp(nbytes, sizes, costs) - 1e-9 for nbytes, cost in every if nbytes >= sizes[0])


def test_budgets() -> None:
    assert Budget(bits=4.5).limit(1000, 77) == 562
    assert Budget(nbytes=1000).limit(99, 300) == 700


# ---------------------------------------------------------------------------------------------------------------------
# The report


def test_report(study: Study, tmp_path: Path) -> None:
    """One file that needs nothing from elsewhere, with every layer, model and suggestion in it."""
    import base64
    from html.parser import HTMLParser

    tags: list[tuple[str, dict[str, str | None]]] = []
    said: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            tags.append((tag, dict(attrs)))

        def handle_data(self, data: str) -> None:
            said.append(data)

    write_report(study, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    html = (tmp_path / "report.html").read_text()
    assert html == as_html(study)
    Reader().feed(html)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags} and "http" not in html and "@import" not in html
    pictures = [attributes["src"] or "" for tag, attributes in tags if tag == "img"]
    assert len(pictures) == 3 + len(FORMATS)
    for picture in pictures:
        kind, _, data = picture.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")
    words = "\n".join(said)
    assert all(one.module in words for one in study.layers) and all(model.label in words for model in study.models)
    assert f"{PLANTED} (stays)" in words and "llm_int8_skip_modules=[" in words


def test_names_are_escaped(study: Study) -> None:
    import dataclasses

    strange = dataclasses.replace(study, model="<script>alert(1)</script>")
    assert "<script>" not in as_html(strange)


def test_a_model_that_breaks(study: Study) -> None:
    """What is no number ranks first, is nothing in JSON, and is in no suggestion that can do without."""
    import dataclasses

    broken = dataclasses.replace(study.layers[0], sensitivity=math.inf, loss_increase=math.nan)
    changed = dataclasses.replace(study, layers=[broken, *study.layers[1:]])
    assert changed.ranking(broken.format)[0] is broken
    document = json.loads(json.dumps(changed.as_dict(), allow_nan=False))
    assert document["layers"][0]["sensitivity"] is document["layers"][0]["loss_increase"] is None
    options = {"a": [Option("nf4", 5, math.inf), Option("int8", 9, 0.5), Option("dense", 32, 0.0)],
               "b": [Option("nf4", 5, math.inf), Option("dense", 30, 0.0)]}  # fmt: skip
    assert allocate(options, 39).labels == {"a": "int8", "b": "dense"}
    as_html(changed)


def test_json(study: Study) -> None:
    document = json.loads(json.dumps(study.as_dict(), allow_nan=False))
    assert len(document["layers"]) == 14 * len(FORMATS) and document["best"] == study.best.format
    assert document["budget"] == {"bits": 8.3, "nbytes": None}
    assert {"sensitivity", "output_error", "output_error_weights_only"} <= document["layers"][0].keys()
