# SPDX-License-Identifier: MIT
"""Just enough SVG for the pictures of docs/concepts.md. Lengths are in pixels."""

from __future__ import annotations

from html import escape
from pathlib import Path

DARK, GREY, LIGHT, BLUE, ORANGE, GREEN = "#263238", "#78909c", "#eceff1", "#3949ab", "#ef6c00", "#2e7d32"
FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"


def number(value: float) -> str:
    """At most two digits behind the point, so that every machine writes the same file."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def blend(colour: str, share: float) -> str:
    """The colour on white: share 0 is white, 1 the colour itself."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 + (part - 255) * share):02x}" for part in parts)


class Picture:
    def __init__(self, width: int, height: int, title: str) -> None:
        self.title = title
        self.size = (width, height)
        self.parts: list[str] = []

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str,
        stroke: str = "none",
        thick: float = 1,
        rx: float = 0,
    ) -> None:
        box = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
        line = "" if stroke == "none" else f' stroke="{stroke}" stroke-width="{number(thick)}"'
        round_ = f' rx="{number(rx)}"' if rx else ""
        self.parts.append(f'<rect {box} fill="{fill}"{line}{round_}/>')

    def line(
        self, x1: float, y1: float, x2: float, y2: float, stroke: str = GREY, thick: float = 1, dash: str = ""
    ) -> None:
        ends = f'x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"'
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<line {ends} stroke="{stroke}" stroke-width="{number(thick)}"{dashes}/>')

    def path(
        self, points: list[tuple[float, float]], stroke: str = "none", fill: str = "none", thick: float = 1.5
    ) -> None:
        steps = "L".join(f"{number(x)} {number(y)}" for x, y in points)
        self.parts.append(f'<path d="M{steps}" stroke="{stroke}" fill="{fill}" stroke-width="{number(thick)}"/>')

    def dot(self, x: float, y: float, radius: float, fill: str) -> None:
        self.parts.append(f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="{fill}"/>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 12,
        fill: str = DARK,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        style = f'font-size="{number(size)}" fill="{fill}" text-anchor="{anchor}"{weight}'
        self.parts.append(f'<text x="{number(x)}" y="{number(y)}" {style}>{escape(words)}</text>')

    def arrow(self, x1: float, y1: float, x2: float, y2: float, stroke: str = GREY) -> None:
        """Down or to the right."""
        self.line(x1, y1, x2, y2, stroke, 1.5)
        if x1 == x2:
            self.path([(x2 - 4, y2 - 6), (x2, y2), (x2 + 4, y2 - 6)], stroke)
        else:
            self.path([(x2 - 6, y2 - 4), (x2, y2), (x2 - 6, y2 + 4)], stroke)

    def svg(self) -> str:
        width, height = self.size
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="{FONT}">'
        )
        ground = f'<rect width="{width}" height="{height}" fill="#ffffff" rx="6"/>'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", ground, *self.parts, "</svg>", ""])

    def save(self, path: Path) -> None:
        path.write_text(self.svg(), encoding="utf-8")
