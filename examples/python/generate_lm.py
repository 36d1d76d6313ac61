# SPDX-License-Identifier: MIT
"""Trains a small character-level language model, quantizes it, and lets it write: perplexity, text and speed.

    python examples/python/generate_lm.py [--steps 1000] [--wide 2048] [--json benchmarks/results/generation.json]

Perplexity is that of held-out text, per character. Speed is that of writing one character after the other with a cache
of keys and values; it is measured on a wide model with random weights too, because the small one fits into caches.
bitsandbytes takes part where it is installed.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import by_bitsandbytes
import torch
import torch.nn.functional as F
from language_model import Characters, LanguageModel, loss_on, text
from machine import machine

from libbnb.nn import QuantizationConfig, get_memory_footprint, quantize_model

CONTEXT, HEADS, RATE, WARM_UP = 96, 4, 2e-3, 50
WIDE_LAYERS, WIDE_HEADS, NEW_CHARACTERS = 4, 16, 64
PROMPT = "Return the "

Change = Callable[[LanguageModel], Any]


def variants() -> dict[str, Change]:
    """What is compared: a name, and what makes it of the model."""
    double = QuantizationConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    found: dict[str, Change] = {"dense": lambda model: model}
    for name, config in {"nf4": "nf4", "nf4, double quant": double, "fp4": "fp4", "int8": "int8", "fp8": "fp8"}.items():
        found[f"libbnb {name}"] = lambda model, config=config: quantize_model(model, config)
    for kind in by_bitsandbytes.FORMATS:
        found[f"bitsandbytes {kind}"] = lambda model, kind=kind: by_bitsandbytes.quantize(model, layers(model), kind)
    return found


def layers(model: LanguageModel) -> list[str]:
    """The layers that `quantize_model` quantizes: all but the head."""
    return [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and name != "head"]


def train(data: torch.Tensor, characters: int, width: int, depth: int, steps: int) -> LanguageModel:
    """A model that has learned from a text."""
    torch.manual_seed(0)
    model = LanguageModel(characters, width, depth, HEADS, CONTEXT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP, 1.1 - step / steps)
    )
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        loss = loss_on(model, data, generator, CONTEXT)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {float(loss.detach()):.3f}", flush=True)
    return model.eval()


@torch.no_grad()
def perplexity(model: LanguageModel, data: torch.Tensor, windows: int) -> float:
    """e to the mean loss over consecutive windows of a text, per character."""
    rows = data[: windows * CONTEXT + 1]
    inputs, targets = rows[:-1].view(-1, CONTEXT), rows[1:].view(-1, CONTEXT)
    return math.exp(float(F.cross_entropy(model(inputs).float().flatten(0, 1), targets.flatten())))


class Writer:
    """Writes the likeliest continuation of a prompt, one character at a time, with a cache of keys and values."""

    @torch.no_grad()
    def __init__(self, model: LanguageModel, prompt: torch.Tensor) -> None:
        self.model, self.caches = model, model.new_caches(1)
        self.last = model(prompt[None], self.caches)[:, -1].argmax(-1)
        self.written = [self.last]

    @torch.no_grad()
    def step(self) -> None:
        self.last = self.model(self.last[None], self.caches)[:, -1].argmax(-1)
        self.written.append(self.last)


def write(model: LanguageModel, prompt: torch.Tensor, count: int) -> torch.Tensor:
    """The next characters behind a prompt."""
    writer = Writer(model, prompt)
    while len(writer.written) < count:
        writer.step()
    return torch.cat(writer.written)


def speeds(models: dict[str, LanguageModel], prompt: torch.Tensor) -> dict[str, float]:
    """Characters a second of each model: medians, while all take turns character by character.

    So a noisy moment hits all of them alike, and each finds its weights in memory and not in a cache.
    """
    writers = {name: Writer(model, prompt) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(NEW_CHARACTERS):
        for name, writer in writers.items():
            start = time.perf_counter()
            writer.step()
            times[name].append(time.perf_counter() - start)
    return {name: 1 / statistics.median(values) for name, values in times.items()}


def compare(model: LanguageModel, held_out: torch.Tensor, characters: Characters, windows: int) -> list[dict[str, Any]]:
    """Perplexity, text and speed of the trained model as it is and quantized."""
    prompt = characters.encode(PROMPT)
    changed = {name: change(copy.deepcopy(model)) for name, change in variants().items()}
    measured = speeds(changed, prompt)
    rows: list[dict[str, Any]] = []
    print(f"\n{'float32':24}{'perplexity':>11}{'megabytes':>11}{'characters/s':>14}   what it writes")
    for name, quantized in changed.items():
        result = {
            "variant": name,
            "perplexity": perplexity(quantized, held_out, windows),
            "bytes": get_memory_footprint(quantized) if "bitsandbytes" not in name else None,
            "tokens_per_second": measured[name],
            "text": PROMPT + characters.decode(write(quantized, prompt, 60)),
        }
        rows.append(result)
        size = f"{result['bytes'] / 1e6:.2f}" if result["bytes"] else ""
        words = result["text"].replace("\n", " ")
        print(
            f"{name:24}{result['perplexity']:11.4f}{size:>11}{result['tokens_per_second']:14.1f}   {words}", flush=True
        )
    return rows


def compare_wide(width: int, characters: Characters) -> list[dict[str, Any]]:
    """Speed of a wide model with random weights, in bfloat16."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = LanguageModel(len(characters), width, WIDE_LAYERS, WIDE_HEADS, CONTEXT).eval().bfloat16()
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    prompt = characters.encode(PROMPT)
    changed = {name: change(copy.deepcopy(model)) for name, change in variants().items()}
    measured = speeds(changed, prompt)
    print(f"\n{'bfloat16, width ' + str(width):24}{'megabytes':>11}{'characters/s':>14}{'against dense':>15}")
    rows: list[dict[str, Any]] = []
    for name, speed in measured.items():
        rows.append({
            "variant": name,
            "bytes": get_memory_footprint(changed[name]) if "bitsandbytes" not in name else None,
            "tokens_per_second": speed,
            "against_dense": speed / measured["dense"],
        })  # fmt: skip
        kind = name.removeprefix("libbnb ").partition(",")[0]
        if name.startswith("libbnb") and f"bitsandbytes {kind}" in measured:
            rows[-1]["against_bitsandbytes"] = speed / measured[f"bitsandbytes {kind}"]
        size = f"{rows[-1]['bytes'] / 1e6:.1f}" if rows[-1]["bytes"] else ""
        print(f"{name:24}{size:>11}{speed:14.1f}{speed / measured['dense']:14.2f}x")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument(
        "--windows", type=int, default=100, help="windows of held-out text that perplexity is taken over"
    )
    parser.add_argument("--wide", type=int, default=2048, help="width of the model with random weights; 0: none")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    corpus = text()
    characters = Characters(corpus)
    data = characters.encode(corpus)
    held_out = len(data) // 10
    print(f"{len(corpus):,} characters, {len(characters)} different ones")
    model = train(data[:-held_out], len(characters), arguments.width, arguments.layers, arguments.steps)
    windows = min(arguments.windows, (held_out - 1) // CONTEXT)
    document: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "steps": arguments.steps,
        "width": arguments.width,
        "layers": arguments.layers,
        "rows": compare(model, data[-held_out:], characters, windows),
    }
    if arguments.wide:
        document["wide"] = {"width": arguments.wide, "layers": WIDE_LAYERS, "dtype": "bfloat16"}
        document["wide"]["rows"] = compare_wide(arguments.wide, characters)
    document["machine"] = machine()
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
