"""The complexity verdict: how a curve grows where it has left its plateau, or that none can tell.

Every curve considered has one form: an overhead, and work that grows like g(n),

    t(n) = s * (c^p + (g(n) * f(n))^p)^(1/p).

p is 1 where overhead and work follow each other, larger where the longer of them hides the other
(launches of a GPU: p = 6 is all but a maximum). f is 1, or steps up once or twice where the weights
leave a cache, by no more than `step` in all. `classify` works on the logarithm of each size's
typical value, so errors count relative to it:

1. a size is worth one number, the Tukey-weighted mean of the logarithms of its samples, which
   spikes do not move; a size far off every curve is set aside, and named;
2. each curve is worth its likelihood, the unknown error integrated out; the overhead is taken where
   it is best, all else is averaged over (Kass and Raftery, "Bayes factors", JASA 90, 1995), so a
   step that the points do not ask for costs what it could explain;
3. the verdict is the growth that most of the probability is on, if that is enough; otherwise it is
   "inconclusive", with the reason.

Nothing here knows about time: bytes and counted operations, which have no noise, are judged alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import combinations
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import interpolate, special, stats

from reports.stats.estimates import Interval

Array = NDArray[np.float64]

MODELS: Final = ("O(1)", "O(log n)", "O(sqrt n)", "O(n)", "O(n log n)", "O(n^2)")
POWER: Final = "another power"
PRIOR: Final[Mapping[str, float]] = MappingProxyType(
    dict(zip((*MODELS, POWER), (0.20, 0.16, 0.08, 0.20, 0.12, 0.12, 0.12), strict=True))
)
"""How probable each growth is before anything was measured."""

EXPECTED: Final = 0.65
"""The share of that belief which moves to what was counted, where something was."""

STEP: Final = 5.0
"""How much more a class may cost outside the caches, where the machine's own were not measured."""

CONFIDENT: Final = 0.8
RIVAL: Final = 0.03
"""From this probability on, a growth is named among those that cannot be told apart."""

SURER: Final[Mapping[str, float]] = MappingProxyType({"O(n log n)": 0.97, POWER: 0.9})
"""Steps of a linear cost imitate these: of curves that look so, too many are linear."""

CLEARLY: Final = 0.5
"""How much worse, in the logarithm of the likelihood, any linear curve must be beside O(n^2)."""
USUAL_ERROR, WEIGHT = 0.04, 3.0
"""The error of a size's value is taken to be about this, with the weight of so many sizes."""

FLAT, FEIGNED = 0.10, 0.15
"""Growth over all sizes that a machine drifting by 5 % at either end could feign, and that a sweep
whose sizes were not shuffled could; between them nothing is decided."""

SMALL: Final = 0.3
"""Below this growth a drift with the sizes is at least a good part of it: worth a warning."""

HIDDEN: Final = 0.5
"""Growth that noise may hide before "O(1)" would say more than the data do."""

DRIFT: Final = 0.07
"""Error of one size's value that a quiet shared machine leaves: what a curve may miss its points
by."""

FEWEST_SIZES: Final = 5
ROUNDING: Final = 1e-6
"""Relative error below which curves are the same: exact counts fit to this, and no better."""

LEFT: Final = 0.3
"""Share of a curve that its work makes up where the plateau is left."""

FEWEST_LEFT: Final = 3
"""Sizes beyond the plateau that a growth can be told from."""

VISIBLE: Final = 0.02
"""What the price of a spike takes for no error at all."""

NAMES: Final = {0.0: "O(log n)", 0.5: "O(sqrt n)", 1.0: "O(n)", 2.0: "O(n^2)"}
POWERS: Final = (*(k / 10 for k in range(21)), 2.5, 3.0)
"""Exponents of the curves; the verdict ignores those so near to a model that no clock parts
them."""

NEAR: Final = (0.1, 0.9, 1.1, 1.9)
NARROW: Final = 0.3
"""An exponent is named where its 95 % interval is no wider."""

NORMS: Final = ((1.0, 0.6), (2.0, 0.2), (6.0, 0.2))
"""How overhead and work combine, and how probable each way is."""

SPACING: Final = 0.5
"""Ratio of neighbouring overheads tried; between them curves are interpolated."""

PLAIN, ONCE, TWICE, BESIDE = 0.45, 0.25, 0.15, 0.15
"""No step, one, two; of a linear cost also a logarithmic part beside it."""

PLACES, SIZES_FOR_TWO = 8, 6
"""Pairs of steps are tried between so many places; with fewer sizes nothing is left to fit."""

DECADE: Final = math.log(10)
"""A step reaches over nothing or over one decade: caches share, and are left little by little."""

WIDTHS, ENDS = (0.0, DECADE / 2, 1.5 * DECADE), (0.0, DECADE / 2)
FINE, COARSE = tuple(k / 8 for k in range(1, 9)), (0.25, 0.5, 0.75, 1.0)
THIRDS, HALVES = (0.17, 0.33, 0.5), (0.25, 0.5)
DRAWS: Final = 400
ZOOMS: Final = 9
"""Each zoom finds an overhead five times as exactly."""


class Shape(NamedTuple):
    """g(n) * f(n): how the growing part of a curve goes.

    Attributes:
        model: one of `MODELS`, or `POWER`.
        power: exponent of n; 0 is the logarithm. Of n log n it is 1.
        steps: (log n, width, log factor) of each rise of the cost per class; of the logarithm
            (log n, 0, how many times more the further levels of a tree cost).
        beside: how many times a logarithmic part at the largest size is the linear one.
        ceiling: the logarithm is rounded up, as the depth of a tree is.
    """

    model: str
    power: float
    steps: tuple[tuple[float, float, float], ...] = ()
    beside: float = 0.0
    ceiling: bool = False

    def __call__(self, n: Array, largest: float) -> Array:
        """Its logarithm at `n`, 0 at the `largest` size."""
        ends = np.append(n, largest)
        value: Array = np.log(self._growth(ends)) + self._stepped(np.log(ends))
        value -= value[-1]
        if self.beside:
            logarithm = np.log2(ends) / math.log2(largest)
            value = np.log((np.exp(value) + self.beside * logarithm) / (1 + self.beside))
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


@dataclass(frozen=True)
class Verdict:
    """What a curve says about complexity.

    Attributes:
        model: one of `MODELS`, another power ("O(n^0.7)"), or "inconclusive".
        probabilities: growth -> probability, over `MODELS` and `POWER`; with what is so small that
            drift could feign it, they sum to 1.
        exponent: p of the growing part, with its 95 % interval: of (n^p - 1)/p where the curve has
            left its plateau, steps allowed for. log n has p = 0, n^2 has 2; n log n, no power, lies
            at about 1 + 1/ln n. Where nothing grows, the log-log slope of the whole.
        curve: the most probable curve, named or not.
        reason: why the verdict is inconclusive; otherwise what supports it.
        set_aside: sizes far off every curve, not used.
        warning: what else could have made so small a growth, or "".
    """

    model: str
    probabilities: Mapping[str, float]
    exponent: Interval
    curve: Curve
    reason: str
    set_aside: tuple[float, ...] = ()
    warning: str = ""


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


def classify(
    sizes: ArrayLike,
    samples: Sequence[ArrayLike],
    seed: int = 0,
    expected: Sequence[str] = (),
    step: float = STEP,
) -> Verdict:
    """Judge which complexity a curve has.

    Args:
        sizes: the n of each point, shape (N,), each at least 2.
        samples: for each point a 1-D array of seconds (or bytes, or counted operations): the rounds
            of all its passes together.
        seed: of the curves that an interval is drawn from; nothing else depends on it.
        expected: growths that were counted, of `MODELS`; EXPECTED of the belief goes to them.
        step: how many times as much a class may cost outside the caches as inside, at most.

    Raises:
        ValueError: shapes that do not match, sizes below 2, samples negative or not finite.
    """
    n, rounds = _checked(sizes, samples)
    if np.unique(n).size < FEWEST_SIZES:
        return _nothing(f"{np.unique(n).size} sizes, at least {FEWEST_SIZES} are needed")
    if not all(taken.all() for taken in rounds):
        if any(taken.any() for taken in rounds):
            return _nothing("zero at some sizes: relative errors have no meaning")
        return _zero()
    if exact := _exactly(n, rounds):
        return exact
    y, scatter = _typical(rounds)
    fits = _without_spikes(n, y, expected, step)
    masses = fits.masses
    flat = max(masses, key=lambda model: masses[model]) == MODELS[0]
    exponent = _slope(fits.n, fits.y) if flat else fits.exponent()
    model, reason = _verdict(fits, exponent, scatter)
    if model in NAMES.values():
        # Two steps, or a logarithm beside it, are tried with a model only: its power may be true.
        [power] = [power for power, name in NAMES.items() if name == model]
        ends = min(exponent.low, power), max(exponent.high, power)
        exponent = Interval(ends[0], exponent.estimate, ends[1])
    return Verdict(
        model=model,
        probabilities=MappingProxyType(masses),
        exponent=exponent,
        curve=fits.curve(flat, np.random.default_rng(seed)),
        reason=reason,
        set_aside=tuple(sorted(set(n.tolist()) - set(fits.n.tolist()))),
        warning=_warning(fits) if model not in ("inconclusive", MODELS[0]) else "",
    )


def _verdict(fits: _Fits, exponent: Interval, scatter: float) -> tuple[str, str]:
    """The model and what supports it, or "inconclusive" and why."""
    masses, n = fits.masses, fits.n
    best = max(masses, key=lambda model: masses[model])
    degrees = max(1, n.size - 3)
    allowed = math.hypot(DRIFT, scatter) * math.sqrt(stats.chi2.isf(0.001, degrees) / degrees)
    if fits.error > allowed:
        return "inconclusive", (
            f"no model fits: the best, {fits.name}, misses the points by {fits.error:.0%}, "
            f"where noise explains {allowed:.0%}"
        )
    drifting = 1 - sum(masses.values())
    if best == MODELS[0] and masses[best] + drifting >= CONFIDENT:
        slope, decades = _slope(n, fits.y), math.log(n[-1] / n[0])
        hidden = max(fits.growth(0.975), math.expm1(slope.high * decades))
        if hidden > HIDDEN or slope.low * decades < -math.log1p(HIDDEN):
            return "inconclusive", f"no growth is seen, but the noise may hide {hidden:.0%} of it"
        return best, f"{n.size} sizes, over which it grows by {max(hidden, 0.01):.0%} at most"
    if masses[MODELS[0]] + drifting > 1 - CONFIDENT:
        return "inconclusive", (
            f"it grows by {fits.growth(0.5):.0%} over all sizes, which drift or noise could feign"
        )
    narrow = exponent.high - exponent.low <= NARROW + ROUNDING
    open_ = masses[best] < SURER.get(best, CONFIDENT) or (best == POWER and not narrow)
    steep = best == "O(n^2)" or (best == POWER and exponent.estimate > 1)
    if open_ or (steep and fits.linear < CLEARLY):
        return "inconclusive", _undecided(fits, exponent)
    said = f"{n.size} sizes, missed by {fits.error:.1%} on average{fits.beside}"
    return f"O(n^{exponent.estimate:.1f})" if best == POWER else best, said


def _warning(fits: _Fits) -> str:
    """Nothing measured in one order of sizes can part a small growth from drift with the sizes."""
    if (grown := fits.growth(0.5)) >= SMALL:
        return ""
    return f"It grows by {grown:.0%} only: drift of the machine with the sizes may be a part of it"


def _undecided(fits: _Fits, exponent: Interval) -> str:
    """Which growths the data cannot tell apart."""
    if (left := fits.left) < FEWEST_LEFT:
        return f"{left} of {fits.n.size} sizes have left the plateau, too few to tell how it grows"
    rivals = [model for model, mass in fits.masses.items() if mass >= RIVAL]
    shown = [f"about n^{exponent.estimate:.1f}" if model == POWER else model for model in rivals]
    narrow = ": less than two decades of n" if fits.n[-1] < 100 * fits.n[0] else ""
    return f"{' and '.join(shown)} cannot be told apart{narrow}"


def _checked(sizes: ArrayLike, samples: Sequence[ArrayLike]) -> tuple[Array, list[Array]]:
    """Sizes in ascending order and the samples of each; raises on what cannot be judged."""
    n = np.asarray(sizes, dtype=float)
    rounds = [np.asarray(taken, dtype=float) for taken in samples]
    if n.ndim != 1 or n.size != len(rounds):
        raise ValueError(f"one array of samples per size: got {n.size} sizes, {len(rounds)} arrays")
    if not (np.isfinite(n).all() and (n >= 2).all()):
        raise ValueError("sizes must be finite and at least 2")
    for size, taken in zip(n, rounds, strict=True):
        if taken.ndim != 1 or taken.size == 0:
            raise ValueError(f"samples at size {size:g} must be a non-empty 1-D array")
        if not (np.isfinite(taken).all() and (taken >= 0).all()):
            raise ValueError(f"samples at size {size:g} must be finite and not negative")
    order = np.argsort(n, kind="stable")
    return n[order], [rounds[i] for i in order]


def _typical(rounds: Sequence[Array]) -> tuple[Array, float]:
    """Tukey's biweight mean of each point's logarithms, (N,), and their pooled scatter.

    The scale is the point's median absolute deviation, or that of all points where a point has too
    few samples to know its own (Mosteller and Tukey, "Data Analysis and Regression", 1977).
    """
    x = np.full((len(rounds), max(taken.size for taken in rounds)), np.nan)
    for row, taken in zip(x, rounds, strict=True):
        row[: taken.size] = np.log(taken)
    centre = np.nanmedian(x, axis=1)
    deviation = np.abs(x - centre[:, None])
    pooled = 1.4826 * float(np.nanmedian(deviation))
    scale = np.maximum(1.4826 * np.nanmedian(deviation, axis=1), pooled) + ROUNDING
    present, x = np.isfinite(x), np.nan_to_num(x)
    for _ in range(10):
        u = (x - centre[:, None]) / (4.685 * scale[:, None])
        weights = np.where(present & (np.abs(u) < 1), (1 - u**2) ** 2, 0.0)
        centre = (weights * x).sum(axis=1) / weights.sum(axis=1)
    return centre, pooled


def _shapes(x: Array, step: float) -> Iterator[tuple[Shape, float]]:
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
        rest = PLAIN + (0 if linear else BESIDE) + (0 if twice else TWICE)
        yield Shape(model, power), rest
        yield from ((Shape(model, power, steps), ONCE / len(once)) for steps in once)
        yield from ((Shape(model, power, steps), TWICE / len(twice)) for steps in twice)
        for beside in (0.1, 0.3, 1.0, 3.0, 10.0) if linear else ():
            yield Shape(model, power, beside=beside), BESIDE / 5


def _even(shape: Shape, norm: float, step: float) -> float:
    """Logarithm of a shape's prior among those that every power is tried with; else -inf."""
    if shape.model == "O(n log n)" or shape.beside or shape.ceiling or len(shape.steps) > 1:
        return -math.inf
    weight = math.log(dict(NORMS)[norm])
    if not shape.steps:
        return weight
    part = shape.steps[0][2] / math.log(step)
    common = not shape.power or (shape.steps[0][1] in ENDS and np.isclose(part, COARSE).any())
    return weight - math.log(10) if common else -math.inf


Steps = tuple[tuple[float, float, float], ...]


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


@dataclass(frozen=True, eq=False)
class _Curves:
    """All curves at some sizes. A block is the rows of one shape and norm, by overhead.

    Attributes:
        h: logarithms of the curves less their mean, (M, N).
        squares: of each row, summed, (M,).
        along: from each row to the next, times the row, and squared: (M,) each.
        grown: log growth of each row, (M,).
        overheads: log c of each row, (M,); -inf for none.
        starts: first row of each block, (B,).
        shapes: of each block, B of them.
        norms: p of each block, (B,).
        prior: logarithm of each block's share of its model's prior, (B,).
        models, powers: of each block's shape, (B,).
        even: logarithm of its share of what all powers have alike, (B,); -inf for what few have.
    """

    h: NDArray[np.float32]
    squares: Array
    along: tuple[Array, Array]
    grown: Array
    overheads: Array
    starts: NDArray[np.int_]
    shapes: tuple[Shape, ...]
    norms: Array
    prior: Array
    models: NDArray[np.str_]
    powers: Array
    even: Array


@lru_cache(maxsize=12)
def _curves(sizes: tuple[float, ...], step: float) -> _Curves:
    """The curves at `sizes`; a run has few sets of sizes, so they are kept."""
    n = np.array(sizes)
    rows, overheads, blocks = [], [], []
    for shape, share in _shapes(np.log(n), step):
        g = shape(n, n[-1])
        c = np.array([-np.inf, *np.arange(g[0] - 2, 2.5 + SPACING, SPACING)])
        norms = NORMS[:1] if shape.beside else NORMS[:: 2 if len(shape.steps) > 1 else 1]
        for p, weight in norms:
            rows.append(np.logaddexp(p * c[:, None], p * g) / p)
            overheads.append(c)
            blocks.append((shape, p, math.log(share * weight), c.size))
    h = np.concatenate(rows).astype(np.float32)  # Half the memory to read, and exact enough.
    grown = h[:, -1] - h[:, 0]
    h -= h.mean(axis=1, keepdims=True)
    shapes, norms, prior, lengths = zip(*blocks, strict=True)
    starts = np.cumsum((0, *lengths[:-1]))
    along = np.diff(h, axis=0, append=h[-1:])
    along[starts[1:] - 1] = 0
    return _Curves(
        h=h,
        squares=np.einsum("ij,ij->i", h, h, dtype=np.float64),
        along=(
            np.einsum("ij,ij->i", h, along, dtype=np.float64),
            np.einsum("ij,ij->i", along, along, dtype=np.float64),
        ),
        grown=grown.astype(np.float64),
        overheads=np.concatenate(overheads),
        starts=starts,
        shapes=shapes,
        norms=np.array(norms),
        prior=np.array(prior),
        models=np.array([shape.model for shape in shapes]),
        powers=np.array([shape.power for shape in shapes]),
        even=np.array([_even(shape, p, step) for shape, p, *_ in blocks]),
    )


@dataclass(frozen=True, eq=False)
class _Fits:
    """Every block's best curve through the points, and how probable it is.

    Attributes:
        n, y: sizes, and logarithms of the values, (N,).
        curves: all of them.
        squares: sums of squared residuals, (B,).
        evidence: logarithm of each block's likelihood times its share of its model's prior, (B,).
        weights: probabilities of blocks, (B,).
        constant: probability that nothing grows at all.
        grown: relative growth of each curve over all sizes, (B,).
        c: log c of each, (B,).
    """

    n: Array
    y: Array
    curves: _Curves
    squares: Array
    evidence: Array
    weights: Array
    constant: float
    grown: Array
    c: Array

    @cached_property
    def masses(self) -> dict[str, float]:
        """Growth -> probability; growth below FLAT is none, and up to FEIGNED nobody's."""
        seen = self.weights * (self.grown >= FEIGNED)
        masses = {m: float(seen[self.curves.models == m].sum()) for m in (*MODELS, POWER)}
        flat = self.constant + float(self.weights[self.grown < FLAT].sum())
        return masses | {MODELS[0]: flat}

    @cached_property
    def best(self) -> int:
        """The most probable block of the most probable growth, the constant aside."""
        growing = {model: mass for model, mass in self.masses.items() if model != MODELS[0]}
        leading = max(growing, key=lambda model: growing[model])
        return int(np.where(self.curves.models == leading, self.weights, -1).argmax())

    @property
    def error(self) -> float:
        """Root mean square relative error of the curve that comes nearest."""
        squares = min(float(self.squares.min()), float(((self.y - self.y.mean()) ** 2).sum()))
        return math.sqrt(squares / max(1, self.y.size - 3))

    @property
    def linear(self) -> float:
        """By how much the best linear curve is less likely than the best, as a logarithm."""
        linear = self.squares[self.curves.models == "O(n)"].min()
        best, worse = _likelihood(np.array([self.squares.min(), linear]), self.n.size)
        return float(best - worse)

    @property
    def name(self) -> str:
        """The model of the curve that comes nearest."""
        shape = self.curves.shapes[int(self.squares.argmin())]
        return shape.model if shape.model != POWER else f"n^{shape.power:g}"

    @property
    def beside(self) -> str:
        """What the best curve has beside its growth, in words."""
        shape = self.curves.shapes[self.best]
        said = ", after a plateau" if self.curves.norms[self.best] > 1 else ""
        places = " and ".join(f"{float(f'{math.exp(at):.1g}'):,.0f}" for at, *_ in shape.steps)
        return said + (f", with a step in the cost near {places}" if places else "")

    @property
    def left(self) -> int:
        """How many sizes have left the plateau, by the best curve."""
        work = self.curves.shapes[self.best](self.n, self.n[-1])
        return int((work - np.logaddexp(work, self.c[self.best]) > math.log(LEFT)).sum())

    def growth(self, quantile: float) -> float:
        """A quantile of the growth over all sizes, a share."""
        order = np.argsort(self.grown)
        reached = self.constant + np.cumsum(self.weights[order])
        if self.constant >= quantile:
            return 0.0
        return float(self.grown[order[min(int((reached < quantile).sum()), order.size - 1)]])

    def exponent(self) -> Interval:
        """The 95 % interval of the exponent, all of them equally probable before."""
        likely = _likelihood(self.squares, self.n.size) + self.curves.even
        logs = [special.logsumexp(likely[self.curves.powers == p]) for p in POWERS]
        fine = np.linspace(0, POWERS[-1], 601).round(6)
        smooth = interpolate.PchipInterpolator(POWERS, logs)(fine)
        reached = np.cumsum(np.exp(smooth - smooth.max()))
        low, high = fine[np.searchsorted(reached / reached[-1], [0.025, 0.975])]
        estimate = float(fine[smooth.argmax()])
        return Interval(min(float(low), estimate), estimate, max(float(high), estimate))

    def curve(self, flat: bool, random: np.random.Generator) -> Curve:
        """The most probable curve, with draws of those that may be true instead.

        A draw is a growth as probable as found, fitted to values with another error.
        """
        chances = np.append(self.weights, self.constant)
        drawn = random.choice(chances.size, DRAWS, p=chances / chances.sum())
        degrees = max(1, self.n.size - 3)
        errors = self.error * np.sqrt(degrees / random.chisquare(degrees, (DRAWS, 1)))
        ys = self.y + errors * random.standard_normal((DRAWS, self.n.size))
        draws = [
            curve
            for block in np.unique(drawn)
            for curve in self._refit(int(block), ys[drawn == block])
        ]
        [best] = self._refit(self.weights.size if flat else self.best, self.y[None])
        return replace(best, draws=tuple(draws))

    def _refit(self, block: int, ys: Array) -> list[Curve]:
        """The curves of a block (past the last: the constant) through values (R, N)."""
        if block == self.weights.size:
            return [Curve(MODELS[0], math.exp(mean)) for mean in ys.mean(axis=1)]
        shape, p = self.curves.shapes[block], float(self.curves.norms[block])
        g, largest = shape(self.n, self.n[-1]), float(self.n[-1])
        reach = np.full(ys.shape[0], 3 * SPACING)
        c = np.full(ys.shape[0], max(self.c[block], g[0] - 3))
        for _ in range(ZOOMS):
            tried = c[:, None] + reach[:, None] * np.linspace(-1, 1, 21)
            missed = ys[:, None] - np.logaddexp(p * tried[:, :, None], p * g) / p
            nearest = missed.var(axis=2).argmin(axis=1)[:, None]
            c, reach = np.take_along_axis(tried, nearest, axis=1)[:, 0], reach / 5
        scale = np.exp((ys - np.logaddexp(p * c[:, None], p * g) / p).mean(axis=1))
        return [
            Curve(shape.model, s * math.exp(log_c), s, largest, p, shape)
            for s, log_c in zip(scale.tolist(), c.tolist(), strict=True)
        ]


def _fit(n: Array, y: Array, expected: Sequence[str], step: float) -> _Fits:
    """Fit every curve, its overhead by projection on what lies between the overheads tried."""
    curves = _curves(tuple(n.tolist()), step)
    y_centred = y - y.mean()
    product = (curves.h @ y_centred.astype(np.float32)).astype(np.float64)
    forth, length = curves.along
    slope = np.diff(product, append=0.0) - forth
    slope[length == 0] = 0
    share = np.clip(slope / np.maximum(length, 1e-12), 0, 1)
    total = float(y_centred @ y_centred)
    rows = total - 2 * product + curves.squares - share * (2 * slope - share * length)
    rows = np.maximum(rows, n.size * ROUNDING**2)
    squares = np.minimum.reduceat(rows, curves.starts)
    lengths = np.diff(np.append(curves.starts, rows.size))
    hits = np.flatnonzero(rows == np.repeat(squares, lengths))
    block = np.searchsorted(curves.starts, hits, side="right") - 1
    at = hits[np.unique(block, return_index=True)[1]]

    def between(values: Array) -> Array:
        after = values[np.minimum(at + 1, values.size - 1)]
        moved = share[at] > 0
        mixed: Array = np.where(moved, values[at] + share[at] * (after - values[at]), values[at])
        return mixed

    overheads = np.where(np.isfinite(curves.overheads), curves.overheads, -40.0)
    evidence = _likelihood(squares, n.size) + curves.prior
    believed = _believed(expected)
    tried = {m: len(set(curves.powers[(curves.models == m) & ~_near(curves)])) for m in believed}
    prior = np.array([believed[m] / max(1, tried[m]) for m in curves.models])
    with np.errstate(divide="ignore"):
        logs = evidence + np.log(prior * ~_near(curves)) - 1  # An overhead that is fitted.
    constant = float(_likelihood(np.array([total]), n.size)[0]) + math.log(believed[MODELS[0]])
    whole = np.logaddexp(special.logsumexp(logs), constant)
    return _Fits(
        n=n,
        y=y,
        curves=curves,
        squares=squares,
        evidence=evidence,
        weights=np.exp(logs - whole),
        constant=math.exp(constant - whole),
        grown=np.expm1(between(curves.grown)),
        c=between(overheads),
    )


def _near(curves: _Curves) -> NDArray[np.bool_]:
    """Blocks whose exponent lies so near to a model's that no clock parts them."""
    near: NDArray[np.bool_] = np.isin(curves.powers, NEAR)
    return near


def _believed(expected: Sequence[str]) -> dict[str, float]:
    """The prior of each growth, where some were counted."""
    counted = set(expected) & set(PRIOR)
    if not counted:
        return dict(PRIOR)
    more = EXPECTED / len(counted)
    return {m: (1 - EXPECTED) * p + (more if m in counted else 0) for m, p in PRIOR.items()}


def _likelihood(squares: Array, points: int) -> Array:
    """Logarithm of the likelihood of residuals whose error is about USUAL_ERROR, or what they show.

    The scale of the values and the error are integrated out: the error's square is inverse gamma
    (Gelman and others, "Bayesian Data Analysis", 2013, section 14.2), its weight WEIGHT points.
    """
    logs: Array = -(WEIGHT + points - 1) / 2 * np.log1p(squares / (WEIGHT * USUAL_ERROR**2))
    return logs


def _without_spikes(n: Array, y: Array, expected: Sequence[str], step: float) -> _Fits:
    """The fits to all points, or to all but one or two far off every curve.

    Every choice is tried with the curves that have no steps, but for the largest size and for
    neighbours, which may be a bend and not a spike. A point kept pays its Gaussian likelihood, one
    set aside the fixed price of a spike: 3 % of points, spread evenly over a factor of e^2.
    """
    everything = _fit(n, y, expected, step)
    curves = everything.curves
    plain = [not shape.steps for shape in curves.shapes]
    lengths = np.diff(np.append(curves.starts, len(curves.h)))
    missed = y - curves.h[np.repeat(plain, lengths)]
    chosen = [
        list(aside)
        for count in range(1, min(2, n.size - FEWEST_SIZES) + 1)
        for aside in combinations(range(n.size - 1), count)
        if count < 2 or aside[1] - aside[0] > 1
    ]
    if not chosen:
        return everything
    weights = np.ones((len(chosen), n.size))
    for row, aside in zip(weights, chosen, strict=True):
        row[aside] = 0
    left = weights.sum(axis=1)
    squares = missed**2 @ weights.T - (missed @ weights.T) ** 2 / left
    rows = squares.argmin(axis=0)
    prices = _price(squares.min(axis=0), left, n.size)
    above = missed[rows] - (missed[rows] * weights).sum(axis=1, keepdims=True) / left[:, None]
    prices[((above <= 0) & (weights == 0)).any(axis=1)] = math.inf  # Spikes only take longer.
    if prices.min() >= _price(everything.squares.min(), n.size, n.size):
        return everything
    kept = weights[prices.argmin()] > 0
    return _fit(n[kept], y[kept], expected, step)


def _price(squares: Array, left: Array | int, points: int) -> Array:
    variance = np.maximum(squares, 0) / (left - 3 + 1e-9) + VISIBLE**2
    price: Array = left / 2 * np.log(2 * math.pi * math.e * variance)
    return price - (points - left) * math.log(0.03 / 2)


def _slope(n: Array, y: Array) -> Interval:
    """Log-log slope of the whole curve, with Student's t interval."""
    x = np.log(n) - np.log(n).mean()
    slope = float((x * y).sum() / (x**2).sum())
    squares = float(((y - y.mean() - slope * x) ** 2).sum()) + n.size * ROUNDING**2
    error = math.sqrt(squares / (n.size - 2) / float((x**2).sum()))
    reach = float(stats.t.isf(0.025, n.size - 2)) * error
    return Interval(slope - reach, slope, slope + reach)


def _nothing(reason: str) -> Verdict:
    """The verdict on samples that nothing can be fitted to."""
    return Verdict(
        model="inconclusive",
        probabilities=PRIOR,
        exponent=Interval(-math.inf, math.nan, math.inf),
        curve=Curve(MODELS[0], math.nan),
        reason=reason,
    )


def _exactly(n: Array, rounds: Sequence[Array]) -> Verdict | None:
    """The verdict on counts that some a + b*g(n) goes through; None where none does."""
    y = np.array([taken[0] for taken in rounds])
    if any(np.ptp(taken) for taken in rounds):
        return None
    for model, power in zip(MODELS, (0.0, 0.0, 0.5, 1.0, 1.0, 2.0), strict=True):
        g = growth(model, n)
        (a, b), *_ = np.linalg.lstsq(np.column_stack([1 / y, g / y]), np.ones_like(y), rcond=None)
        if a < -ROUNDING or b < 0 or np.abs((a + b * g) / y - 1).max() > 10 * ROUNDING:
            continue
        work, largest = float(b * g[-1]), float(n[-1])
        power = power + (math.log1p(1 / math.log(largest)) if model == "O(n log n)" else 0)
        shape = None if model == MODELS[0] else Shape(model, round(power, 2))
        return Verdict(
            model=model,
            probabilities=MappingProxyType({m: float(m == model) for m in (*MODELS, POWER)}),
            exponent=Interval(power, power, power),
            curve=Curve(model, max(0.0, float(a)), work, largest, shape=shape),
            reason=f"{n.size} sizes, exactly",
        )
    return None


def _zero() -> Verdict:
    """The verdict on a cost that is zero at every size."""
    return Verdict(
        model=MODELS[0],
        probabilities=MappingProxyType({m: float(m == MODELS[0]) for m in (*MODELS, POWER)}),
        exponent=Interval(0.0, 0.0, 0.0),
        curve=Curve(MODELS[0], 0.0),
        reason="zero at every size",
    )
