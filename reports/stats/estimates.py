"""Estimates that carry their intervals: medians, ratios and the noise floor of repeated passes.

A cell is measured in a few passes over the whole grid, each pass a handful of rounds. Rounds of one
pass share whatever the machine was doing at that moment; passes do not. Every interval here lets
passes vary first and rounds second: a pass is worth one number, the logarithm of its median, which
carries the rounds' scatter with it, and the interval is Student's t over passes. Resampling passes
and rounds by a percentile bootstrap means the same and is far too narrow for three passes: what it
covers stands beside what these intervals cover in `python -m reports.simulation`.

Three passes alone leave two degrees of freedom. But a run has hundreds of cells, so the scatter
between passes is learned from all of them, and each cell's own is shrunk towards it (Smyth, "Linear
models and empirical Bayes methods for assessing differential expression in microarray experiments",
Statistical Applications in Genetics and Molecular Biology 3, 2004): where the cells are alike.
Where they are not, that would hold the quiet ones far too often and the noisy ones too seldom, so a
cell of three passes or more then speaks for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Passes = Sequence[ArrayLike]
"""The raw samples of one cell: for each pass a 1-D array of rounds (seconds or bytes)."""

Change = Literal["faster", "slower", "same", "ambiguous"]


@dataclass(frozen=True)
class Interval:
    """An estimate and the 95 % interval (or whatever confidence was asked for) around it."""

    low: float
    estimate: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Scatter:
    """How much passes of one cell differ, learned from many cells.

    Attributes:
        variance: typical variance of the logarithm of a pass median.
        degrees: how many degrees of freedom that knowledge is worth; infinite where all cells
            scatter alike, 0 where nothing is known.
        inflation: how many times as far as they say lie passes that are predicted from the others
            of their cell, in 95 % of the cases; at least 1.
    """

    variance: float = 0.0
    degrees: float = 0.0
    inflation: float = 1.0

    def teaches(self, own: int) -> bool:
        """Whether a cell with so many degrees of its own should learn its scatter from others."""
        return own < ENOUGH or self.degrees >= ALIKE


ENOUGH: Final = 2
"""Degrees of its own, one less than its passes, that a cell's interval can stand on."""

ALIKE: Final = 4.0
"""Degrees of freedom of what a run knows from which on its cells are alike. On shared machines it
knows about one: the noisiest tenth of the cells scatters twenty times as much as the quiet half."""

MANY = 20
"""Cells below which the worst passes cannot be told from bad luck."""

EXACT = Scatter(variance=0.0, degrees=math.inf)
"""The scatter of what has none: counted operations, bytes."""


@dataclass(frozen=True)
class NoiseFloor:
    """What A/A pairs (one cell measured as if it were two) say about the smallest real difference.

    Attributes:
        typical: the relative difference, a share, that half of the A/A comparisons stay below.
        difference: that which 95 % of them stay below.
        comparisons: number of A/A comparisons.
        significant: how many of them were called different, wrongly.
    """

    typical: Interval
    difference: Interval
    comparisons: int
    significant: int


def scatter(cells: Iterable[Passes]) -> Scatter:
    """Learn the scatter between passes from all cells of a run (Smyth 2004, section 6.2).

    Cells with one pass say nothing and are left out, as are cells without any scatter (counts). How
    much cells differ in their scatter is itself estimated: one standard error is added to it, so
    that the degrees err on the careful side.

    Machines do worse than any such law: most passes of a cell agree, and then one does not. So
    every pass is predicted from the others of its cell, and the intervals are widened until they
    would have held 95 % of them (conformal prediction: Lei et al., "Distribution-free predictive
    inference for regression", JASA 113, 2018).
    """
    variances, degrees, kept = [], [], []
    for cell in cells:
        medians = _log_medians(cell)
        if medians.size >= 2 and np.ptp(medians) > 0:
            variances.append(medians.var(ddof=1))
            degrees.append(medians.size - 1)
            kept.append(medians)
    if not variances:
        return Scatter()
    if len(variances) < 3:
        # How much cells differ in their scatter cannot be told from so few.
        return Scatter(float(np.mean(variances)), float(min(degrees)))
    half = np.array(degrees) / 2
    centred = np.log(variances) - special.digamma(half) + np.log(half)
    squares = (centred - centred.mean()) ** 2 * half.size / (half.size - 1)
    excess = max(0.0, float((squares - special.polygamma(1, half)).mean()))
    careful = excess + float(squares.std(ddof=1)) / math.sqrt(half.size)
    shift = 0.0
    if excess:
        prior = _inverse_trigamma(excess)
        shift = float(special.digamma(prior)) - math.log(prior)
    degrees_known = 2 * _inverse_trigamma(careful) if careful else math.inf
    learned = Scatter(math.exp(float(centred.mean()) + shift), degrees_known)
    return replace(learned, inflation=_inflation(kept, learned))


def _inflation(cells: Sequence[NDArray[np.float64]], known: Scatter) -> float:
    """See `Scatter.inflation`; 1 for fewer than MANY cells, whose quantiles say nothing."""
    if len(cells) < MANY:
        return 1.0
    beyond = []
    for passes in {cell.size for cell in cells}:
        same = np.array([cell for cell in cells if cell.size == passes])
        own, rest = passes - 2, passes - 1
        for left in range(passes):
            others = np.delete(same, left, axis=1)
            spread = ((others - others.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
            degrees = known.degrees + own
            variance = known.variance
            if math.isfinite(known.degrees):
                variance = (known.degrees * known.variance + spread) / degrees
            reach = np.sqrt(variance * (1 + 1 / rest)) * _quantile(0.95, degrees)
            beyond.append(np.abs(same[:, left] - others.mean(axis=1)) / reach)
    return max(1.0, float(np.quantile(np.concatenate(beyond), 0.95)))


def median(samples: Passes, known: Scatter | None = None, confidence: float = 0.95) -> Interval:
    """Typical value of one cell, in the unit of `samples`: the geometric mean of its pass medians.

    Args:
        samples: for each pass a 1-D array of rounds, all positive.
        known: the run's `scatter`, which narrows the interval honestly where there are few passes.
        confidence: share of such intervals that cover the truth.

    A single pass without `known` gives the order-statistic interval of its rounds: how the rounds
    scattered, and nothing about how another pass would have differed. Fewer than 6 rounds bound
    nothing: (0, median, inf).
    """
    known = known or Scatter()
    centre, variance, own = _location(samples, known)
    learned = known if known.teaches(own) else Scatter()
    degrees = learned.degrees + own
    if degrees == 0:
        rounds = np.asarray(samples[0], dtype=float)
        if 0.5 ** (rounds.size - 1) > 1 - confidence:
            return Interval(0.0, math.exp(centre), math.inf)
        return _order_interval(rounds, confidence)
    reach = learned.inflation * math.sqrt(variance) * _quantile(confidence, degrees)
    return Interval(math.exp(centre - reach), math.exp(centre), _exp(centre + reach))


@dataclass(frozen=True)
class LogRatio:
    """The logarithm of how many times more one cell costs than another, as Student's t knows it.

    Attributes:
        centre: the estimate.
        error: its standard error; infinite where nothing bounds it.
        degrees: of freedom of that error.
    """

    centre: float
    error: float
    degrees: float

    def interval(self, confidence: float = 0.95) -> Interval:
        """The ratio itself."""
        if math.isinf(self.error):
            return Interval(0.0, math.exp(self.centre), math.inf)
        reach = self.error * _quantile(confidence, self.degrees) if self.error else 0.0
        ends = (self.centre - reach, self.centre, self.centre + reach)
        return Interval(*map(_exp, ends))

    def p_within(self, margin: float) -> float:
        """The p-value of "the ratio differs from 1 by no more than `margin`", a share."""
        beyond = abs(self.centre) - math.log1p(margin)
        if self.error == 0:
            return float(beyond <= 0)
        return 1 - float(special.stdtr(self.degrees, beyond / self.error))


def log_ratio(numerator: Passes, denominator: Passes, known: Scatter | None = None) -> LogRatio:
    """What `ratio` knows, before a confidence is chosen."""
    known = known or Scatter()
    above, variance_above, own_above = _location(numerator, known)
    below, variance_below, own_below = _location(denominator, known)
    centre, variance = above - below, variance_above + variance_below
    if not known.degrees and not (own_above and own_below):
        return LogRatio(centre, math.inf, 1.0)
    # What was learned from the run is the same knowledge on both sides: its degrees count once.
    learned = known if known.teaches(min(own_above, own_below)) else Scatter()
    degrees = learned.degrees
    if variance and own_above and own_below:
        degrees += variance**2 / (variance_above**2 / own_above + variance_below**2 / own_below)
    return LogRatio(centre, learned.inflation * math.sqrt(variance), degrees)


def ratio(
    numerator: Passes,
    denominator: Passes,
    known: Scatter | None = None,
    confidence: float = 0.95,
) -> Interval:
    """How many times more one cell costs than another (Welch's t on logarithms of pass medians).

    For m comparisons at once pass `confidence = 1 - 0.05 / m` (Bonferroni). Where a side has one
    pass and the run's scatter is not `known`, nothing bounds the ratio: (0, ratio, inf). Exact
    values (bytes, counts) are compared with `known=EXACT`.
    """
    return log_ratio(numerator, denominator, known).interval(confidence)


@dataclass(frozen=True)
class Null:
    """What ratios look like that did not change, read off the many that did not.

    Attributes:
        shift: the factor that all have in common, with the interval of its median.
        inflation: how many times as far from it they lie as their own errors explain; at least 1.
    """

    shift: Interval
    inflation: float


def empirical_null(ratios: Sequence[LogRatio]) -> Null:
    """Centre and spread of many ratios, most of which have not changed.

    Passes within a run cannot tell how much a cell differs from run to run: where its pages lie,
    what the host did meanwhile. The bulk of the ratios can (Efron, "Large-scale simultaneous
    hypothesis testing: the choice of a null hypothesis", Journal of the American Statistical
    Association 99, 2004): here by their median and their median absolute deviation from it.

    Args:
        ratios: at least one.
    """
    middle = _order_interval(np.array([one.centre for one in ratios]), 0.95)
    away = [
        abs(one.centre - middle.estimate) / one.error / _quantile(0.5, one.degrees)
        for one in ratios
        if one.error and math.isfinite(one.error)
    ]
    ends = (middle.low, middle.estimate, middle.high)
    return Null(Interval(*map(math.exp, ends)), max(1.0, float(np.median(away)) if away else 1.0))


EM_STEPS = 200

WIDTHS = np.array([0.0, *(0.01 * 2.0 ** np.arange(8))])
"""Standard deviations of changes, as logarithms: none at all, and from 1 % to a factor of 3.6."""


def probability_within(ratios: Sequence[LogRatio], margin: float) -> NDArray[np.float64]:
    """For each ratio the probability that it differs from 1 by no more than `margin`, a share.

    How often cells change, and how much, is learned from all of them: changes are drawn from a
    mixture of normal distributions around none, whose weights explain the ratios best (Stephens,
    "False discovery rates: a new deal", Biostatistics 18, 2017). To be careful with few ratios, one
    imaginary cell is counted at every width.
    """
    centres = np.array([one.centre for one in ratios])
    variances = np.array([one.error for one in ratios])[:, None] ** 2
    within = np.zeros(centres.size)
    bounded = np.isfinite(variances[:, 0])
    if not bounded.any():
        return within
    centres, variances = centres[bounded, None], np.maximum(variances[bounded], 1e-18)
    total = variances + WIDTHS**2
    logs = -(centres**2) / (2 * total) - np.log(total) / 2
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights = np.full(WIDTHS.size, 1 / WIDTHS.size)
    for _ in range(EM_STEPS):
        shares = likelihood * weights
        shares /= shares.sum(axis=1, keepdims=True)
        weights = shares.sum(axis=0) + (WIDTHS > 0)
        weights /= weights.sum()
    middle, spread = centres * WIDTHS**2 / total, np.sqrt(variances / total) * WIDTHS
    reach, spread = math.log1p(margin), np.maximum(spread, 1e-18)
    inside = special.ndtr((reach - middle) / spread) - special.ndtr((-reach - middle) / spread)
    within[bounded] = (shares * inside).sum(axis=1)
    return within


def judge(change: Interval, margin: float = 0.0) -> Change:
    """Read a `ratio` of new over old: differences within `margin` (a share) do not count.

    "ambiguous" means that the interval reaches both inside the margin and beyond it.
    """
    if change.low > 1 + margin:
        return "slower"
    if change.high < 1 / (1 + margin):
        return "faster"
    if change.low >= 1 / (1 + margin) and change.high <= 1 + margin:
        return "same"
    return "ambiguous"


def drift(cells: Iterable[Passes]) -> Interval:
    """How much slower the last pass was than the first: the median ratio over cells, a factor.

    Every pass holds the same cells, so what they have in common is the machine: its frequency, its
    temperature, its load. (1, 1, 1) where no cell has two passes.
    """
    changes = [float(logs[-1] - logs[0]) for logs in map(_log_medians, cells) if logs.size > 1]
    if not changes:
        return Interval(1.0, 1.0, 1.0)
    middle = _order_interval(np.array(changes), 0.95)
    return Interval(math.exp(middle.low), math.exp(middle.estimate), math.exp(middle.high))


def noise_floor(changes: Sequence[Interval]) -> NoiseFloor:
    """The noise floor from A/A pairs: smaller differences than `.difference` are not to be claimed.

    The intervals of the quantiles are distribution-free (order statistics); with fewer than about
    60 pairs the upper end of `.difference` is the largest difference seen.

    Args:
        changes: the `ratio` of the two halves of each pair.
    """
    if not changes:
        return NoiseFloor(Interval(0.0, 0.0, math.inf), Interval(0.0, 0.0, math.inf), 0, 0)
    sizes = np.sort(np.expm1(np.abs(np.log([change.estimate for change in changes]))))
    return NoiseFloor(
        typical=_order_interval(sizes, 0.95),
        difference=_order_interval(sizes, 0.95, share=0.95),
        comparisons=len(changes),
        significant=sum(1 not in change for change in changes),
    )


def _exp(value: float) -> float:
    """The exponential; infinite where that is beyond all floats, as a bound may be."""
    return math.exp(value) if value < 700 else math.inf


def _median(values: NDArray[np.float64]) -> float:
    """As `np.median`, which takes ten times as long for as few values as a pass has."""
    ordered = np.sort(values)
    if math.isnan(ordered[-1]):
        return math.nan
    return float((ordered[(values.size - 1) // 2] + ordered[values.size // 2]) / 2)


def _log_medians(samples: Passes) -> NDArray[np.float64]:
    """The logarithm of each pass's median; raises `ValueError` where it has none."""
    rounds = [np.asarray(taken, dtype=float) for taken in samples]
    if not rounds or any(taken.ndim != 1 or taken.size == 0 for taken in rounds):
        raise ValueError(
            "samples must be a sequence of passes, each a non-empty 1-D array of rounds"
        )
    medians = np.array([_median(taken) for taken in rounds])
    if not (np.isfinite(medians).all() and (medians > 0).all()):
        raise ValueError("samples must be positive and finite: ratios of other values mean nothing")
    logs: NDArray[np.float64] = np.log(medians)
    return logs


def _location(samples: Passes, known: Scatter) -> tuple[float, float, int]:
    """Mean log pass median, the variance of that mean, and the cell's own degrees of freedom."""
    medians = _log_medians(samples)
    own = medians.size - 1
    if own and np.ptp(medians) == 0:
        return float(medians.mean()), 0.0, own
    variance = medians.var(ddof=1) if own else 0.0
    if math.isinf(known.degrees):
        variance = known.variance
    elif known.teaches(own) and (known.degrees or own):
        variance = (known.degrees * known.variance + own * variance) / (known.degrees + own)
    return float(medians.mean()), float(variance) / medians.size, own


@lru_cache(maxsize=4096)
def _quantile(confidence: float, degrees: float) -> float:
    """Two-sided quantile of Student's t (the normal's for infinite `degrees`)."""
    return float(special.stdtrit(degrees, (1 + confidence) / 2))


def _order_interval(values: NDArray[np.float64], confidence: float, share: float = 0.5) -> Interval:
    """Distribution-free interval of the `share` quantile: order statistics, by the binomial.

    Clopper and Pearson read backwards; the ends are the extreme values where too few were taken.
    """
    ordered = np.sort(values)
    low, high = stats.binom.ppf([(1 - confidence) / 2, (1 + confidence) / 2], values.size, share)
    return Interval(
        float(ordered[max(int(low) - 1, 0)]),
        float(np.quantile(ordered, share)),
        float(ordered[min(int(high), values.size - 1)]),
    )


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(x) = value by Newton's method (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        slope = float(special.polygamma(1, x))
        step = slope * (1 - slope / value) / float(special.polygamma(2, x))
        x += step
        if -step < 1e-8 * x:
            break
    return x
