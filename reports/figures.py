"""The figures of a report as SVG: the same results give the same bytes, and no colour is needed.

Every head keeps one marker, line style and colour throughout a report. Colours are written as CSS
variables with a fallback, so that a page in light or dark dress can set them and a file of its own
still shows.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from reports import units
from reports.results import Training
from reports.statistics import Interval
from reports.trained import Trained

INK, GRID = "#1b1f24", "#d0d7de"
PANEL = (4.2, 3.0)

# Contrast of at least 4.5 to 1 on white; the page's dark dress has its own.
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
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
GLYPHS = ("●", "■", "◆", "▲", "▼", "✚", "✖", "★")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2, 1, 2)))

# Any: matplotlib's own type for this lists every setting by name.
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


@dataclass(frozen=True)
class Series:
    """One head's points against the number of classes.

    Attributes:
        curve: fitted y for an array of class counts; None where nothing fits.
        note: what follows the head's name beside its line.
    """

    head: str
    classes: Sequence[int]
    values: Sequence[Interval]
    curve: Callable[[np.ndarray], np.ndarray] | None = None
    note: str = ""


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
        figure: drawn by this module.
        name: unique in the page; every id in the element starts with it.
        alt: what a reader who cannot see the figure has to know.
    """
    buffer = io.StringIO()
    with mpl.rc_context(SETTINGS | {"svg.hashsalt": name}):
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


def _panel(size: tuple[float, float] = PANEL, right: float = 0.70) -> tuple[Figure, Axes]:
    """A figure with one axes and room for names at its right."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=size)
        axes = figure.add_axes((0.16, 0.15, right - 0.16, 0.80))
    return figure, axes


def against_classes(
    series: Sequence[Series],
    looks: Mapping[str, Style],
    y_label: str,
    unit: Callable[[float], str],
    limits: tuple[float, float] | None = None,
    marks: Mapping[str, Interval] | None = None,
) -> Figure:
    """Log-log: points with intervals, the fitted curve of each head, its name at the right end.

    Args:
        series: a line per head.
        looks: style of each head.
        y_label: what is drawn.
        unit: writes a value of it.
        limits: of the y axis, where panels share one.
        marks: class counts to mark on the axis with a head's marker and an interval.
    """
    figure, axes = _panel()
    with mpl.rc_context(SETTINGS):
        _draw(axes, series, looks, unit, limits)
        for head, at in (marks or {}).items():
            _mark_axis(axes, at, looks[head])
        axes.set_xlabel("classes")
        axes.set_ylabel(y_label)
        ends = [(one.values[-1].estimate, one.head, one.note, looks[one.head]) for one in series]
        _name_lines(axes, ends)
    return figure


def overview(
    panels: Mapping[str, Sequence[Series]], looks: Mapping[str, Style], title: str
) -> Figure:
    """Seconds against classes, a small panel per phase on one scale, one legend: for a README.

    Args:
        panels: title of the panel -> a line per head; at most five.
        looks: style of each head.
        title: of the whole.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(9.0, 5.6))
        figure.suptitle(title, x=0.07, ha="left", fontsize=11)
        room = {"left": 0.07, "right": 0.98, "top": 0.87, "hspace": 0.42, "wspace": 0.3}
        grid = list(figure.subplots(2, 3, gridspec_kw=room).flat)
        common = axis_limits(one for series in panels.values() for one in series)
        heads = dict.fromkeys(one.head for series in panels.values() for one in series)
        for axes, (name, series) in zip(grid, panels.items(), strict=False):
            _draw(axes, series, looks, units.seconds, common)
            axes.set_title(name, loc="left", fontsize=9)
            axes.set_xlabel("classes")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        lines = [
            Line2D(
                [],
                [],
                color=look.colour,
                linestyle=look.dash,
                marker=look.marker,
                markerfacecolor=_fill(look),
            )
            for look in (looks[head] for head in heads)
        ]
        box = grid[-1].get_position()
        figure.legend(
            lines, list(heads), loc="upper left", bbox_to_anchor=(box.x0, box.y1), frameon=False
        )
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as `path` with the suffixes .svg and .png, on white paper."""
    with mpl.rc_context(SETTINGS | {"svg.hashsalt": path.name}):
        for suffix, metadata in (
            (".svg", {"Date": None, "Creator": None}),
            (".png", {"Software": None}),
        ):
            figure.savefig(path.with_suffix(suffix), facecolor="white", dpi=160, metadata=metadata)


def _draw(
    axes: Axes,
    series: Sequence[Series],
    looks: Mapping[str, Style],
    unit: Callable[[float], str],
    limits: tuple[float, float] | None,
) -> None:
    """Points, intervals and curves on logarithmic axes."""
    for one in series:
        look = looks[one.head]
        n = np.array(one.classes, dtype=float)
        y = np.array([value.estimate for value in one.values])
        low = y - np.array([value.low for value in one.values])
        high = np.array([value.high for value in one.values]) - y
        axes.errorbar(
            n,
            y,
            yerr=np.maximum([low, high], 0),
            fmt=look.marker,
            color=look.colour,
            markerfacecolor=_fill(look),
            elinewidth=1,
            capsize=2,
        )
        if one.curve is not None and len(n) > 1:
            line = np.geomspace(n.min(), n.max(), 60)
            axes.plot(line, one.curve(line), color=look.colour, linestyle=look.dash)
        else:
            axes.plot(n, y, color=look.colour, linestyle=look.dash, linewidth=0.7)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _class_ticks(axes, sorted({n for one in series for n in one.classes}))
    axes.set_ylim(*(limits or axis_limits(series) or (None, None)))
    _log_ticks(axes, unit)


def _fill(look: Style) -> str:
    return "none" if look.hollow else look.colour


def _mark_axis(axes: Axes, at: Interval, look: Style) -> None:
    """The head's marker on the class axis, on a bar as long as the interval."""
    low, high = axes.get_xlim()
    ends = [max(at.low, low), min(at.high, high)]
    on_axis: Any = {"transform": axes.get_xaxis_transform(), "color": look.colour, "clip_on": False}
    axes.plot(ends, [0, 0], linewidth=3, solid_capstyle="butt", zorder=4, **on_axis)
    axes.plot(
        [at.estimate], [0], marker=look.marker, markerfacecolor=_fill(look), zorder=5, **on_axis
    )


def axis_limits(series: Iterable[Series]) -> tuple[float, float] | None:
    """Common y limits of panels that are to be compared; very long intervals are cut off."""
    values = [value for one in series for value in one.values]
    if not values:
        return None
    lowest = min(max(value.low, value.estimate / 3) for value in values)
    highest = max(min(value.high, value.estimate * 3) for value in values)
    return lowest / 1.5, highest * 1.5


def _class_ticks(axes: Axes, every: Sequence[int]) -> None:
    """At most five labelled ticks, at powers of four between the smallest and the largest."""
    low, high = math.log(every[0], 4), math.log(every[-1], 4)
    step = max(1, math.ceil((high - low) / 4))
    ticks = [4.0**k for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1, step)]
    axes.set_xlim(every[0] / 1.4, every[-1] * 1.4)
    axes.xaxis.set_major_locator(FixedLocator(ticks or [float(every[0])]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _log_ticks(axes: Axes, unit: Callable[[float], str]) -> None:
    """Ticks at powers of ten, or at powers of two where the unit is one of bytes."""
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _round(unit(value))))
    if unit is not units.num_bytes:
        axes.yaxis.set_major_locator(LogLocator(base=10, numticks=8))
        return
    low, high = (math.log2(end) for end in axes.get_ylim())
    step = max(1, math.ceil((high - low) / 6))
    ticks = [2.0**k for k in range(math.ceil(low), math.floor(high) + 1) if k % step == 0]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())


def _round(text: str) -> str:
    """10.0 µs -> 10 µs, 2.50 ms -> 2.5 ms: a tick is exact."""
    return re.sub(r"\.(?=\D|$)", "", re.sub(r"(\.\d*?)0+(?=\D|$)", r"\1", text))


def _name_lines(axes: Axes, ends: Sequence[tuple[float, str, str, Style]]) -> None:
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
    ceiling = 1.02
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
            marker=look.marker,
            color=look.colour,
            markerfacecolor=_fill(look),
            transform=axes.transAxes,
            clip_on=False,
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


def _name_height(rows: int) -> float:
    """Inches that a name of so many rows takes."""
    return 0.132 * rows + 0.024


def _panel_for(names: Collection[str], rows: int) -> tuple[Figure, Axes]:
    """A panel with room for these names, of so many rows each, beside its lines."""
    lines = 0.70 * PANEL[0]
    longest = max(map(len, names), default=0)
    width = max(PANEL[0], lines + 0.4 + 0.075 * longest)
    height = max(PANEL[1], _name_height(rows) * len(names) / 0.8)
    return _panel((width, height), right=lines / width)


def _mean_curves(
    curves: Iterable[tuple[str, np.ndarray, np.ndarray]],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Variant -> x and the mean y over the seeds that came as far as the one that came farthest."""
    groups: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for variant, x, y in curves:
        if len(x):
            groups.setdefault(variant, []).append((x, y))
    found = {}
    for variant, seeds in groups.items():
        longest = max((x for x, _ in seeds), key=len)
        found[variant] = longest, np.mean([y for x, y in seeds if len(x) == len(longest)], axis=0)
    return found


def loss_curves(trainings: Sequence[Training], looks: Mapping[str, Style]) -> Figure:
    """Training loss against epochs, mean over seeds; a point is that since the one before it."""
    curves = _mean_curves((one.variant, *_loss_points(one)) for one in trainings)
    figure, axes = _panel_for(curves, 1)
    with mpl.rc_context(SETTINGS):
        ends = []
        for variant, (x, y) in curves.items():
            look = looks[variant]
            axes.plot(
                x,
                y,
                color=look.colour,
                linestyle=look.dash,
                marker=look.marker,
                markerfacecolor=_fill(look),
                markevery=max(1, len(x) // 8),
            )
            finite = y[np.isfinite(y)]
            if len(finite):
                ends.append((float(finite[-1]), variant, "", look))
        axes.set_xlabel("epoch")
        axes.set_ylabel("training loss")
        axes.set_xlim(left=0)
        _name_lines(axes, ends)
    return figure


def _loss_points(training: Training) -> tuple[np.ndarray, np.ndarray]:
    losses = training.losses
    images, batch = training.dataset.get("train_images"), training.config.get("batch_size")
    if isinstance(images, int) and isinstance(batch, int) and images > 0 and batch > 0:
        per_epoch = math.ceil(images / batch)
    else:
        per_epoch = max([1, *losses["batch"]])
    epoch, done = (losses[field].to_numpy(dtype=float) for field in ("epoch", "batch"))
    return epoch - 1 + done / per_epoch, losses["loss"].to_numpy(dtype=float)


def accuracy_per_epoch(trainings: Sequence[Training], looks: Mapping[str, Style]) -> Figure:
    """Accuracy on the test images after every epoch, mean over seeds."""
    curves = _mean_curves(
        (one.variant, one.epochs["epoch"].to_numpy(), 100 * one.epochs["accuracy"].to_numpy())
        for one in trainings
    )
    figure, axes = _panel_for(curves, 2)
    with mpl.rc_context(SETTINGS):
        ends = []
        for variant, (x, y) in curves.items():
            look = looks[variant]
            axes.plot(
                x,
                y,
                color=look.colour,
                linestyle=look.dash,
                marker=look.marker,
                markerfacecolor=_fill(look),
            )
            ends.append((float(y[-1]), variant, f"{y[-1]:.1f} %", look))
        axes.set_xlabel("epoch")
        axes.set_ylabel("test accuracy in %")
        axes.set_ylim(bottom=0)
        last = max([1, *(len(one.epochs) for one in trainings)])
        axes.set_xlim(0.5, last + 0.5)
        axes.xaxis.set_major_locator(FixedLocator(range(1, last + 1, math.ceil(last / 10))))
        _name_lines(axes, ends)
    return figure


def accuracy_against_time(rows: Sequence[Trained], looks: Mapping[str, Style]) -> Figure:
    """Final accuracy over the seconds it took: up and left is better."""
    figure, axes = _panel_for([row.variant for row in rows], 1)
    with mpl.rc_context(SETTINGS):
        ends = []
        for row in rows:
            look, share = looks[row.variant], row.accuracy
            axes.errorbar(
                [row.total_seconds],
                [100 * share.estimate],
                yerr=[
                    [100 * (share.estimate - share.low)],
                    [100 * (share.high - share.estimate)],
                ],
                fmt=look.marker,
                color=look.colour,
                markerfacecolor=_fill(look),
                markersize=7,
                elinewidth=1,
                capsize=2,
            )
            ends.append((100 * share.estimate, row.variant, "", look))
        axes.set_xlim(0, 1.15 * max(row.total_seconds for row in rows))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("training time in s, test passes left out")
        axes.set_ylabel("test accuracy in %")
        _name_lines(axes, ends)
    return figure


def confusion(table: np.ndarray, most: float, bounds: Sequence[int] = ()) -> Figure:
    """Share of each true class (row) predicted as each class (column), up to `most`.

    Lines are drawn before the classes in `bounds`.
    """
    with mpl.rc_context(SETTINGS | {"axes.grid": False}):
        figure = Figure(figsize=(3.6, 3.2))
        axes = figure.add_axes((0.13, 0.14, 0.70, 0.80))
        image = axes.imshow(
            row_shares(table),
            cmap="cividis",
            norm=PowerNorm(0.5, 0, most),
            interpolation="none",
            aspect="auto",
        )
        for bound in bounds:
            axes.axhline(bound - 0.5, color="white", linewidth=0.4)
            axes.axvline(bound - 0.5, color="white", linewidth=0.4)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        bar = figure.add_axes((0.86, 0.14, 0.03, 0.80))
        scale = figure.colorbar(image, cax=bar)
        scale.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    return figure


def row_shares(table: np.ndarray) -> np.ndarray:
    """Each row divided by its sum; rows without images stay 0."""
    sums = table.sum(axis=1, keepdims=True)
    shares: np.ndarray = np.divide(table, sums, out=np.zeros(table.shape), where=sums > 0)
    return shares


def share_of_step(
    rows: Sequence[tuple[str, Interval, Interval | None]], looks: Mapping[str, Style]
) -> Figure:
    """A bar per head: the training step of the whole model, the head's own part hatched.

    Args:
        rows: head, seconds of the model's step, seconds of the head's step alone (None: unknown).
        looks: style of each head.
    """
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(PANEL[0], 0.7 + 0.36 * len(rows)))
        axes = figure.add_axes((0.30, 0.55 / (0.7 + 0.36 * len(rows)), 0.55, 0.0))
        bottom = 0.55 / figure.get_figheight()
        axes.set_position((0.30, bottom, 0.52, 0.97 - bottom))
        most = max(min(whole.high, 1.5 * whole.estimate) for _, whole, _ in rows)
        for place, (head, whole, part) in enumerate(rows):
            look = looks[head]
            axes.barh(place, whole.estimate, 0.62, facecolor="none", edgecolor=INK, linewidth=0.8)
            if part is not None:
                axes.barh(
                    place,
                    min(part.estimate, whole.estimate),
                    0.62,
                    facecolor="none",
                    edgecolor=look.colour,
                    hatch="////",
                    linewidth=0.8,
                )
            axes.errorbar(
                [whole.estimate],
                [place],
                xerr=[[whole.estimate - whole.low], [whole.high - whole.estimate]],
                color=INK,
                capsize=2,
                elinewidth=1,
            )
            axes.text(
                1.03,
                place,
                units.seconds(whole.estimate),
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8,
            )
        axes.set_yticks(range(len(rows)), [head for head, _, _ in rows])
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, 1.05 * most)
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: _round(units.seconds(value)) if value else "0")
        )
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("training step")
    return figure
