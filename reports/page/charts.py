"""What the interactive charts draw and the downloads hold: runs as one JSON document.

`docs/reading.md` explains its fields. The page carries the document packed, and so that no name in
it can be taken for markup, it is read by `JSON.parse` alone.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reports.findings.answer import PHASE_NAMES
from reports.findings.findings import Findings, Overtake
from reports.findings.joined import Cell
from reports.findings.pareto import COSTS, joined
from reports.page.drawing import Style
from reports.results import CELL, PHASES
from reports.stats.estimates import Interval

# matplotlib's markers and line styles in plotly's words: a head looks the same in both.
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "*": "star",
}
DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}

CURVE_POINTS = 40

PARTS = {
    "peak_bytes": "peak",
    "parameters_bytes": "parameters",
    "gradients_bytes": "gradients",
    "optimizer_bytes": "optimizer state",
    "total_bytes": "parameters, optimizer and peak",
}


@dataclass(frozen=True)
class Choice:
    """One thing to choose: `values` are (value, what is shown)."""

    name: str
    label: str
    values: tuple[tuple[str, str], ...]
    chosen: str


@dataclass(frozen=True)
class Chart:
    """An interactive chart's form.

    Attributes:
        kind: names what `charts.js` draws.
        choices: of what is drawn.
        heads: what can be left out, heads or, where trainings are drawn, variants.
        runs: likewise.
        scale: of the axes at first.
    """

    kind: str
    choices: tuple[Choice, ...]
    heads: tuple[str, ...]
    runs: tuple[str, ...]
    scale: str = "log"


def charts(runs: Sequence[Findings], labels: Sequence[str]) -> dict[str, Chart]:
    """The charts for which there is something to draw: kind -> chart; `labels` name the runs."""
    names = tuple(labels)
    alone = [c for f in runs if f.alone for c in f.cells if f.alone.holds(c)]
    timed = [cell for cell in alone if cell.seconds]
    weighed = [cell for cell in alone if cell.memory]
    rows = [row for findings in runs for row in joined(findings)]
    found = {}
    if timed:
        where = (_phases(timed), _batches(timed, runs[0].batch))
        found["time"] = Chart("time", where, _heads(timed), names)
    if weighed:
        parts = Choice("part", "Memory", tuple(PARTS.items()), "peak_bytes")
        where = (_phases(weighed), _batches(weighed, runs[0].batch))
        found["memory"] = Chart("memory", (parts, *where), _heads(weighed), names)
    if rows:
        costs = tuple((c, name) for c, name in COSTS.items() if any(c in r.costs for r in rows))
        choice = Choice("cost", "Against", costs, costs[0][0])
        variants = tuple(dict.fromkeys(row.variant for row in rows))
        found["accuracy"] = Chart("accuracy", (choice,), variants, names, scale="linear")
    return found


def _phases(cells: Iterable[Cell]) -> Choice:
    phases = {cell.phase for cell in cells}
    values = tuple((phase, PHASE_NAMES[phase]) for phase in PHASES if phase in phases)
    chosen = "train" if "train" in phases else values[0][0]
    return Choice("phase", "Phase", values, chosen)


def _batches(cells: Iterable[Cell], usual: int) -> Choice:
    batches = sorted({cell.batch for cell in cells})
    chosen = usual if usual in batches else batches[0]
    values = tuple((str(batch), f"{batch:,}") for batch in batches)
    return Choice("batch", "Batch size", values, str(chosen))


def _heads(cells: Iterable[Cell]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(cell.head for cell in cells))


def document(
    runs: Sequence[Findings],
    looks: Mapping[str, Style],
    labels: Sequence[str],
    samples: bool = True,
) -> dict[str, Any]:
    """The runs as plain values; numbers that are not finite become None.

    Args:
        runs: one, or several that are to be drawn together.
        looks: style of each of their heads.
        labels: what the charts call each run.
        samples: whether every cell's raw samples are included.
    """
    plain: dict[str, Any] = _plain(
        {
            "looks": {
                head: {
                    "colour": look.index,
                    "glyph": look.glyph,
                    "symbol": SYMBOLS[look.marker] + ("-open" if look.hollow else ""),
                    "dash": _dash(look.dash),
                }
                for head, look in looks.items()
            },
            "runs": [
                {"label": label, **_run(findings, samples)}
                for label, findings in zip(labels, runs, strict=True)
            ],
        }
    )
    return plain


def pack(text: str) -> str:
    """`text` gzipped, in base64; the same text gives the same string."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def dumps(values: Mapping[str, Any]) -> str:
    """Strict JSON without spaces."""
    return json.dumps(values, allow_nan=False, separators=(",", ":"))


def record(cell: Cell, samples: bool) -> dict[str, Any]:
    """One cell as a flat mapping; `samples` in seconds, a list of rounds per pass."""
    found = {field: getattr(cell, field) for field in CELL}
    found |= {
        f"seconds_{end}": getattr(cell.seconds, end) if cell.seconds else None
        for end in ("low", "estimate", "high")
    }
    found |= {
        "passes": len(cell.samples),
        "rounds": cell.rounds,
        "multiply_adds": cell.multiply_adds,
        "bytes": cell.bytes,
    }
    found |= {
        f"{part}_bytes": getattr(cell.memory, part) if cell.memory else None
        for part in ("peak", "parameters", "gradients", "optimizer", "total")
    }
    if samples:
        # More digits than any clock has.
        found["samples"] = [[float(f"{s:.9g}") for s in taken] for taken in cell.samples]
    return found


def _run(findings: Findings, samples: bool) -> dict[str, Any]:
    setting = findings.alone
    return {
        "name": findings.run.name,
        # Only what was measured alike is drawn together.
        "setting": asdict(setting) if setting else {},
        "cells": [record(cell, samples) for cell in findings.cells],
        "curves": list(_curves(findings)),
        "crossovers": [
            {"phase": phase, **_crossover(findings, phase, found)}
            for phase in PHASES
            for found in findings.overtakes(phase)
            if found.certain
        ],
        "trained": [
            {
                "variant": one.variant,
                "head": one.head,
                "seeds": one.seeds,
                "epochs": one.epochs,
                "accuracy": asdict(one.accuracy),
                "each_seed": one.each_seed,
                "costs": {name: asdict(cost) for name, cost in one.costs.items()},
                "front": one.front,
            }
            for one in joined(findings)
        ],
    }


def _curves(findings: Findings) -> Iterable[dict[str, Any]]:
    """The fitted curve of every head and phase whose fit names one."""
    for growth in findings.growths:
        if growth.time is None or growth.time.model == "inconclusive":
            continue
        cells = findings.alone_at(growth.phase, findings.batch)
        sizes = [cell.classes for cell in cells if cell.head == growth.head and cell.seconds]
        classes = np.geomspace(min(sizes), max(sizes), CURVE_POINTS)
        yield {
            "head": growth.head,
            "phase": growth.phase,
            "batch": findings.batch,
            "model": growth.time.model,
            "classes": [float(f"{n:.6g}") for n in classes],
            "seconds": [float(f"{y:.6g}") for y in growth.time.curve(classes)],
        }


def _crossover(findings: Findings, phase: str, found: Overtake) -> dict[str, Any]:
    """Where a head overtakes the incumbent, at the time that the incumbent takes there."""
    at = found.where.at
    assert at is not None, "a certain crossover has a place"
    taken = [
        (cell.classes, cell.seconds.estimate)
        for cell in findings.alone_at(phase, found.batch)
        if cell.head == findings.incumbent and cell.seconds
    ]
    n, seconds = np.log(np.array(taken, dtype=float)).T
    return {
        "head": found.head,
        "over": findings.incumbent,
        "batch": found.batch,
        "classes": asdict(at),
        "seconds": math.exp(float(np.interp(math.log(at.estimate), n, seconds))),
    }


def _dash(dash: Any) -> str:
    """A dash pattern of matplotlib, in points, as plotly's: named or in pixels."""
    return DASHES[dash] if isinstance(dash, str) else ",".join(f"{2 * part}px" for part in dash[1])


def _plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
