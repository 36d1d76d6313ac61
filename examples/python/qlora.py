# SPDX-License-Identifier: MIT
"""Fine-tunes a small language model with QLoRA, beside full fine-tuning: the loss, and the memory that it takes.

    python examples/python/qlora.py [--steps 40] [--plot docs/images/qlora.png] [--json benchmarks/results/qlora.json]

A Llama of a few million parameters learns English first, one character after the other: docstrings of Python's standard
library. Then it is to write Python, from the source code of the same modules: with all of its weights in training, or
with LoRA adapters on weights in NF4. Both go through transformers' Trainer, whose `optim` is a name of an 8-bit
optimizer, and neither needs bitsandbytes. Each run is a process of its own, which tells the most memory that it had
while it trained, over what it had before there was a model.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from language_model import MODULES, Characters, text
from machine import forget_peak, machine, peak_bytes, resident_bytes
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging

import libbnb
import libbnb.integrations.peft
from libbnb.integrations.transformers import optimizer_cls_and_kwargs
from libbnb.nn import get_memory_footprint

# glibc gives freed memory back at once, so that what a process has is what it uses.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

CONTEXT, BATCH, BASE_RATE = 64, 8, 2e-3
SIZES = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4}


@dataclass(frozen=True)
class Run:
    """A way to fine-tune."""

    optim: str
    rate: float
    quantized: bool


RUNS = {
    "all weights, AdamW": Run("adamw_torch", 5e-4, False),
    "all weights, AdamW8bit": Run("adamw_8bit", 5e-4, False),
    "QLoRA, AdamW8bit": Run("adamw_8bit", 3e-3, True),
}


def code(characters: Characters) -> str:
    """Source code of the standard library, in the characters that the model knows."""
    known = set(characters.all)
    sources = (inspect.getsource(importlib.import_module(name)) for name in MODULES)
    return "".join(c for c in "\n\n".join(sources) if c in known)


class Windows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Pieces from random places of a text, always the same ones."""

    def __init__(self, data: torch.Tensor, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.data = data
        self.starts = torch.randint(len(data) - CONTEXT, (count,), generator=generator).tolist()

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        piece = self.data[self.starts[index] : self.starts[index] + CONTEXT]
        return {"input_ids": piece, "labels": piece}


def train(model: Any, data: torch.Tensor, run: Run, steps: int) -> list[float]:
    """Trains a model with transformers' Trainer. Returns the losses."""
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, optim=run.optim, learning_rate=run.rate, max_steps=steps, per_device_train_batch_size=BATCH,
            lr_scheduler_type="cosine", warmup_steps=max(1, steps // 10), gradient_checkpointing=True, logging_steps=1,
            save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, seed=0,
        )  # fmt: skip
        chosen = optimizer_cls_and_kwargs(args, model) if "8bit" in run.optim else None
        windows = Windows(data, steps * BATCH, seed=1)
        trainer = Trainer(model, args, train_dataset=windows, optimizer_cls_and_kwargs=chosen)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@torch.no_grad()
def held_out_loss(model: Any, data: torch.Tensor) -> float:
    """The mean loss on text that was not trained on, nats per character."""
    model.eval()
    batches = torch.utils.data.DataLoader(Windows(data, 8 * BATCH, seed=2), batch_size=BATCH)
    return sum(float(model(**batch).loss) for batch in batches) / len(batches)


def make_base(folder: Path, characters: Characters, corpus: str, steps: int) -> dict[str, Any]:
    """Trains the model that is to be fine-tuned, and saves it."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(characters), **SIZES))
    losses = train(model, characters.encode(corpus), Run("adamw_torch", BASE_RATE, False), steps)
    model.save_pretrained(folder)
    return {"parameters": model.num_parameters(), "steps": steps, "loss": sum(losses[-10:]) / len(losses[-10:])}


def load(folder: Path, run: Run) -> Any:
    """The base; with adapters on quantized weights if that is the way."""
    if not run.quantized:
        return AutoModelForCausalLM.from_pretrained(folder)
    nf4 = libbnb.QuantizationConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=nf4)
    model = copy.deepcopy(model)  # transformers maps the file into memory: what is not quantized would keep all of it
    adapters = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(prepare_model_for_kbit_training(model), adapters)


def rehearse(run: Run, characters: int) -> None:
    """Does all of it with a tiny model, so that what is imported and set up on the way does not count as memory."""
    tiny = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(LlamaConfig(vocab_size=characters, **tiny)).save_pretrained(folder)
        train(load(Path(folder), run), torch.arange(2 * CONTEXT) % characters, run, 2)


def fine_tune(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """One run, in a process that does nothing else."""
    run = RUNS[name]
    characters = Characters(text())
    data = characters.encode(code(characters))
    training, other = data[: -len(data) // 10], data[-len(data) // 10 :]
    rehearse(run, len(characters))
    torch.manual_seed(0)
    before = resident_bytes()
    model = load(folder, run)
    found: dict[str, Any] = {
        "run": name,
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "model_bytes": get_memory_footprint(model),
        "before": held_out_loss(model, other),
    }
    forget_peak()
    start = time.perf_counter()
    found["losses"] = train(model, training, run, steps)
    found["seconds"] = time.perf_counter() - start
    found["peak_bytes"] = peak_bytes() - before
    found["after"] = held_out_loss(model, other)
    return found


def in_a_process(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """`fine_tune`, elsewhere."""
    out = folder / "run.json"
    command = [sys.executable, __file__, "--steps", str(steps), "--run", name, "--base", str(folder)]
    subprocess.run([*command, "--json", str(out)], check=True, env=os.environ | ALLOCATOR)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def smooth(losses: list[float], over: int = 5) -> list[float]:
    """Means of the last `over` losses."""
    return [sum(losses[max(0, i - over + 1) : i + 1]) / min(i + 1, over) for i in range(len(losses))]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained", width_ratios=[2, 1])
    for row, style in zip(rows, ("-", "--", "-"), strict=True):
        left.plot(smooth(row["losses"]), style, label=row["run"])
        right.bar(row["run"].replace(", ", ",\n"), row["peak_bytes"] / 1e6)
    left.set(xlabel="step", ylabel="loss, nats per character", title="Fine-tuning a small Llama")
    left.legend()
    left.grid(alpha=0.3)
    right.set(ylabel="megabytes", title="Memory while training")
    right.tick_params(axis="x", labelsize=7)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def compare(folder: Path, steps: int) -> Iterator[dict[str, Any]]:
    for name in RUNS:
        row = in_a_process(name, folder, steps)
        sizes = f"{row['trained']:>12,}{row['model_bytes'] / 1e6:>8.1f} MB"
        result = f"{row['before']:>9.3f}{row['after']:>9.3f}{row['peak_bytes'] / 1e6:>9.1f} MB{row['seconds']:>8.1f} s"
        print(f"{name:24}{sizes}{result}", flush=True)
        yield row


def main() -> int:
    warnings.filterwarnings("ignore", category=FutureWarning)  # PEFT calls a method of transformers by its old name
    logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="of fine-tuning")
    parser.add_argument("--base-steps", type=int, default=120)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        arguments.json.write_text(json.dumps(fine_tune(arguments.run, arguments.base, arguments.steps)))
        return 0
    corpus = text()
    characters = Characters(corpus)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        base = make_base(Path(name), characters, corpus, arguments.base_steps)
        print(f"a Llama of {base['parameters']:,} parameters, which reads English with a loss of {base['loss']:.3f}")
        print(f"{'':24}{'trained':>12}{'model':>11}{'before':>9}{'after':>9}{'memory':>12}{'time':>10}")
        rows = list(compare(Path(name), arguments.steps))
    if arguments.plot:
        plot(rows, arguments.plot)
    if arguments.json:
        document = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "base": base, "steps": arguments.steps}
        arguments.json.write_text(json.dumps(document | {"rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
