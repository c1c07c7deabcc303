"""The complexity verdict: which of a + b*g(n) a curve follows, or that the data cannot tell.

`classify` works on the logarithm of each size's typical value, so errors count relative to it:

1. a size is worth one number, the Tukey-weighted mean of the logarithms of its samples, which
   spikes do not move; a size far off every curve is set aside, and named;
2. each g in {log n, n, n log n, n^2} is fitted by least squares with a, b >= 0, beside a constant;
3. the fits are repeated on resampled values; each time Akaike's criterion (small-sample form)
   weighs the models, and the mean weights are their probabilities;
4. a model is named when its probability is high and its curve goes through the points; otherwise
   the verdict is "inconclusive", with the reason.

Nothing here knows about time: bytes and counted operations, which have no noise, are judged alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from reports import units
from reports.stats.estimates import Interval

Model = Literal["O(1)", "O(log n)", "O(n)", "O(n log n)", "O(n^2)"]
Array = NDArray[np.float64]

MODELS: Final[tuple[Model, ...]] = ("O(1)", "O(log n)", "O(n)", "O(n log n)", "O(n^2)")

# Each probability is a mean over this many refits: its own error is then below 0.03.
REFITS: Final = 400
# A resampled value carries the noise twice (once as measured, once as resampled), so mean weights
# are modest: at this one the simulation names a wrong model in well under 1 % of the cases.
CONFIDENT: Final = 2 / 3
# Growth over all sizes that a machine drifting by DRIFT at either end could feign.
FLAT: Final = 0.1
# Error of a curve above which caches and allocators bend it as much as a factor log n does.
BENT: Final = 0.06
# A curve that errs less than this goes through counts, which do not drift: no clock is as good.
NOISELESS: Final = 1e-4
# Growth that noise may hide before "O(1)" would say more than the data do.
HIDDEN: Final = 0.5
# Error of one size's value that a quiet shared machine leaves: what a curve may miss its points by.
DRIFT: Final = 0.05
# AICc has no meaning for fewer: three parameters (a, b, error) need five sizes.
FEWEST_SIZES: Final = 5
# Relative error below which curves are the same: exact counts fit to this, and no better.
ROUNDING: Final = 1e-6
# What Akaike's criterion must gain before growth is believed: odds of e^2 beyond its own penalty.
CONVINCING: Final = 4.0
# Error of a curve that a reader of a plot would see.
VISIBLE: Final = 0.01
# Steps of the search for the constant part: each changes it by less than a factor of two.
GRID: Final = 64
# Exponents considered: from saturation (levels off) to the cube.
SLOWEST, FASTEST = -1.0, 3.0


@dataclass(frozen=True)
class Curve:
    """A fitted curve a + b*g(n), in the unit of the samples.

    Attributes:
        model: which g.
        a: the part that does not grow.
        b: the coefficient of g(n); logarithms are to base 2.
        refits: the same of each resampled fit, columns (model's index in `MODELS`, a, b).
    """

    model: Model
    a: float
    b: float
    refits: Array = field(repr=False, compare=False)

    def __call__(self, n: ArrayLike) -> Array:
        """The curve at `n`, elementwise."""
        return self.a + self.b * growth(self.model, np.asarray(n, dtype=float))

    def interval(self, n: float) -> Interval:
        """The curve at `n` with its 95 % interval, which covers the doubt about the model too.

        It says where the typical value lies, not where single rounds scatter; beyond the measured
        sizes it holds only as far as the models do.
        """
        index, a, b = self.refits.T
        terms = np.array([growth(model, np.array(n, dtype=float)) for model in MODELS])
        low, high = np.quantile(a + b * terms[index.astype(int)], [0.025, 0.975])
        centre = float(self(n))
        return Interval(min(float(low), centre), centre, max(float(high), centre))


@dataclass(frozen=True)
class Verdict:
    """What a curve says about complexity.

    Attributes:
        model: one of `MODELS`, or "inconclusive".
        probabilities: model -> probability, over `MODELS`; sums to 1.
        exponent: p of the growing part n^p, with its 95 % interval: of the power law
            a + b*(n^p - 1)/p nearest to the curve. The family holds log n (p = 0), n (p = 1) and
            n^2 (p = 2) exactly; n log n, no power law, lies at about 1 + 1/ln n. Where nothing
            grows (the constant is the most probable), the log-log slope of the whole: truth 0.
        curve: the fitted curve of the most probable model, named or not.
        reason: why the verdict is inconclusive; otherwise what supports it.
        set_aside: sizes far off every curve, not used.
    """

    model: Model | Literal["inconclusive"]
    probabilities: Mapping[Model, float]
    exponent: Interval
    curve: Curve
    reason: str
    set_aside: tuple[float, ...] = ()


def growth(model: Model, n: Array) -> Array:
    """g(n) of a model, elementwise; logarithms to base 2, and 0 for the constant."""
    match model:
        case "O(1)":
            return np.zeros_like(n)
        case "O(log n)":
            return np.log2(n)
        case "O(n)":
            return n
        case "O(n log n)":
            return n * np.log2(n)
        case "O(n^2)":
            return n**2


def classify(sizes: ArrayLike, samples: Sequence[ArrayLike], seed: int = 0) -> Verdict:
    """Judge which complexity a curve has.

    Args:
        sizes: the n of each point, shape (N,), each at least 2.
        samples: for each point a 1-D array of seconds (or bytes, or counted operations): the rounds
            of all its passes together.
        seed: of the resampling; the same input gives the same verdict.

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
    y, scatter = _typical(rounds)
    kept = _kept(n, y)
    aside = tuple(n[~kept].tolist())
    n, y = n[kept], y[kept]

    fits = _fit_all(n, y, np.random.default_rng(seed))
    power = _power_law(n, y, fits.inflation)
    probabilities = fits.weights[1:].mean(axis=0)
    misfit = _misfit(fits, scatter, power)
    best = int(fits.squares[0].argmin() if misfit else probabilities.argmax())
    objection = misfit or _undecided(probabilities, n, fits.error(best)) or _hidden(fits, best)
    return Verdict(
        model="inconclusive" if objection else MODELS[best],
        probabilities=MappingProxyType(dict(zip(MODELS, probabilities.tolist(), strict=True))),
        exponent=_slope(n, y) if best == 0 else power.exponent,
        curve=Curve(MODELS[best], float(fits.a[0, best]), float(fits.b[0, best]), fits.draws()),
        reason=objection or f"{n.size} sizes, missed by {fits.error(best):.1%} on average",
        set_aside=aside,
    )


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


def _shapes(n: Array) -> Array:
    """The growing models, each scaled to 1 at the largest size: shape (4, N)."""
    g = np.array([growth(model, n) for model in MODELS[1:]])
    scaled: Array = g / g[:, -1:]
    return scaled


def _least_squares(y: Array, g: Array, weights: Array | None = None) -> tuple[Array, Array, Array]:
    """Fit y = log s + log(c + g) by least squares over s > 0 and c >= 0, for all y and g at once.

    For each c the scale has a closed form, so only c is searched: on a grid, which no local minimum
    deceives, then by Gauss-Newton.

    Args:
        y: logarithms of the values, shape (B, N).
        g: shapes that grow to 1, shape (K, N).
        weights: of the points, shape (B, N); equal by default.

    Returns:
        log s, c and the weighted sum of squared residuals, each of shape (B, K).
    """
    weights = np.ones_like(y) if weights is None else weights
    total = weights.sum(axis=1)
    share = (weights / total[:, None])[:, None, :]

    def centred(x: Array) -> Array:
        mean: Array = (share * x).sum(axis=2, keepdims=True)
        return x - mean

    target = centred(y[:, None, :])
    logs = np.linspace(np.log(ROUNDING * g.min(axis=1)), math.log(1e4), GRID, axis=1)
    grid = np.concatenate([np.zeros((len(g), 1)), np.exp(logs)], axis=1)
    h = np.log(grid[:, :, None] + g[:, None, :])
    misfit = (
        np.tensordot(share[:, 0], h**2, axes=(1, 2))
        - np.tensordot(share[:, 0], h, axes=(1, 2)) ** 2
        - 2 * np.tensordot((share * target)[:, 0], h, axes=(1, 2))
    )
    start = np.take_along_axis(grid[None], misfit.argmin(axis=2)[:, :, None], axis=2)
    reach = ((logs[:, -1] - logs[:, 0]) / GRID)[:, None]
    c = start
    for _ in range(6):
        residual = target - centred(np.log(c + g))
        slope = centred(c / (c + g))
        normal = (share * slope**2).sum(axis=2, keepdims=True)
        step = (share * slope * residual).sum(axis=2, keepdims=True) / np.maximum(normal, 1e-300)
        c = c * np.exp(np.clip(step, -reach, reach))

    def squares(c: Array) -> Array:
        residual = target - centred(np.log(c + g))
        summed: Array = total[:, None] * (share * residual**2).sum(axis=2)
        return summed

    better = (squares(c) < squares(start))[:, :, None]
    c = np.where(better, c, start)
    scale = (share * (y[:, None, :] - np.log(c + g))).sum(axis=2)
    return scale, c[:, :, 0], squares(c)


def _kept(n: Array, y: Array) -> NDArray[np.bool_]:
    """Which points to use, boolean (N,): all, or all but one or two far off every curve.

    Every choice is tried, but for the largest size and for neighbours, which may be a bend and not
    a spike. A point kept pays its Gaussian likelihood, one set aside the fixed price of a spike:
    3 % of points, spread evenly over a factor of e^2.
    """
    size = n.size
    chosen = [
        list(aside)
        for count in range(min(2, size - FEWEST_SIZES) + 1)
        for aside in combinations(range(size - 1), count)
        if count < 2 or aside[1] - aside[0] > 1
    ]
    weights = np.ones((len(chosen), size))
    for row, aside in zip(weights, chosen, strict=True):
        row[aside] = 0
    repeated = np.broadcast_to(y, weights.shape)
    *_, growing = _least_squares(repeated, _shapes(n), weights)
    left = weights.sum(axis=1)
    mean = (weights * y).sum(axis=1) / left
    constant = (weights * (y - mean[:, None]) ** 2).sum(axis=1)
    variance = np.minimum(constant / (left - 1), growing.min(axis=1) / (left - 2))
    price = left / 2 * np.log(2 * math.pi * math.e * (variance + ROUNDING**2))
    price -= (size - left) * math.log(0.03 / 2)
    kept: NDArray[np.bool_] = weights[price.argmin()] > 0
    return kept


@dataclass(frozen=True)
class _Fits:
    """All models fitted to the data (row 0) and to each resampling; columns as in `MODELS`.

    Attributes:
        a, b: coefficients, shape (1 + R, 5).
        squares: sums of squared residuals, shape (1 + R, 5).
        weights: Akaike weights, shape (1 + R, 5).
        grown: relative growth of each curve over all sizes, shape (1 + R, 5).
        inflation: by how much neighbouring residuals that err alike overstate what the points tell.
        points: number of points.
    """

    a: Array
    b: Array
    squares: Array
    weights: Array
    grown: Array
    inflation: float
    points: int

    def error(self, model: int) -> float:
        """Root mean square relative error of a model's curve, for its degrees of freedom."""
        return math.sqrt(self.squares[0, model] / (self.points - (1 if model == 0 else 2)))

    def draws(self) -> Array:
        """The best model of each resampling: columns index in `MODELS`, a, b; shape (R, 3)."""
        best = self.weights[1:].argmax(axis=1)
        rows = np.arange(1, best.size + 1)
        return np.column_stack([best, self.a[rows, best], self.b[rows, best]])


def _fit_all(n: Array, y: Array, random: np.random.Generator) -> _Fits:
    """Fit every model to `y` and to REFITS resamplings of it.

    A resampling adds to each point an error as large as the best curve's residuals, itself
    uncertain (chi-squared), so that few points give wide answers.
    """
    g = _shapes(n)
    points = n.size
    *_, growing = _least_squares(y[None], g)
    constant = ((y - y.mean()) ** 2).sum()
    variance = min(constant / (points - 1), growing.min() / (points - 2))
    spread = np.sqrt(variance * (points - 2) / random.chisquare(points - 2, (REFITS, 1)))
    ys = np.vstack([y, y + spread * random.standard_normal((REFITS, points))])

    scale, c, growing = _least_squares(ys, g)
    mean = ys.mean(axis=1, keepdims=True)
    squares = np.hstack([((ys - mean) ** 2).sum(axis=1, keepdims=True), growing])
    top = np.array([growth(model, n[-1:]) for model in MODELS[1:]]).T
    grown = np.hstack([np.zeros_like(mean), (c + 1) / (c + g[:, 0]) - 1])
    best = int(squares[0].argmin())
    if best:
        residual = y - scale[0, best - 1] - np.log(c[0, best - 1] + g[best - 1])
    else:
        residual = y - y.mean()
    inflation = _inflation(residual)
    return _Fits(
        a=np.hstack([np.exp(mean), np.exp(scale) * c]),
        b=np.hstack([np.zeros_like(mean), np.exp(scale) / top]),
        squares=squares,
        weights=_akaike_weights(squares, grown, points, inflation),
        grown=grown,
        inflation=inflation,
        points=points,
    )


def _akaike_weights(squares: Array, grown: Array, points: int, inflation: float) -> Array:
    """Weight of each model in each row, summing to 1, by AICc (QAICc where there is inflation).

    The constant takes all where the best growing curve hardly grows or hardly fits better;
    otherwise it takes none, and curves of equally many parameters compare by their residuals alone.
    Burnham and Anderson, "Model Selection and Multimodel Inference", 2002, chapter 2.
    """
    parameters = np.array([2, 3, 3, 3, 3])
    likelihood = points * np.log(squares / points + ROUNDING**2) / inflation
    penalty = 2 * parameters * (1 + (parameters + 1) / (points - parameters - 1))
    criterion = likelihood + penalty
    best = criterion[:, 1:].argmin(axis=1)[:, None] + 1
    flat = np.take_along_axis(grown, best, axis=1)[:, 0] < FLAT
    flat &= squares.min(axis=1) > points * NOISELESS**2
    flat |= criterion[:, 0] <= criterion[:, 1:].min(axis=1) + CONVINCING
    weights: Array = np.exp((criterion[:, 1:].min(axis=1, keepdims=True) - criterion) / 2)
    weights[:, 0] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    weights[flat] = np.eye(len(MODELS))[0]
    return weights


def _inflation(residual: Array) -> float:
    """Variance inflation (1 + r) / (1 - r) for lag-one correlation r, where it is significant.

    Smooth residuals mean a bend that no model has (a cache too small from some size on), or drift
    that followed the sizes; either way neighbouring points are not separate witnesses. Tested by
    von Neumann's ratio, whose mean is 2 and variance 4 (N - 2) / (N^2 - 1).
    """
    size = residual.size
    squares = float((residual**2).sum())
    if squares <= size * ROUNDING**2:
        return 1.0
    ratio = float((np.diff(residual) ** 2).sum()) / squares
    if ratio > 2 - 2 * math.sqrt(4 * (size - 2) / (size**2 - 1)):
        return 1.0
    correlation = min(1 - ratio / 2, 0.6)
    return (1 + correlation) / (1 - correlation)


@dataclass(frozen=True)
class _PowerLaw:
    """The free exponent: its interval, and the sum of squared residuals where it is best."""

    exponent: Interval
    squares: float


def _power_law(n: Array, y: Array, inflation: float) -> _PowerLaw:
    """Fit a + b*(n^p - 1)/p with p free; the interval is the likelihood's profile.

    It holds the exponents whose best curve is not significantly worse (F, 1 and N - 3 degrees) than
    the best of all. Bates and Watts, "Nonlinear Regression Analysis", 1988, chapter 6.
    """
    low, high = SLOWEST, FASTEST
    degrees = n.size - 3
    limit = inflation * float(stats.f.isf(0.05, 1, degrees)) / degrees
    while True:
        p = np.linspace(low, high, 81).round(9)
        logs = np.log(n)
        g = np.where(
            p[:, None] == 0, logs, np.expm1(np.outer(p, logs)) / np.where(p == 0, 1, p)[:, None]
        )
        squares = _least_squares(y[None], g / g[:, -1:])[2][0] + n.size * ROUNDING**2
        inside = np.flatnonzero(squares <= squares.min() * (1 + limit))
        first, last = inside[0], inside[-1]
        if last - first >= 20 or high - low < 1e-6:
            break
        low, high = p[max(first - 2, 0)], p[min(last + 2, p.size - 1)]
    estimate = float(p[squares.argmin()])
    return _PowerLaw(Interval(float(p[first]), estimate, float(p[last])), float(squares.min()))


def _slope(n: Array, y: Array) -> Interval:
    """Log-log slope of the whole curve, with Student's t interval."""
    x = np.log(n) - np.log(n).mean()
    slope = float((x * y).sum() / (x**2).sum())
    squares = float(((y - y.mean() - slope * x) ** 2).sum()) + n.size * ROUNDING**2
    error = math.sqrt(squares / (n.size - 2) / float((x**2).sum()))
    reach = float(stats.t.isf(0.025, n.size - 2)) * error
    return Interval(slope - reach, slope, slope + reach)


def _misfit(fits: _Fits, scatter: float, power: _PowerLaw) -> str:
    """Why no model fits, or "" where one goes through the points.

    Either a power law between the models is significantly (p < 0.001) and visibly better than all
    of them, or every curve misses the points by more than drift and scatter explain.
    """
    best = int(fits.squares[0].argmin())
    error = fits.error(best)
    degrees = fits.points - 3
    gain = (fits.squares[0, best] / power.squares - 1) * degrees / fits.inflation
    if error > VISIBLE and gain > stats.f.isf(0.001, 1, degrees):
        return f"no model fits: the growing part goes like n^p, p = {units.show(power.exponent)}"
    allowed = math.hypot(DRIFT, scatter) * math.sqrt(stats.chi2.isf(0.001, degrees) / degrees)
    if error > allowed:
        return (
            f"no model fits: the best, {MODELS[best]}, misses the points by {error:.0%}, "
            f"where noise explains {allowed:.0%}"
        )
    return ""


def _undecided(probabilities: Array, n: Array, error: float) -> str:
    """Which models the data cannot tell apart, or "" where one is probable enough."""
    best = MODELS[int(probabilities.argmax())]
    if error > BENT and best in ("O(n)", "O(n log n)"):
        return f"O(n) and O(n log n) differ by less than their curves miss the points, {error:.0%}"
    if probabilities.max() >= CONFIDENT:
        return ""
    rivals = " and ".join(MODELS[i] for i in np.flatnonzero(probabilities >= 0.1))
    narrow = n[-1] < 100 * n[0]
    return f"{rivals} fit equally well" + (": less than two decades of n" if narrow else "")


def _hidden(fits: _Fits, best: int) -> str:
    """What growth the noise may hide where nothing is seen to grow, or "" where that is little."""
    growing = fits.squares[1:, 1:].argmin(axis=1)[:, None] + 1
    grown = float(np.quantile(np.take_along_axis(fits.grown[1:], growing, axis=1), 0.975))
    if best or grown <= HIDDEN:
        return ""
    return f"no growth is seen, but the noise may hide {grown:.0%} of it"


def _nothing(reason: str) -> Verdict:
    """The verdict on samples that nothing can be fitted to."""
    return Verdict(
        model="inconclusive",
        probabilities=MappingProxyType(dict.fromkeys(MODELS, 1 / len(MODELS))),
        exponent=Interval(-math.inf, math.nan, math.inf),
        curve=Curve("O(1)", math.nan, 0.0, np.array([[0.0, math.nan, 0.0]])),
        reason=reason,
    )


def _zero() -> Verdict:
    """The verdict on a cost that is zero at every size."""
    return Verdict(
        model="O(1)",
        probabilities=MappingProxyType({model: float(model == "O(1)") for model in MODELS}),
        exponent=Interval(0.0, 0.0, 0.0),
        curve=Curve("O(1)", 0.0, 0.0, np.zeros((1, 3))),
        reason="zero at every size",
    )
