# SPDX-License-Identifier: MIT
"""Trains a small character-level language model with PyTorch's AdamW, libbnb's AdamW8bit and, where it is installed,
bitsandbytes' AdamW8bit, and plots the losses beside each other.

    python examples/python/train_lm.py [--steps 300] [--plot docs/images/optimizers.png]
                                       [--json benchmarks/results/convergence.json]

The text is that of docstrings of Python's standard library. Every run starts from the same weights and sees the same
batches.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import libbnb.optim

CONTEXT, WIDTH, LAYERS, HEADS, BATCH = 64, 128, 2, 4, 16
MODULES = (
    "argparse", "collections", "difflib", "inspect", "logging", "os", "pathlib", "random", "statistics", "subprocess",
    "textwrap", "threading", "typing", "unittest", "urllib.request", "zipfile",
)  # fmt: skip
RATE, WARM_UP = 2e-3, 20


def text() -> str:
    """Docstrings of the standard library, in a fixed order."""
    found: list[str] = []
    for name in MODULES:
        module = importlib.import_module(name)
        objects = [
            module,
            *(
                value
                for _, value in sorted(vars(module).items())
                if inspect.isclass(value) or inspect.isfunction(value)
            ),
        ]
        found += [inspect.getdoc(value) or "" for value in objects if getattr(value, "__module__", name) == name]
        for value in objects[1:]:
            members = sorted(vars(value).items()) if inspect.isclass(value) else []
            found += [inspect.getdoc(member) or "" for _, member in members if inspect.isfunction(member)]
    return "".join(c for c in "\n\n".join(found) if c == "\n" or " " <= c <= "~")


class Block(torch.nn.Module):
    """Attention to what came before, and a feed-forward network."""

    def __init__(self) -> None:
        super().__init__()
        self.before = torch.nn.LayerNorm(WIDTH)
        self.between = torch.nn.LayerNorm(WIDTH)
        self.mix = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.out = torch.nn.Linear(WIDTH, WIDTH)
        self.up = torch.nn.Linear(WIDTH, 4 * WIDTH)
        self.down = torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        q, k, v = (
            part.view(rows, length, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in self.mix(self.before(x)).chunk(3, dim=-1)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(rows, length, WIDTH)
        x = x + self.out(seen)
        return x + self.down(F.gelu(self.up(self.between(x))))


class LanguageModel(torch.nn.Module):
    """A decoder over characters."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding(characters, WIDTH)
        self.places = torch.nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        self.blocks = torch.nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.last = torch.nn.LayerNorm(WIDTH)
        self.head = torch.nn.Linear(WIDTH, characters, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.blocks(self.tokens(x) + self.places[: x.shape[1]])))


Make = Callable[[Any], torch.optim.Optimizer]


def optimizers() -> dict[str, Make]:
    """What is compared, by the name in the plot."""
    rates = {"lr": RATE, "betas": (0.9, 0.99), "weight_decay": 0.1}
    found: dict[str, Make] = {
        "PyTorch AdamW, fp32": lambda params: torch.optim.AdamW(params, **rates),
        "libbnb AdamW8bit": lambda params: libbnb.optim.AdamW8bit(params, **rates),
    }
    if importlib.util.find_spec("bitsandbytes") is not None:
        import bitsandbytes

        found["bitsandbytes AdamW8bit"] = lambda params: bitsandbytes.optim.AdamW8bit(params, **rates)
    return found


def train(make: Make, data: torch.Tensor, characters: int, steps: int) -> dict[str, Any]:
    """Losses of a run, the mean loss on held-out text after it, and the seconds that the optimizer took."""
    torch.manual_seed(0)
    model = LanguageModel(characters)
    optimizer = make(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP, 1.1 - step / steps)
    )
    held_out = len(data) // 10
    training, other = data[:-held_out], data[-held_out:]
    generator = torch.Generator().manual_seed(1)
    losses: list[float] = []
    stepping = 0.0
    for _ in range(steps):
        loss = loss_on(model, training, generator)
        optimizer.zero_grad()
        loss.backward()
        start = time.perf_counter()
        optimizer.step()
        stepping += time.perf_counter() - start
        schedule.step()
        losses.append(float(loss.detach()))
    generator.manual_seed(2)
    with torch.no_grad():
        final = sum(float(loss_on(model, other, generator)) for _ in range(10)) / 10
    return {"losses": losses, "held_out_loss": final, "optimizer_seconds": stepping}


def loss_on(model: LanguageModel, data: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    starts = torch.randint(len(data) - CONTEXT - 1, (BATCH,), generator=generator)
    rows = torch.stack([data[start : start + CONTEXT + 1] for start in starts.tolist()])
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


def smooth(losses: list[float], over: int = 10) -> list[float]:
    """Means of the last `over` losses."""
    return [sum(losses[max(0, i - over + 1) : i + 1]) / min(i + 1, over) for i in range(len(losses))]


def plot(runs: dict[str, dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for (name, run), style in zip(runs.items(), ("-", "--", ":"), strict=False):
        axes.plot(smooth(run["losses"]), style, label=f"{name} (held out: {run['held_out_loss']:.3f})")
    axes.set(xlabel="step", ylabel="loss, nats per character", title="A character-level language model")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    corpus = text()
    alphabet = sorted(set(corpus))
    index = {c: i for i, c in enumerate(alphabet)}
    data = torch.tensor([index[c] for c in corpus])
    print(f"{len(corpus):,} characters, {len(alphabet)} different ones")
    runs: dict[str, dict[str, Any]] = {}
    for name, make in optimizers().items():
        run = runs[name] = train(make, data, len(alphabet), arguments.steps)
        ends = f"last losses {smooth(run['losses'])[-1]:.4f}  held out {run['held_out_loss']:.4f}"
        print(f"{name:24} {ends}  optimizer {run['optimizer_seconds']:.2f} s", flush=True)
    if arguments.plot:
        plot(runs, arguments.plot)
    if arguments.json:
        versions = {"torch": torch.__version__, "python": sys.version.split()[0]}
        document = {"date": time.strftime("%Y-%m-%d"), "versions": versions, "characters": len(corpus), "runs": runs}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
