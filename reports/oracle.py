"""What could be decided at all: two oracles beside `classify`, on the same simulated curves.

Both know how large the errors of a curve's points are, which no method does.

- **Every curve granted**: whoever calls no curve of those that `classify` considers by a wrong
  growth in more than 1 % of its repetitions. Neyman and Pearson (1933) say how often such a one
  can name the truth at most: by the nearest curve of another growth, `power`.
- **Families known**: whoever knows the families and how often they draw which curve, names the
  growths that are most probable, and stops where 1 % of all are expected to be wrong (`posterior`).
  On average over these families no method names more with as few wrong.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from reports.families import (
    DESIGNS,
    FAMILIES,
    HELD_OUT,
    OUTCOMES,
    UNIT,
    Family,
    Outcome,
    draw,
    outcome,
)
from reports.stats.complexity import MODELS, POWER, STEP, classify
from reports.stats.fit import FEIGNED, NEAR, fit, typical
from reports.stats.shapes import Shape

Array = NDArray[np.float64]
Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]

LEVEL: Final = 0.01
"""The share of wrong names that both allow themselves."""

SURE: Final = 0.95
"""A curve that can be told this often, and was left open, was left open without need."""

CURVES: Final = 4_000
"""Curves that are drawn of each family to learn what it draws."""

NEAREST: Final = 20
"""Curves that may be the nearest: the fits know their distances nearly, their overheads between
those tried."""

REASONS: Final = 10
ALL = "all"


class Asked(NamedTuple):
    """One curve: what `classify` and what the oracles say of it.

    Attributes:
        sizes: their number and decades, in words.
        outcome: of `classify`, and its `reason`.
        power: of whoever grants every curve.
        probability: of the growth that is most probable where the families are known.
        known: whether naming that growth is right.
    """

    family: str
    sizes: str
    outcome: Outcome
    reason: str
    power: float
    probability: float
    known: Outcome


def power(n: Array, values: Array, growth: str, error: float, step: float = STEP) -> float:
    """How often the growth of a curve can be told at most, where all others must be spared.

    Args:
        n: sizes, (N,).
        values: the true curve at them, (N,), in any unit.
        growth: how it grows, in the words of `families.Truth`.
        error: standard deviation of the logarithm of each point.
        step: how many times as much a class may cost outside the caches, at most.
    """
    y = np.log(values)
    y -= y.mean()
    fits = fit(n, y, (), step)
    if growth == MODELS[0]:
        others = fits.curves.h[fits.curves.grown >= math.log1p(FEIGNED)].astype(np.float64)
    else:
        other = [_other(growth, shape) for shape in fits.curves.shapes]
        order = np.where(other, fits.squares, np.inf).argsort()[:NEAREST]
        curves = fits.refit(order, np.tile(y, (order.size, 1)))
        others = np.array([np.zeros_like(y), *(np.log(curve(n)) for curve in curves)])
    nearest = float((y - others).var(axis=1).min()) * n.size
    return float(special.ndtr(math.sqrt(nearest) / error + special.ndtri(LEVEL)))


def _other(growth: str, shape: Shape) -> bool:
    """Whether naming the growth of a shape would be wrong of a curve."""
    name = shape.model if shape.model != POWER else f"O(n^{shape.power:g})"
    return outcome(growth, name) == "wrong" and shape.power not in NEAR


class Known(NamedTuple):
    """Curves as families draw them at some sizes.

    Attributes:
        curves: logarithms less their mean, (M, N).
        growths: of all of them, each once.
        which: of those each curve has, (M,).
    """

    curves: NDArray[np.float32]
    growths: tuple[str, ...]
    which: NDArray[np.int_]

    @classmethod
    def of(cls, families: Mapping[str, Family], n: Array, count: int) -> Known:
        """`count` curves of each family."""
        random = np.random.default_rng(0)
        drawn = [family(n, random) for family in families.values() for _ in range(count)]
        logs = np.log([truth.values for truth in drawn]).astype(np.float32)
        growths, which = np.unique([truth.growth for truth in drawn], return_inverse=True)
        return cls(logs - logs.mean(axis=1, keepdims=True), tuple(growths.tolist()), which)

    def posterior(self, y: Array, error: float) -> tuple[str, float]:
        """The growth that points of logarithms `y`, (N,), make most probable, and how probable.

        A power that is named stands for all that are near enough to count as found.
        """
        missed = ((self.curves - (y - y.mean()).astype(np.float32)) ** 2).sum(axis=1)
        weights = np.exp((missed.min() - missed) / (2 * error**2)).astype(np.float64)
        masses = (np.bincount(self.which, weights) / weights.sum()).tolist()
        found = {
            name: sum(
                mass
                for true, mass in zip(self.growths, masses, strict=True)
                if outcome(true, name) == "right"
            )
            for name in (*MODELS, *(f"O(n^{tenths / 10:.1f})" for tenths in range(2, 19)))
        }
        best = max(found, key=lambda name: found[name])
        return best, found[best]


def ask(design: int, count: int, seed: int, held_out: bool) -> list[Asked]:
    """Curves of all families at one set of sizes, those that `draw` gives up to index `count`."""
    families = HELD_OUT if held_out else FAMILIES
    asked = []
    known: Known | None = None
    for index in range(design, count, len(DESIGNS)):
        for family in families:
            n, truth, samples = draw(family, index, seed)
            known = known or Known.of(families, n, CURVES)
            y = typical(samples)
            errors = y - np.log(UNIT * truth.values)
            error = float(errors.std(ddof=1))
            verdict = classify(n, samples, draws=0)
            named, probability = known.posterior(y, error)
            asked.append(
                Asked(
                    family=family,
                    sizes=f"{n.size} sizes, {math.log10(n[-1] / n[0]):.1f} decades",
                    outcome=outcome(truth.growth, *verdict.within),
                    reason=verdict.reason,
                    power=power(n, truth.values, truth.growth, error),
                    probability=probability,
                    known=outcome(truth.growth, named),
                )
            )
    return asked


def named(asked: Sequence[Asked]) -> frozenset[int]:
    """Which curves are named where the families are known: the surest, and LEVEL expected wrong."""
    order = sorted(range(len(asked)), key=lambda i: -asked[i].probability)
    wrong = np.cumsum([1 - asked[i].probability for i in order])
    return frozenset(order[: int((wrong <= LEVEL * len(asked)).sum())])


def tables(count: int, seed: int, table: Table, held_out: bool = False) -> str:
    """By family, by sizes and by reason: what is named, and what could be."""
    with ProcessPoolExecutor() as pool:
        asking = partial(ask, count=count, seed=seed, held_out=held_out)
        designs = range(min(count, len(DESIGNS)))
        asked = [one for found in pool.map(asking, designs) for one in found]
    sure = named(asked)
    groups: defaultdict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, one in enumerate(asked):
        groups["truth"][one.family].append(i)
        groups["sizes"][one.sizes].append(i)
    groups["truth"][ALL] = list(range(len(asked)))
    head = [
        "right",
        "but for a logarithm",
        "wrong",
        "open",
        "every curve granted",
        "families known",
        "open, could be told",
    ]
    shares = "\n".join(
        table([by, *head], [[name, *_shares(asked, own, sure)] for name, own in group.items()])
        for by, group in groups.items()
    )
    reasons = Counter(_kind(one.reason) for one in asked if one.outcome == "inconclusive")
    left = [
        [reason, _percent([_kind(one.reason) == reason for one in asked])]
        for reason, _ in reasons.most_common(REASONS)
    ]
    return shares + "\n" + table(["left open, as", "of all curves"], left)


def _shares(asked: Sequence[Asked], own: Sequence[int], sure: Container[int]) -> list[str]:
    """Of some curves: all outcomes; what the oracles name; what was left without need."""
    curves = [asked[i] for i in own]
    return [
        *(_percent([one.outcome == said for one in curves]) for said in OUTCOMES),
        _percent([one.power for one in curves]),
        _percent([i in sure and asked[i].known == "right" for i in own]),
        _percent([one.outcome == "inconclusive" and one.power >= SURE for one in curves]),
    ]


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * sum(shares) / len(shares):.1f}"


def _kind(reason: str) -> str:
    """A reason without its numbers and what follows it."""
    kept = re.sub(r"about n\^[\d.]+", POWER, re.split("[:;]", reason)[0])
    return re.sub(r"(?<!\^)\b\d[\d.,]*%?", "...", kept)
