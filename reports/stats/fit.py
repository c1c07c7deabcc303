"""Every curve of `shapes` through the points of one cost, and how probable each is.

1. A size is worth one number, the Tukey-weighted mean of the logarithms of its samples, which
   spikes do not move; a size far off every curve is set aside.
2. Each curve is worth its likelihood, the unknown error integrated out; the overhead is taken where
   it is best, all else is averaged over (Kass and Raftery, "Bayes factors", JASA 90, 1995), so a
   step that the points do not ask for costs what it could explain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, special, stats

from reports.stats.estimates import Interval
from reports.stats.shapes import MODELS, NORMS, POWER, POWERS, Curve, Shape, every_shape

Array = NDArray[np.float64]

PRIOR: Final[Mapping[str, float]] = MappingProxyType(
    dict(zip((*MODELS, POWER), (0.20, 0.16, 0.08, 0.20, 0.12, 0.12, 0.12), strict=True))
)
"""How probable each growth is before anything was measured."""

EXPECTED: Final = 0.65
"""The share of that belief which moves to what was counted, where something was."""

USUAL_ERROR, WEIGHT = 0.04, 3.0
"""The error of a size's value is taken to be about this, with the weight of so many sizes."""

FLAT, FEIGNED = 0.10, 0.15
"""Growth over all sizes that a machine drifting by 5 % at either end could feign, and that a sweep
whose sizes were not shuffled could; between them nothing is decided."""

FEWEST_SIZES: Final = 5
ROUNDING: Final = 1e-6
"""Relative error below which curves are the same: exact counts fit to this, and no better."""

CLEAR: Final = 3.0
"""How many times the error of a size's value a curve is above its plateau where that is left."""

VISIBLE: Final = 0.02
"""What the price of a spike takes for no error at all."""

NEAR: Final = (0.1, 0.9, 1.1, 1.9)
SPACING: Final = 0.5
"""Ratio of neighbouring overheads tried; between them curves are interpolated."""

DRAWS: Final = 400
ZOOMS: Final = 9
"""Each zoom finds an overhead five times as exactly."""

TRIED: Final = np.linspace(-1, 1, 21)
"""Overheads that a zoom looks at, in parts of its reach."""


def typical(rounds: Sequence[Array]) -> Array:
    """Tukey's biweight mean of each point's logarithms, (N,).

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
    return np.asarray(centre)


@dataclass(frozen=True, eq=False)
class Curves:
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


@lru_cache(maxsize=12)
def curves_at(sizes: tuple[float, ...], step: float) -> Curves:
    """The curves at `sizes`; a run has few sets of sizes, so they are kept."""
    n = np.array(sizes)
    rows, overheads, blocks = [], [], []
    for shape, share in every_shape(np.log(n), step):
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
    return Curves(
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
    )


@dataclass(frozen=True, eq=False)
class Fits:
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
    curves: Curves
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
    def beyond(self) -> Array:
        """The sizes that have left the plateau, by the best curve: it lies visibly above."""
        shape, p = self.curves.shapes[self.best], self.curves.norms[self.best]
        above = np.logaddexp(0, p * (shape(self.n, self.n[-1]) - self.c[self.best])) / p
        left: Array = self.n[above > max(math.log1p(FLAT), CLEAR * self.error)]
        return left

    def outgrown(self, power: float) -> float:
        """How much more than n the work grows over the sizes beyond the plateau, a logarithm.

        The lesser of what the best curve and n^`power` say, as a curve may have steps.
        """
        reach = self.beyond[[0, -1]]
        first, last = self.curves.shapes[self.best](reach, self.n[-1])
        linear = float(np.diff(np.log(reach))[0])
        return min(float(last - first) - linear, (power - 1) * linear)

    def growth(self, quantile: float) -> float:
        """A quantile of the growth over all sizes, a share."""
        order = np.argsort(self.grown)
        reached = self.constant + np.cumsum(self.weights[order])
        if self.constant >= quantile:
            return 0.0
        return float(self.grown[order[min(int((reached < quantile).sum()), order.size - 1)]])

    def exponent(self) -> Interval:
        """The 95 % interval of the exponent, all equally probable before; n log n has none.

        It holds, besides what is probable, every exponent of which one curve comes about as near
        as any: how often shapes occur is a belief, and nobody's points need to share it.
        """
        logs, nearest = (
            np.array([over(self._of_power(values, p)) for p in POWERS])
            for over, values in (
                (special.logsumexp, self.evidence),
                (np.max, _likelihood(self.squares, self.n.size)),
            )
        )
        fine = np.linspace(0, POWERS[-1], 601).round(6)
        smooth = interpolate.PchipInterpolator(POWERS, logs)(fine)
        reached = np.cumsum(np.exp(smooth - smooth.max()))
        low, high = fine[np.searchsorted(reached / reached[-1], [0.025, 0.975])]
        estimate = float(fine[smooth.argmax()])
        near = np.array(POWERS)[nearest > nearest.max() - stats.chi2.ppf(0.95, 1) / 2]
        return Interval(
            min(float(low), float(near[0]), estimate),
            estimate,
            max(float(high), float(near[-1]), estimate),
        )

    def _of_power(self, values: Array, power: float) -> Array:
        """The values of blocks whose work grows like n^power."""
        of = (self.curves.powers == power) & (self.curves.models != "O(n log n)")
        chosen: Array = values[of]
        return chosen

    def curve(self, flat: bool, random: np.random.Generator, count: int) -> Curve:
        """The most probable curve, with draws of `count` that may be true instead.

        A draw is a growth as probable as found, fitted to values with another error.
        """
        chances = np.append(self.weights, self.constant)
        drawn = random.choice(chances.size, count, p=chances / chances.sum())
        degrees = max(1, self.n.size - 3)
        errors = self.error * np.sqrt(degrees / random.chisquare(degrees, (count, 1)))
        ys = self.y + errors * random.standard_normal((count, self.n.size))
        order = np.argsort(drawn, kind="stable")
        draws = self.refit(drawn[order], ys[order])
        [best] = self.refit(np.array([self.weights.size if flat else self.best]), self.y[None])
        return replace(best, draws=tuple(draws))

    def refit(self, blocks: NDArray[np.int64], ys: Array) -> list[Curve]:
        """A curve of each of `blocks`, (R,), through its values, (R, N).

        Past the last block is the constant, whose curves come last.
        """
        growing = blocks < self.weights.size
        flat = [Curve(MODELS[0], math.exp(mean)) for mean in ys[~growing].mean(axis=1)]
        if not growing.any():
            return flat
        blocks, ys, largest = blocks[growing], ys[growing], float(self.n[-1])
        shapes = [self.curves.shapes[block] for block in blocks]
        g, p = np.array([shape(self.n, largest) for shape in shapes]), self.curves.norms[blocks]
        pg = (p[:, None] * g)[:, None]
        c, reach = np.maximum(self.c[blocks], g[:, 0] - 3), 3 * SPACING
        rows = np.arange(c.size)
        for _ in range(ZOOMS):
            tried = c[:, None] + reach * TRIED
            curves = np.logaddexp((p[:, None] * tried)[:, :, None], pg) / p[:, None, None]
            c, reach = tried[rows, (ys[:, None] - curves).var(axis=2).argmin(axis=1)], reach / 5
        curves = np.logaddexp((p * c)[:, None], pg[:, 0]) / p[:, None]
        scale = np.exp((ys - curves).mean(axis=1))
        return [
            Curve(shape.model, s * math.exp(log_c), s, largest, float(norm), shape)
            for shape, norm, s, log_c in zip(shapes, p, scale.tolist(), c.tolist(), strict=True)
        ] + flat


def fit(n: Array, y: Array, expected: Sequence[str], step: float) -> Fits:
    """Fit every curve, its overhead by projection on what lies between the overheads tried."""
    curves = curves_at(tuple(n.tolist()), step)
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
    return Fits(
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


def _near(curves: Curves) -> NDArray[np.bool_]:
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


def best_fits(n: Array, y: Array, expected: Sequence[str], step: float) -> Fits:
    """The fits to all points, or to all but one or two far off every curve.

    Every choice is tried with the curves that have no steps, but for the largest size and for
    neighbours, which may be a bend and not a spike. A point kept pays its Gaussian likelihood, one
    set aside the fixed price of a spike: 3 % of points, spread evenly over a factor of e^2.
    """
    everything = fit(n, y, expected, step)
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
    return fit(n[kept], y[kept], expected, step)


def _price(squares: Array, left: Array | int, points: int) -> Array:
    variance = np.maximum(squares, 0) / (left - 3 + 1e-9) + VISIBLE**2
    price: Array = left / 2 * np.log(2 * math.pi * math.e * variance)
    return price - (points - left) * math.log(0.03 / 2)
