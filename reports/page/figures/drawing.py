"""How every figure looks, and how it becomes SVG: the same results give the same bytes.

Every head keeps one marker, line style and colour throughout a report, so that no colour is needed.
Colours are written as CSS variables with a fallback, so that a page in light or dark dress can set
them and a file of its own still shows.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from reports.results.files import write_whole
from reports.terminal import printable

INK, GRID = "#1b1f24", "#d0d7de"
PANEL = (4.2, 3.0)
"""Inches of a figure of one axes."""
LEFT, RIGHT, BOTTOM, TOP = 0.8, 2.94, 0.45, 0.15
"""Inches: where its lines begin and end, and what is below and above them."""

COLOURS = (
    "#0b62a8",
    "#b84a00",
    "#00704f",
    "#a23a7c",
    "#7a5c00",
    "#5a3fb0",
    "#505050",
    "#a02020",
)
"""Contrast of at least 4.5 to 1 on white; the page's dark dress has its own."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
GLYPHS = ("●", "■", "◆", "▲", "▼", "✚", "✖", "★")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2, 1, 2)))

SETTINGS: Any = {
    "svg.fonttype": "none",
    # Names come from a file of somebody else: a dollar sign in one is no formula.
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
}
"""Any: matplotlib's own type for this lists every setting by name."""


@dataclass(frozen=True)
class Style:
    """How one head looks wherever it appears; `glyph` is its marker in running text."""

    index: int
    colour: str
    marker: str
    glyph: str
    dash: Any

    @property
    def hollow(self) -> bool:
        """Every other head's marker is hollow: points of two heads may lie on each other."""
        return self.index % 2 == 1

    @property
    def points(self) -> dict[str, Any]:
        """Its points in matplotlib's words."""
        face = "none" if self.hollow else self.colour
        return {"color": self.colour, "marker": self.marker, "markerfacecolor": face}


Looks = Mapping[str, Style]
"""The style of every head, or variant, that a page names."""


@dataclass(frozen=True)
class Picture:
    """A figure in a page: its SVG and what stands under it."""

    svg: str
    caption: str


def picture(figure: Figure, name: str, caption: str) -> Picture:
    """`figure` for a page; `name` is unique in it."""
    return Picture(svg(figure, name, caption), caption)


def styles(heads: Sequence[str]) -> dict[str, Style]:
    """A style for each head by its place: a new head gets the next one."""
    return {
        head: Style(
            index % len(COLOURS),
            COLOURS[index % len(COLOURS)],
            # After one round of colours, markers go on with another partner.
            MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
            GLYPHS[(index + index // len(COLOURS)) % len(GLYPHS)],
            DASHES[(index + index // len(COLOURS)) % len(DASHES)],
        )
        for index, head in enumerate(heads)
    }


def svg(figure: Figure, name: str, alt: str) -> str:
    """`figure` as an `<svg>` element to be put into a page.

    Args:
        figure: drawn under `SETTINGS`.
        name: unique in the page; every id in the element starts with it.
        alt: what a reader who cannot see the figure has to know.
    """
    buffer = io.StringIO()
    _make_printable(figure)
    with mpl.rc_context(SETTINGS | {"svg.hashsalt": printable(name)}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    variables = {INK: "--ink", GRID: "--grid"} | {
        colour: f"--head-{index}" for index, colour in enumerate(COLOURS)
    }
    text = re.sub(
        "|".join(variables), lambda found: f"var({variables[found[0]]}, {found[0]})", text
    )
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1).strip()


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as `path` with the suffixes .svg and .png, on white paper."""
    _make_printable(figure)
    with mpl.rc_context(SETTINGS | {"svg.hashsalt": printable(path.name)}):
        for suffix, metadata in (
            (".svg", {"Date": None, "Creator": None}),
            (".png", {"Software": None}),
        ):
            write = partial(
                figure.savefig,
                format=suffix[1:],
                facecolor="white",
                dpi=160,
                metadata=metadata,
            )
            write_whole(path.with_suffix(suffix), write)


def _make_printable(figure: Figure) -> None:
    """Names come from results files: half a character could not be drawn, nor be written."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(printable(text.get_text()))


def panel(names: Collection[str], rows: int = 1) -> tuple[Figure, Axes]:
    """A figure with one axes, and room for `names`, of so many rows each, beside its lines."""
    longest = max(map(len, names), default=0)
    width = max(PANEL[0], RIGHT + 0.4 + 0.065 * longest)
    height = max(PANEL[1], BOTTOM + _name_height(rows) * len(names) + TOP)
    lines = LEFT / width, BOTTOM / height, (RIGHT - LEFT) / width, 1 - (BOTTOM + TOP) / height
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height))
        return figure, figure.add_axes(lines)


def _name_height(rows: int) -> float:
    """Inches that a name of so many rows takes."""
    return 0.132 * rows + 0.024


def legend(
    figure: Figure, heads: Iterable[str], looks: Looks, upper_left: tuple[float, float]
) -> None:
    """The heads' lines and names."""
    named = list(heads)
    lines = [Line2D([], [], linestyle=looks[head].dash, **looks[head].points) for head in named]
    figure.legend(lines, named, loc="upper left", bbox_to_anchor=upper_left, frameon=False)


def name_lines(axes: Axes, ends: Sequence[tuple[float, str, str, Style]]) -> None:
    """Each head's marker and name beside its line's end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    log = axes.get_yscale() == "log"

    def height(y: float) -> float:
        if log:
            return (math.log(y) - math.log(low)) / (math.log(high) - math.log(low))
        return (y - low) / (high - low)

    rows = 2 if any(note for _, _, note, _ in ends) else 1
    gap = _name_height(rows) * axes.figure.dpi / axes.bbox.height
    ordered = sorted(ends, key=lambda end: end[0])
    places = [min(max(height(end[0]), 0.0), 1.0) for end in ordered]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + gap)
    # What was pushed over the top comes back down, and pushes what is below it.
    ceiling = 1 + gap / 4
    for index in reversed(range(len(places))):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - gap
    for place, (y, head, note, look) in zip(places, ordered, strict=True):
        target = min(max(height(y), 0.0), 1.0)
        axes.plot(
            [1.0, 1.035],
            [target, place],
            transform=axes.transAxes,
            color=look.colour,
            linewidth=0.7,
            clip_on=False,
        )
        axes.plot(
            [1.06],
            [place],
            transform=axes.transAxes,
            clip_on=False,
            **look.points,
        )
        axes.text(
            1.10,
            place,
            f"{head}\n{note}" if note else head,
            transform=axes.transAxes,
            va="center",
            fontsize=8,
            linespacing=1.1,
        )
