# SPDX-License-Identifier: MIT
"""Trains a small character-level language model with PyTorch's AdamW, libbnb's AdamW8bit and, where it is installed,
bitsandbytes' AdamW8bit, and plots the losses beside each other.

    python examples/python/train_lm.py [--steps 300] [--plot docs/images/optimizers.png]
                                       [--json benchmarks/results/convergence.json]

The model and its text are those of language_model.py. Every run starts from the same weights and sees the same batches.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import by_bitsandbytes
import torch
from language_model import Characters, LanguageModel, loss_on, text

import libbnb.optim

RATE, WARM_UP = 2e-3, 20

Make = Callable[[Any], torch.optim.Optimizer]


def optimizers() -> dict[str, Make]:
    """What is compared, by the name in the plot."""
    rates = {"lr": RATE, "betas": (0.9, 0.99), "weight_decay": 0.1}
    found: dict[str, Make] = {
        "PyTorch AdamW, fp32": lambda params: torch.optim.AdamW(params, **rates),
        "libbnb AdamW8bit": lambda params: libbnb.optim.AdamW8bit(params, **rates),
    }
    if by_bitsandbytes.FORMATS:  # it is installed
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
    characters = Characters(corpus)
    data = characters.encode(corpus)
    print(f"{len(corpus):,} characters, {len(characters)} different ones")
    runs: dict[str, dict[str, Any]] = {}
    for name, make in optimizers().items():
        run = runs[name] = train(make, data, len(characters), arguments.steps)
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
