"""The benchmark of the adviser: predictions at sizes that a simulated run did not measure.

Its tables are part of `python -m reports.simulation`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np

from reports.stats import cost_model
from reports.stats.cost_model import Law, Sample

Cost = Callable[[float, float, float], float]

CLASSES = tuple(4**power for power in range(2, 10))
BATCHES = (32, 128, 512)
USUAL_BATCH, USUAL_WIDTH = 128, 128
FEW_CLASSES = (256, 4_096, 65_536, 262_144)
"""At which further widths are measured, at the usual batch size."""

NOISE = 0.05
"""Of a cell, relative."""

WIDTHS = ((128,), (128, 512), (128, 64, 512, 2_048))
"""That runs measured, the usual one first."""

PER_RUN = 20
"""Sizes that each law of a run is asked about, at each kind of place."""


def _leaving(n: float, batch: float, d: float, cache: float) -> float:
    """Products whose weights cost three times as much where they lie outside a cache."""
    return batch * (n * d + 2 * max(0.0, n * d - cache))


HEADS: Mapping[str, Cost] = {
    "products": lambda n, batch, d: 50e-6 + 2e-11 * batch * n * d + 1e-10 * n * d,
    "scores": lambda n, batch, d: 80e-6 + 2e-9 * batch * n + 1e-10 * n * d,
    "both": lambda n, batch, d: 60e-6 + 1e-11 * batch * n * (d + 200),
    "path": lambda n, batch, d: 200e-6 + 1e-9 * batch * (d + 50) * math.log2(n),
    "wide ones cheaper": lambda n, batch, d: 50e-6 + 8e-11 * batch * n * d**0.7,
    "leaving a cache": lambda n, batch, d: 50e-6 + 2e-11 * _leaving(n, batch, d, 3e6),
    "another kernel": lambda n, batch, d: 50e-6 + 2e-11 * batch * n * d * (1.4 if d > 1_000 else 1),
}
"""What their training step truly costs, in seconds; the last three are no sum of a law's terms."""


def measured(
    cost: Cost, widths: Sequence[int], random: np.random.Generator, noise: float = NOISE
) -> list[Sample]:
    """A run's cells of one head: all sizes at the first width, few at the others."""
    usual, *others = widths
    sizes = [(n, batch, usual) for n, batch in product(CLASSES, BATCHES)]
    sizes += [(n, USUAL_BATCH, width) for n, width in product(FEW_CLASSES, others)]
    return [
        Sample(*size, cost(*size) * math.exp(noise * random.standard_normal()), noise)
        for size in sizes
    ]


def places(widths: Sequence[int]) -> dict[str, tuple[float, float]]:
    """Kinds of width to ask about -> the range that they are drawn from."""
    low, high = min(widths), max(widths)
    asked: dict[str, tuple[float, float]] = {"the usual width": (USUAL_WIDTH, USUAL_WIDTH)}
    if len(widths) > 1:
        asked["another measured one"] = (high, high)
        asked["between two"] = (low, high)
    asked["outside, up to 4 times"] = (high, 4 * high)
    return asked


def coverage(runs: int, random: np.random.Generator) -> list[list[str]]:
    """Per design and kind of width: how many fresh cells lay in their interval, and its width."""
    rows = []
    for widths in WIDTHS:
        held: dict[str, list[bool]] = defaultdict(list)
        wide: dict[str, list[float]] = defaultdict(list)
        for _ in range(runs):
            laws = cost_model.fit({h: measured(c, widths, random) for h, c in HEADS.items()})
            for (head, law), (place, ends) in product(laws.items(), places(widths).items()):
                for _ in range(PER_RUN):
                    inside, width = _ask(law, HEADS[head], ends, random)
                    held[place].append(inside)
                    wide[place].append(width)
        named = ", ".join(f"{width:,}" for width in sorted(widths))
        rows += [
            [named, place, f"{np.mean(held[place]):.1%}", f"{np.median(wide[place]):.2f} times"]
            for place in held
        ]
    return rows


def _ask(
    law: Law, cost: Cost, ends: tuple[float, float], random: np.random.Generator
) -> tuple[bool, float]:
    """Whether a fresh cell of a width within `ends` lies in its interval; that one's half-width."""
    spans = ((CLASSES[0], CLASSES[-1]), (BATCHES[0], BATCHES[-1]), ends)
    classes, batch, width = (_between(low, high, random) for low, high in spans)
    size = (classes, batch, width)
    told = law.at(*size)
    fresh = cost(*size) * math.exp(NOISE * random.standard_normal())
    return fresh in told, math.sqrt(told.high / told.low)


def _between(low: float, high: float, random: np.random.Generator) -> int:
    return round(math.exp(random.uniform(math.log(low), math.log(high))))


def tables(
    runs: int, seed: int, table: Callable[[Sequence[str], Sequence[Sequence[str]]], str]
) -> str:
    """Its table, of so many runs of each design, as `table` makes it of a head and rows."""
    random = np.random.default_rng(seed)
    return table(
        ["widths measured", "asked at", "covered at 95 %", "half-width"], coverage(runs, random)
    )
