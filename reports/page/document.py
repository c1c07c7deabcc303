"""What the charts draw and the downloads hold: runs as one JSON document.

`docs/reading.md` explains its fields. The page carries the document packed, and so that no name in
it can be taken for markup, it is read by `JSON.parse` alone.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from reports.findings.findings import Findings, Overtake
from reports.findings.joined import Cell
from reports.findings.outcomes import outcomes
from reports.page.figures.drawing import Looks
from reports.results import CELL, PHASES
from reports.stats.estimates import Interval

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
"""matplotlib's markers and line styles in plotly's words: a head looks the same in both."""

DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}

CURVE_POINTS = 40


def document(
    runs: Sequence[Findings],
    looks: Looks,
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
    values = {field: getattr(cell, field) for field in CELL}
    values |= {
        f"seconds_{end}": getattr(cell.seconds, end) if cell.seconds else None
        for end in ("low", "estimate", "high")
    }
    values |= {
        "passes": len(cell.samples),
        "rounds": cell.rounds,
        "multiply_adds": cell.multiply_adds,
        "bytes": cell.bytes,
        "minor_faults": cell.minor_faults,
        "system_seconds": cell.system_seconds,
    }
    values |= {
        f"{part}_bytes": getattr(cell.memory, part) if cell.memory else None
        for part in ("peak", "parameters", "gradients", "optimizer", "total")
    }
    if cell.sessions != (1,):
        values["sessions"] = list(cell.sessions)
    if samples:
        # More digits than any clock has.
        values["samples"] = [[float(f"{s:.9g}") for s in taken] for taken in cell.samples]
    return values


def _run(findings: Findings, samples: bool) -> dict[str, Any]:
    setting = findings.alone
    return {
        "name": findings.run.name,
        # Only what was measured alike is drawn together.
        "setting": asdict(setting) if setting else {},
        "cells": [record(cell, samples) for cell in findings.cells],
        "curves": list(_curves(findings)),
        "crossovers": [
            {"phase": phase, **_crossover(findings, phase, overtake)}
            for phase in PHASES
            for overtake in findings.overtakes(phase)
            if overtake.certain
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
            for one in outcomes(findings)
        ],
    }


def _curves(findings: Findings) -> Iterable[dict[str, Any]]:
    """The fitted curve of every head and phase whose growth is known, to a logarithm."""
    for growth in findings.growths:
        if growth.time is None or not growth.time.within:
            continue
        cells = findings.alone_at(growth.phase, findings.batch)
        sizes = [cell.classes for cell in cells if cell.head == growth.head and cell.seconds]
        classes = np.geomspace(min(sizes), max(sizes), CURVE_POINTS)
        yield {
            "head": growth.head,
            "phase": growth.phase,
            "batch": findings.batch,
            "model": growth.time.said,
            "classes": [float(f"{n:.6g}") for n in classes],
            "seconds": [float(f"{y:.6g}") for y in growth.time.curve(classes)],
        }


def _crossover(findings: Findings, phase: str, overtake: Overtake) -> dict[str, Any]:
    """Where a head overtakes the incumbent, at the time that the incumbent takes there."""
    at = overtake.where.at
    assert at is not None, "a certain crossover has a place"
    taken = [
        (cell.classes, cell.seconds.estimate)
        for cell in findings.alone_at(phase, overtake.batch)
        if cell.head == findings.incumbent and cell.seconds
    ]
    n, seconds = np.log(np.array(taken, dtype=float)).T
    return {
        "head": overtake.head,
        "over": findings.incumbent,
        "batch": overtake.batch,
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
