"""The curves that a cost is compared with: an overhead, and work that grows like g(n).

Every curve has one form,

    t(n) = s * (c^p + (g(n) * f(n))^p)^(1/p).

p is 1 where overhead and work follow each other, larger where the longer of them hides the other
(launches of a GPU: p = 6 is all but a maximum). f is 1, or steps up once or twice where the weights
leave a cache, by no more than `step` in all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.stats.estimates import Interval

Array = NDArray[np.float64]
Steps = tuple[tuple[float, float, float], ...]

MODELS: Final = ("O(1)", "O(log n)", "O(sqrt n)", "O(n)", "O(n log n)", "O(n^2)")
POWER: Final = "another power"

STEP: Final = 5.0
"""How much more a class may cost outside the caches, where the machine's own were not measured."""
NAMES: Final = {0.0: "O(log n)", 0.5: "O(sqrt n)", 1.0: "O(n)", 2.0: "O(n^2)"}
POWERS: Final = (*(k / 10 for k in range(21)), 2.5, 3.0)
"""Exponents of the curves."""

NORMS: Final = ((1.0, 0.6), (2.0, 0.2), (6.0, 0.2))
"""How overhead and work combine, and how probable each way is."""

PLAIN, ONCE, TWICE, BESIDE = 0.45, 0.25, 0.15, 0.15
"""No step, one, two; or a slower growth beside it."""

SLOWER: Final[Mapping[str, Sequence[tuple[str, float]]]] = {
    "O(sqrt n)": [("O(log n)", by) for by in (0.1, 0.3, 1)],
    "O(n)": [(model, by) for model in ("O(log n)", "O(sqrt n)") for by in (0.1, 0.3, 1, 3)],
}
"""How many times as large a slower growth beside it may be at the largest size. Of n log n and n^2
none: with n beside them they are n with a step, which no clock could tell."""

PLACES, SIZES_FOR_TWO = 8, 6
"""Pairs of steps are tried between so many places; with fewer sizes nothing is left to fit."""

DECADE: Final = math.log(10)
"""A step reaches over nothing or over one decade: caches share, and are left little by little."""

WIDTHS, ENDS = (0.0, DECADE / 2, 1.5 * DECADE), (0.0, DECADE / 2)
FINE, COARSE = tuple(k / 8 for k in range(1, 9)), (0.25, 0.5, 0.75, 1.0)
THIRDS, HALVES = (0.17, 0.33, 0.5), (0.25, 0.5)


class Shape(NamedTuple):
    """g(n) * f(n): how the growing part of a curve goes.

    Attributes:
        model: one of `MODELS`, or `POWER`.
        power: exponent of n; 0 is the logarithm. Of n log n it is 1.
        steps: (log n, width, log factor) of each rise of the cost per class; of the logarithm
            (log n, 0, how many times more the further levels of a tree cost).
        beside: a slower growth of `MODELS` beside it, and how many times as large as this one it is
            at the largest size.
        ceiling: the logarithm is rounded up, as the depth of a tree is.
    """

    model: str
    power: float
    steps: tuple[tuple[float, float, float], ...] = ()
    beside: tuple[str, float] | None = None
    ceiling: bool = False

    def __call__(self, n: Array, largest: float) -> Array:
        """Its logarithm at `n`, 0 at the `largest` size."""
        ends = np.append(n, largest)
        value: Array = np.log(self._growth(ends)) + self._stepped(np.log(ends))
        value -= value[-1]
        if self.beside:
            slower, times = growth(self.beside[0], ends), self.beside[1]
            value = np.log((np.exp(value) + times * slower / slower[-1]) / (1 + times))
        return value[:-1]

    def _growth(self, n: Array) -> Array:
        if self.power:
            return growth(self.model, n, self.power)
        depth = np.ceil(np.log2(n)) if self.ceiling else np.log2(n)
        for at, _, more in self.steps:
            depth = depth + more * np.maximum(0, np.log2(n) - at / math.log(2))
        return depth

    def _stepped(self, x: Array) -> Array:
        risen = np.zeros_like(x)
        for at, width, factor in self.steps if self.power else ():
            risen += factor * (np.clip((x - at) / width + 0.5, 0, 1) if width else x > at)
        return risen


@dataclass(frozen=True)
class Curve:
    """A fitted curve, in the unit of the samples.

    Attributes:
        model: how it grows.
        a: the part that does not grow.
        work: the part that grows, at the `largest` size.
        norm: how the two combine, p.
        shape: of the growing part; None for a constant.
        draws: others that may be true instead, as often as they are probable.
    """

    model: str
    a: float
    work: float = 0.0
    largest: float = 2.0
    norm: float = 1.0
    shape: Shape | None = None
    draws: tuple[Curve, ...] = field(default=(), repr=False, compare=False)

    @property
    def b(self) -> float:
        """The coefficient of g(n) at the largest size; logarithms are to base 2."""
        if self.shape is None:
            return 0.0
        return self.work / float(growth(self.model, np.array([self.largest]), self.shape.power)[0])

    def __call__(self, n: ArrayLike) -> Array:
        """The curve at `n`, elementwise."""
        n = np.asarray(n, dtype=float)
        if self.shape is None:
            return np.full_like(n, self.a)
        work = self.work * np.exp(self.shape(n.ravel(), self.largest)).reshape(n.shape)
        total: Array = (self.a**self.norm + work**self.norm) ** (1 / self.norm)
        return total

    def interval(self, n: float) -> Interval:
        """The curve at `n` with its 95 % interval, which covers the doubt about the model too.

        It says where the typical value lies, not where single rounds scatter; beyond the measured
        sizes it holds only as far as the models do.
        """
        centre = float(self(n))
        values = [float(drawn(n)) for drawn in self.draws or (self,)]
        low, high = np.quantile(values, [0.025, 0.975])
        return Interval(min(float(low), centre), centre, max(float(high), centre))


def growth(model: str, n: Array, power: float = 1.0) -> Array:
    """g(n) of a model, elementwise; logarithms to base 2, and 0 for the constant."""
    match model:
        case "O(1)":
            return np.zeros_like(n)
        case "O(log n)":
            return np.log2(n)
        case "O(sqrt n)":
            return np.sqrt(n)
        case "O(n)":
            return n
        case "O(n log n)":
            product: Array = n * np.log2(n)
            return product
        case "O(n^2)":
            return n**2
    powered: Array = n**power
    return powered


def every_shape(x: Array, step: float) -> Iterator[tuple[Shape, float]]:
    """Every shape that is tried at sizes of logarithms `x`, with its share of its model's prior."""
    gaps = ((x[1:] + x[:-1]) / 2).tolist()
    for ceiling in (False, True):
        # Seen at fewer sizes it could as well be the beginning of a faster growth.
        later = [((at, 0.0, (step - 1) * part),) for at in gaps[:-2] for part in (0.25, 0.75)]
        yield Shape(NAMES[0.0], 0, ceiling=ceiling), PLAIN / 2
        for steps in later:
            yield Shape(NAMES[0.0], 0, steps, ceiling=ceiling), (1 - PLAIN) / 2 / len(later)
    for model, power in [*((NAMES.get(p, POWER), p) for p in POWERS[1:]), ("O(n log n)", 1.0)]:
        linear, named = model == "O(n)", model != POWER
        once = list(_once(gaps, math.log(step), *((FINE, WIDTHS) if linear else (COARSE, ENDS))))
        twice = list(_twice(gaps, math.log(step), THIRDS if linear else HALVES)) if named else []
        beside = SLOWER.get(model, ())
        rest = PLAIN + (0 if beside else BESIDE) + (0 if twice else TWICE)
        yield Shape(model, power), rest
        yield from ((Shape(model, power, steps), ONCE / len(once)) for steps in once)
        yield from ((Shape(model, power, steps), TWICE / len(twice)) for steps in twice)
        yield from ((Shape(model, power, beside=part), BESIDE / len(beside)) for part in beside)


def _once(
    gaps: Sequence[float], most: float, parts: Sequence[float], widths: Sequence[float]
) -> Iterator[Steps]:
    """A rise between any two sizes, by any part of the logarithm of the `most` there can be."""
    for at in gaps:
        for width in widths:
            for part in parts:
                yield ((at, width, most * part),)


def _twice(gaps: Sequence[float], most: float, parts: Sequence[float]) -> Iterator[Steps]:
    """Two sudden rises, at no more than PLACES places."""
    if len(gaps) + 1 < SIZES_FOR_TWO:
        return
    places = [gaps[i] for i in np.unique(np.linspace(0, len(gaps) - 1, PLACES).round().astype(int))]
    for at, then in combinations(places, 2):
        for part in parts:
            for more in parts:
                if part + more <= 1:
                    yield ((at, 0.0, most * part), (then, 0.0, most * more))
