"""The complexity verdict: how a curve grows where it has left its plateau, or that none can tell.

The verdict is the growth that most of the probability is on (`reports.stats.fit`), if that is
enough and the sizes bear it; otherwise it is "inconclusive", with the reason. Where two growths a
logarithm apart are all that is left, it says so: few sizes and caches part them, but most claims
need no more. Nothing here knows about time: bytes and counted operations, which have no noise, are
judged alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from reports.stats.estimates import Interval
from reports.stats.fit import DRAWS, FEWEST_SIZES, FLAT, PRIOR, ROUNDING, Fits, best_fits, typical
from reports.stats.shapes import MODELS, NAMES, POWER, STEP, Curve, Shape, growth

__all__ = [
    "APART",
    "CONFIDENT",
    "FLAT",
    "MODELS",
    "POWER",
    "STEP",
    "TOGETHER",
    "Curve",
    "Verdict",
    "classify",
    "growth",
]

Array = NDArray[np.float64]

CONFIDENT: Final = 0.8
RIVAL: Final = 0.03
"""From this probability on, a growth is named among those that cannot be told apart."""

SURER: Final[Mapping[str, float]] = MappingProxyType({"O(n log n)": 0.97, POWER: 0.9})
"""Steps of a linear cost imitate these: of curves that look so, too many are linear."""

SIGNAL: Final = 5.0
"""How many times the error of a size's value the whole growth must be to have a shape."""

SMALL: Final = 0.3
"""Below this growth a drift with the sizes is at least a good part of it: worth a warning."""

HIDDEN: Final = 0.5
"""Growth that noise may hide before "O(1)" would say more than the data do."""

MISFIT: Final = 0.25
"""What a curve misses its points by, on average, where it describes nothing. That noise explains it
is no excuse: more noise must never be a reason to name a growth."""

SLOW, LINEAR = APART = ("O(1)", "O(log n)"), ("O(n)", "O(n log n)")
"""Growths that differ by a logarithm."""

TOGETHER: Final = 0.95
"""Probability that two of them must have together, where no growth has enough alone."""

DOUBLED: Final = 1.0
"""Growth that noise may hide where O(1) and O(log n) are what is left: what log n does from n to
n^2."""

FEWEST_LEFT: Final = 3
"""Sizes beyond the plateau that a growth can be told from."""

NARROW: Final = 0.3
"""An exponent is named where its 95 % interval is no wider."""


@dataclass(frozen=True)
class Verdict:
    """What a curve says about complexity.

    Attributes:
        model: one of `MODELS`, another power ("O(n^0.7)"), or "inconclusive".
        either: of an inconclusive verdict the two growths, a logarithm apart, that it surely is one
            of; else none.
        probabilities: growth -> probability, over `MODELS` and `POWER`. They sum to 1 with that of
            growth so small that drift could feign it, which is none where the verdict holds O(1).
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
    either: tuple[str, ...] = ()
    set_aside: tuple[float, ...] = ()
    warning: str = ""

    @property
    def within(self) -> tuple[str, ...]:
        """The growths that it surely is one of: what is named, or two, or none."""
        return self.either if self.model == "inconclusive" else (self.model,)

    @property
    def said(self) -> str:
        """The same in words: "O(n)", "O(n) or O(n log n)", "inconclusive"."""
        return " or ".join(self.within) or self.model


def classify(
    sizes: ArrayLike,
    samples: Sequence[ArrayLike],
    seed: int = 0,
    expected: Sequence[str] = (),
    step: float = STEP,
    draws: int = DRAWS,
) -> Verdict:
    """Judge which complexity a curve has.

    Args:
        sizes: the n of each point, shape (N,), each at least 2.
        samples: for each point a 1-D array of seconds (or bytes, or counted operations): the rounds
            of all its passes together.
        seed: of the curves that an interval is drawn from; nothing else depends on it.
        expected: growths that were counted, of `MODELS`; EXPECTED of the belief goes to them.
        step: how many times as much a class may cost outside the caches as inside, at most.
        draws: curves that an interval is drawn from; without them `curve` has none.

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
    fits = best_fits(n, typical(rounds), expected, step)
    masses = fits.masses
    flat = max(masses, key=lambda model: masses[model]) == MODELS[0]
    exponent = _slope(fits.n, fits.y, FLAT) if flat else fits.exponent()
    within, reason = _verdict(fits, exponent, expected, step)
    model = within[0] if len(within) == 1 else "inconclusive"
    if MODELS[0] in within:
        # What drift could feign was nobody's; now that nothing may grow, it is said to be nothing.
        masses = masses | {MODELS[0]: masses[MODELS[0]] + 1 - sum(masses.values())}
    if model in NAMES.values():
        # Exponents between those tried are interpolated: that of what is named is there for sure.
        [power] = [power for power, name in NAMES.items() if name == model]
        ends = min(exponent.low, power), max(exponent.high, power)
        exponent = Interval(ends[0], exponent.estimate, ends[1])
    return Verdict(
        model=model,
        probabilities=MappingProxyType(masses),
        exponent=exponent,
        curve=fits.curve(flat, np.random.default_rng(seed), draws),
        reason=reason,
        either=within if len(within) > 1 else (),
        set_aside=tuple(sorted(set(n.tolist()) - set(fits.n.tolist()))),
        warning=_warning(fits) if within and within != (MODELS[0],) else "",
    )


def _verdict(
    fits: Fits, exponent: Interval, expected: Sequence[str], step: float
) -> tuple[tuple[str, ...], str]:
    """The growths that are left, one if it can be named, and what supports it, or why not."""
    masses, n = fits.masses, fits.n
    best = max(masses, key=lambda model: masses[model])
    if fits.error > MISFIT:
        return (), f"no model fits: the best, {fits.name}, misses the points by {fits.error:.0%}"
    drifting = 1 - sum(masses.values())
    slope, decades = _slope(n, fits.y), math.log(n[-1] / n[0])
    hidden = max(fits.growth(0.975), math.expm1(slope.high * decades))
    falling = slope.low * decades < -math.log1p(HIDDEN)
    slow = _together(SLOW, masses, drifting) if hidden <= DOUBLED else ()
    if best == MODELS[0] and masses[best] + drifting >= CONFIDENT:
        if hidden > HIDDEN or falling:
            return slow, f"no growth is seen, but the noise may hide {hidden:.0%} of it"
        return (best,), f"{n.size} sizes, over which it grows by {max(hidden, 0.01):.0%} at most"
    grown = fits.growth(0.5)
    if masses[MODELS[0]] + drifting > 1 - CONFIDENT:
        return slow, f"it grows by {grown:.0%} over all sizes, which drift or noise could feign"
    if math.log1p(grown) < SIGNAL * fits.error:
        return slow, (
            f"it grows by {grown:.0%} over all sizes, too little to tell how: "
            f"the points are missed by {fits.error:.0%}"
        )
    beyond = fits.beyond
    if beyond.size < FEWEST_LEFT:
        return (), (
            f"{beyond.size} of {n.size} sizes have left the plateau, too few to tell how it grows"
            f"{_flat(fits, beyond)}"
        )
    narrow = exponent.high - exponent.low <= NARROW + ROUNDING
    if masses[best] < SURER.get(best, CONFIDENT) or (best == POWER and not narrow):
        return slow or _together(LINEAR, masses), _undecided(fits, exponent)
    steep = best == "O(n^2)" or (best == POWER and exponent.estimate > 1)
    if steep and best not in expected and fits.outgrown(exponent.estimate) < math.log(step):
        return (), (
            f"from {beyond[0]:,.0f} to {beyond[-1]:,.0f}, beyond the plateau, {best} and O(n) that "
            f"becomes {step:.1f} times as dear outside the caches rise alike"
        )
    said = f"{n.size} sizes, missed by {fits.error:.1%} on average{fits.beside}"
    return (f"O(n^{exponent.estimate:.1f})" if best == POWER else best,), said


def _together(
    pair: tuple[str, str], masses: Mapping[str, float], besides: float = 0.0
) -> tuple[str, ...]:
    """Both growths of a pair of `APART`, if they are probable together; else none."""
    return pair if sum(masses[model] for model in pair) + besides >= TOGETHER else ()


def _flat(fits: Fits, beyond: Array) -> str:
    """Up to which size a cost that rises later is seen not to grow; "" where it is not seen."""
    before = fits.n < beyond.min(initial=math.inf)
    if before.sum() < FEWEST_SIZES:
        return ""
    n = fits.n[before]
    slope = _slope(n, fits.y[before], FLAT)
    if max(slope.high, -slope.low) * math.log(n[-1] / n[0]) > math.log1p(HIDDEN):
        return ""
    return f"; up to {n[-1]:,.0f} it does not"


def _warning(fits: Fits) -> str:
    """Nothing measured in one order of sizes can part a small growth from drift with the sizes."""
    if (grown := fits.growth(0.5)) >= SMALL:
        return ""
    return f"It grows by {grown:.0%} only: drift of the machine with the sizes may be a part of it"


def _undecided(fits: Fits, exponent: Interval) -> str:
    """Which growths the data cannot tell apart."""
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


def _slope(n: Array, y: Array, feigned: float = 0.0) -> Interval:
    """Log-log slope of the whole curve, with Student's t interval.

    The machine may have added or hidden growth over all sizes by the share `feigned`.
    """
    x = np.log(n) - np.log(n).mean()
    slope = float((x * y).sum() / (x**2).sum())
    squares = float(((y - y.mean() - slope * x) ** 2).sum()) + n.size * ROUNDING**2
    error = math.sqrt(squares / (n.size - 2) / float((x**2).sum()))
    drift = math.log1p(feigned) / math.log(n[-1] / n[0])
    reach = math.hypot(float(stats.t.isf(0.025, n.size - 2)) * error, drift)
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
