# SPDX-License-Identifier: MIT
"""A Llama in NF4 on the CPU through transformers and bitsandbytes, with the plug-in and without it.

    python benchmarks/plugin.py [--layers 12] [--rounds 3] [--tokens 16]

Writes benchmarks/results/plugin.json. The model has random weights and is loaded with BitsAndBytesConfig. Two processes
of it, one with the plug-in turned off, measure in turn: one works while the other waits. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from common import save

PROMPT = 256
TRAINED = (1, 128)  # sequences and tokens of a step
SIZES = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_key_value_heads": 16}
VOCABULARY = 8192
SEED = 1


def make_model(folder: str, layers: int) -> int:
    """Saves the model in bfloat16; the number of its parameters."""
    import torch
    import transformers

    torch.manual_seed(SEED)
    config = transformers.LlamaConfig(
        **SIZES, num_hidden_layers=layers, vocab_size=VOCABULARY, max_position_embeddings=2 * PROMPT
    )
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def load_model(folder: str) -> Any:
    import torch
    import transformers

    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=config, dtype=torch.bfloat16, device_map="cpu"
    )


def adapted_class() -> Any:
    import torch

    class Adapted(torch.nn.Module):
        """LoRA of rank 16 in float32: what peft does, in a few lines."""

        def __init__(self, base: Any) -> None:
            super().__init__()
            self.base = base
            self.down = torch.nn.Parameter(torch.randn(16, base.in_features) / base.in_features**0.5)
            self.up = torch.nn.Parameter(torch.zeros(base.out_features, 16))

        def forward(self, x: Any) -> Any:
            extra = torch.nn.functional.linear(torch.nn.functional.linear(x.float(), self.down), self.up)
            return self.base(x) + 2.0 * extra.to(x.dtype)

    return Adapted


def replace_layers(model: Any, wanted: Callable[[Any], bool], make: Callable[[Any], Any]) -> None:
    for name, layer in [(name, layer) for name, layer in model.named_modules() if wanted(layer)]:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, make(layer))


def add_adapters(model: Any) -> list[Any]:
    """Adapters on all quantized layers; their parameters, the only ones that are trained."""
    import bitsandbytes

    for p in model.parameters():
        p.requires_grad_(False)
    replace_layers(model, lambda layer: isinstance(layer, bitsandbytes.nn.Linear4bit), adapted_class())
    return [p for p in model.parameters() if p.requires_grad]


def remove_adapters(model: Any) -> None:
    replace_layers(model, lambda layer: hasattr(layer, "down") and hasattr(layer, "up"), lambda layer: layer.base)


class Work:
    """What one process measures."""

    def __init__(self, folder: str, tokens: int) -> None:
        import bitsandbytes
        import torch

        self.torch, self.tokens = torch, tokens
        torch.manual_seed(SEED)
        start = time.perf_counter()
        self.model = load_model(folder).train()
        self.load_seconds = time.perf_counter() - start
        self.prompt = torch.randint(0, VOCABULARY, (1, PROMPT))
        self.batch = torch.randint(0, VOCABULARY, TRAINED)
        self.optimizer = bitsandbytes.optim.AdamW8bit(add_adapters(self.model), lr=1e-4)
        self.losses: list[float] = []

    def infer(self) -> bool:
        """Ends training: stock weights cannot be trained with once they were evaluated on a CPU with AVX-512 BF16."""
        remove_adapters(self.model)
        self.model.eval()
        return True

    def prefill(self) -> float:
        """Tokens of a prompt a second."""
        with self.torch.inference_mode():
            start = time.perf_counter()
            self.model(self.prompt, use_cache=True, logits_to_keep=1)
            return PROMPT / (time.perf_counter() - start)

    def decode(self) -> float:
        """New tokens a second, one at a time, after a short prompt."""
        with self.torch.inference_mode():
            out = self.model(self.prompt[:, :32], use_cache=True, logits_to_keep=1)
            cache, token = out.past_key_values, out.logits[:, -1:].argmax(-1)
            start = time.perf_counter()
            for _ in range(self.tokens):
                out = self.model(token, past_key_values=cache, use_cache=True)
                cache, token = out.past_key_values, out.logits[:, -1:].argmax(-1)
            return self.tokens / (time.perf_counter() - start)

    def qlora(self) -> float:
        """Seconds of a step of fine-tuning: forward, backward, and 8-bit AdamW."""
        start = time.perf_counter()
        loss = self.model(input_ids=self.batch, labels=self.batch).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(loss.item())
        return time.perf_counter() - start

    def quantize(self) -> float:
        """Seconds to quantize one weight of the size of the largest."""
        import bitsandbytes

        weight = self.torch.randn(SIZES["intermediate_size"], SIZES["hidden_size"], dtype=self.torch.bfloat16)
        start = time.perf_counter()
        bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
        return time.perf_counter() - start


PHASES = (("qlora", "quantize"), ("prefill", "decode"))  # between them, the model goes from training to inference


def serve(folder: str, tokens: int, plugin: bool) -> None:
    """A process that measures what it is asked for, a name a line, and answers with a number."""
    os.environ["LIBBNB_PLUGIN"] = str(int(plugin))  # benchmarks turn it off
    logging.disable(logging.WARNING)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    work = Work(folder, tokens)

    from libbnb.integrations.bitsandbytes import status

    calls: dict[str, Callable[[], Any]] = {name: getattr(work, name) for phase in PHASES for name in phase}
    calls |= {
        "active": lambda: status().active,
        "load": lambda: work.load_seconds,
        "losses": lambda: work.losses,
        "infer": work.infer,
    }
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(calls[line.strip()]()), file=answers, flush=True)


class Process:
    """A process that serves, with the plug-in or without."""

    def __init__(self, folder: str, tokens: int, plugin: bool) -> None:
        command = [sys.executable, __file__, "--serve", folder, "--tokens", str(tokens), *["--plugin"] * plugin]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()
        if self.ask("active") is not plugin:
            raise RuntimeError(
                f"the plug-in is {'not ' * plugin}active in the process where it should {'' if plugin else 'not '}be"
            )

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended: {self.process.wait()}")
        return line

    def ask(self, name: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return json.loads(self._answer())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def measure(folder: str, tokens: int, rounds: int) -> dict[str, Any]:
    processes = {"libbnb": Process(folder, tokens, True), "bitsandbytes": Process(folder, tokens, False)}
    found: dict[str, dict[str, list[float]]] = {who: {} for who in processes}
    for phase in PHASES:
        for round_ in range(rounds + 1):  # the first is not counted: caches fill, and bitsandbytes rewrites its weights
            for name in phase:
                for who, process in processes.items():
                    value = process.ask(name)
                    print(f"round {round_} {name:8} {who:12} {value:.3f}", flush=True)
                    if round_:
                        found[who].setdefault(name, []).append(value)
        for process in processes.values():
            process.ask("infer")
    rows: dict[str, Any] = {}
    for who, process in processes.items():
        rows[who] = {name: statistics.median(values) for name, values in found[who].items()}
        rows[who]["load"], rows[who]["losses"] = process.ask("load"), process.ask("losses")
        process.close()
    return rows


def describe() -> None:
    """Imports what the result file names the versions of."""
    import bitsandbytes  # noqa: F401
    import torch  # noqa: F401

    import libbnb  # noqa: F401


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=16, help="new tokens of a round")
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    parser.add_argument("--plugin", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.tokens, arguments.plugin)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        parameters = make_model(folder, arguments.layers)
        print(f"{parameters / 1e6:.0f} million parameters", flush=True)
        rows = measure(folder, arguments.tokens, arguments.rounds)
    describe()
    document = {"parameters": parameters, "prompt": PROMPT, "trained_tokens": TRAINED[0] * TRAINED[1], **rows}
    print(save("plugin", document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
