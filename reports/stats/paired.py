"""Ratios of rivals that were measured in turns, call by call: what disturbs them both cancels.

Rounds within a fraction of a second share whatever the machine is doing; their quotient does not
feel it (Bulej et al., "Duet benchmarking: improving measurement accuracy in the cloud", ICPE 2020).
So two cells of one block are compared turn by turn, and their quotients are the rounds of a cell of
its own: a pass is worth one number, its median quotient, and the interval is Student's t over
passes, as in `reports.stats.estimates`. Cells that share no block are compared as that module does.

How much passes differ is learned from all pairs of a run, here in two parts: what the scatter of a
pair's own turns explains, and what comes on top in every pass, such as where its pages lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from reports.stats import estimates
from reports.stats.estimates import (
    MANY,
    Change,
    Interval,
    LogRatio,
    NoiseFloor,
    Passes,
    Scatter,
    noise_floor,
)

Array = NDArray[np.float64]
Name = TypeVar("Name", bound=Hashable)

Floor = Callable[[float], float]
"""From the seconds of a call to the noise floor of comparisons between such calls, a share."""

EQUAL = 0.03
"""Costs within this share of each other count as equal: nobody chooses a head for less."""

OPEN: tuple[Change, ...] = ("ambiguous", "faster")
"""What a head may be beside the fastest where that is not decided."""

LEAST = 1e-3 * np.sqrt(2.0) ** np.arange(11)
"""Standard deviations that passes may have beyond what turns explain: 0.1 to 3.2 %."""

LEVELS = 2.0 ** np.arange(-4, 12.1, 0.25)
"""Multiples of the variance so expected."""

DEGREES = 2.0 ** np.arange(0, 6.1, 0.5)
"""Degrees of freedom of that knowledge, which are fewer the more pairs differ in their scatter."""

BORROWED = 4
"""Rounds that the run's typical scatter of turns is worth beside a pair's own."""


class Timed(Protocol):
    """Raw samples and their places in blocks.

    Attributes:
        samples: for each pass a 1-D array of rounds.
        passes: the number of each pass.
        blocks: of each pass, the block that measured it; empty for what was measured by itself.
        turns: of each pass, the turn of every round in its block.
    """

    @property
    def samples(self) -> Passes: ...  # noqa: D102
    @property
    def passes(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def blocks(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def turns(self) -> Sequence[Sequence[int]]: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Series:
    """The plainest `Timed`."""

    samples: Passes
    passes: Sequence[int] = ()
    blocks: Sequence[str] = ()
    turns: Sequence[Sequence[int]] = ()


def quotients(above: Timed, below: Timed) -> tuple[Array, ...]:
    """How many times as long one takes as the other, turn by turn: (pairs,) for each common block.

    A turn of the one with fewer is held against the median of those rounds of the other that are
    nearer to it than to its next turn; where both take part in every turn, against the same turn's.
    Empty where they were not measured in turns, or in one pass of several.
    """
    theirs = _blocks(below)
    ours = {place: rounds for place, rounds in _blocks(above).items() if place in theirs}
    if len(ours) < min(2, len(above.samples), len(below.samples)):
        return ()
    return tuple(np.exp(_differences(*rounds, *theirs[place])) for place, rounds in ours.items())


def _blocks(cell: Timed) -> dict[tuple[int, str], tuple[Array, Array]]:
    """Pass and block -> turns in their order, and the logarithm of what each took."""
    blocks = {}
    for index, name, turns, rounds in zip(
        cell.passes, cell.blocks, cell.turns, cell.samples, strict=False
    ):
        if name and len(turns):
            order = np.argsort(turns, kind="stable")
            logs = np.log(np.asarray(rounds, dtype=float))
            blocks[index, name] = np.asarray(turns, dtype=float)[order], logs[order]
    return blocks


def _differences(turns: Array, logs: Array, other_turns: Array, other_logs: Array) -> Array:
    if np.array_equal(turns, other_turns):
        return logs - other_logs
    if len(logs) > len(other_logs):
        return -_differences(other_turns, other_logs, turns, logs)
    nearest = np.searchsorted((turns[1:] + turns[:-1]) / 2, other_turns)
    groups = np.split(other_logs, np.searchsorted(nearest, np.arange(1, len(turns))))
    return np.array([a - np.median(b) for a, b in zip(logs, groups, strict=True) if b.size])


@dataclass(frozen=True)
class Known:
    """How much passes differ, learned from all cells of a run and from all its pairs.

    Attributes:
        cells: of a cell, for what was not measured in turns.
        pairs: of a pair, as a multiple of what `least` and the scatter of its turns make expected.
        least: what passes differ by however well their turns agree, a standard deviation.
        turn: the typical variance of the logarithm of a quotient of one turn.
    """

    cells: Scatter = field(default_factory=Scatter)
    pairs: Scatter = field(default_factory=Scatter)
    least: float = float(LEAST[-1])
    turn: float = 0.0

    def log_ratio(self, above: Timed, below: Timed) -> LogRatio:
        """How many times as long one takes as the other, before a confidence is chosen."""
        if not (taken := quotients(above, below)):
            return estimates.log_ratio(above.samples, below.samples, self.cells)
        medians, known, own = _medians(taken), self.scatter_of(taken), len(taken) - 1
        degrees = known.degrees + own
        if not degrees:
            return LogRatio(float(medians.mean()), math.inf, 1.0)
        squares = known.degrees * known.variance + float(((medians - medians.mean()) ** 2).sum())
        error = math.sqrt(squares / degrees / len(taken))
        return LogRatio(float(medians.mean()), error, degrees)

    def ratio(self, above: Timed, below: Timed, confidence: float = 0.95) -> Interval:
        """The same at a confidence."""
        return self.log_ratio(above, below).interval(confidence)

    def compare(
        self, above: Timed, below: Timed, floor: float, rivals: int = 1
    ) -> tuple[Interval, Change]:
        """Their ratio, and how to read it: "same" is said of what was measured in turns alone.

        Who is ahead of every rival is so of each, and no comparison has to be surer than the claim
        (an intersection-union test: Berger, Technometrics 24, 1982). Cells that did not take turns
        are compared more carefully, at 1 - 0.05 / rivals (Bonferroni).

        Args:
            above: is it slower or faster...
            below: ...than this?
            floor: the noise floor of such comparisons, a share.
            rivals: how many are compared with the one below.
        """
        if quotients(above, below):
            change = self.ratio(above, below)
            return change, judge(change, floor)
        change = self.ratio(above, below, 1 - 0.05 / rivals)
        found = estimates.judge(change, floor)
        return change, "ambiguous" if found == "same" else found

    def scatter_of(self, pair: Sequence[Array]) -> Scatter:
        """What is known of the scatter between the passes of such a pair, before looking at it."""
        expected = self.least**2 + _explained(pair, self.turn)
        return replace(self.pairs, variance=self.pairs.variance * expected)


def learn(cells: Scatter, contests: Iterable[Sequence[Timed]]) -> Known:
    """What all pairs of a run tell about how much the passes of one differ.

    Args:
        cells: scatter between the passes of cells.
        contests: cells that compete with each other; each is paired with the next.
    """
    pairs = [
        taken
        for contest in contests
        for first, second in pairwise(contest)
        if len(taken := quotients(first, second)) > 1
    ]
    pairs = [taken for taken in pairs if np.ptp(_medians(taken)) > 0]
    if not pairs:
        return Known(cells)
    # Pairs of one turn a pass say nothing of it, but borrow what others do.
    turns = [_turn_variance(taken) for taken in pairs if max(map(len, taken)) > 1]
    turn = float(np.median(turns)) if turns else 0.0
    explained = np.array([_explained(taken, turn) for taken in pairs])
    own = np.array([len(taken) - 1 for taken in pairs])
    variances = np.array([_medians(taken).var(ddof=1) for taken in pairs])
    likelihood = _likelihood(variances, own, explained)
    # The fewest degrees of freedom that the pairs agree with: to err on the careful side.
    likely = likelihood >= likelihood.max() - 0.5
    degrees = int(np.flatnonzero(likely.any(axis=(0, 1)))[0])
    least, level = np.unravel_index(likelihood[..., degrees].argmax(), likelihood.shape[:2])
    known = Scatter(float(LEVELS[level]), float(DEGREES[degrees]))
    return Known(cells, known, float(LEAST[least]), turn)


def _likelihood(variances: Array, own: NDArray[np.int_], explained: Array) -> Array:
    """Logarithms for all of LEAST, LEVELS and DEGREES: variances over what is expected are F."""
    expected = LEVELS[:, None, None] * (LEAST[:, None, None, None] ** 2 + explained)
    half, prior, x = own / 2, DEGREES[:, None] / 2, variances / expected
    logs = (
        half * np.log(half / prior * x)
        - (half + prior) * np.log1p(half / prior * x)
        - special.betaln(half, prior)
    )
    summed: Array = logs.sum(axis=-1)
    return summed


def _medians(pair: Sequence[Array]) -> Array:
    """The logarithm of each pass's median: (passes,)."""
    return np.log([np.median(taken) for taken in pair])


def _turn_variance(pair: Sequence[Array]) -> float:
    """Variance of the logarithm of one turn's quotient beside its pass, from absolute deviations.

    The median deviation of n values is about n / (n - 1) times too small.
    """
    deviations = [
        1.4826 * float(np.median(np.abs(np.log(taken / np.median(taken))))) * n / (n - 1)
        for taken in pair
        if (n := len(taken)) > 1
    ]
    return float(np.mean(np.square(deviations))) if deviations else 0.0


def _explained(pair: Sequence[Array], turn: float) -> float:
    """Variance of a pass's median that the scatter of its turns explains, the mean over passes."""
    own = sum(len(taken) - 1 for taken in pair)
    variance = (BORROWED * turn + own * _turn_variance(pair)) / (BORROWED + own)
    # A median's variance, that of a mean for one round or two, approaches pi / 2 times as much.
    return variance * float(np.mean([math.pi / (math.pi - 2 + 2 * len(taken)) for taken in pair]))


def judge(change: Interval, floor: float) -> Change:
    """Read a paired ratio: equal within EQUAL, or else another by more than noise.

    What is called faster or slower has its whole interval on one side of 1, and is further from it
    than 95 % of the A/A pairs, which differ by the share `floor`.
    """
    if change.low >= 1 / (1 + EQUAL) and change.high <= 1 + EQUAL:
        return "same"
    if change.low > 1 and change.estimate > 1 + floor:
        return "slower"
    if change.high < 1 and change.estimate < 1 / (1 + floor):
        return "faster"
    return "ambiguous"


@dataclass(frozen=True)
class LocalFloor:
    """The noise floor of comparisons between cells that take about so long.

    Attributes:
        seconds: the shortest and the longest of the cells that were measured as if they were two.
        floor: of those.
    """

    seconds: tuple[float, float]
    floor: NoiseFloor

    @property
    def margin(self) -> float:
        """The share that 95 % of these A/A pairs stay below."""
        return self.floor.difference.estimate


PARTS = 4
"""Durations that the A/A pairs of a run are told apart by, at most."""


def local_floors(pairs: Iterable[tuple[Timed, Timed]], known: Known) -> tuple[LocalFloor, ...]:
    """The noise floor of a run by duration, the shortest cells first.

    One for all where there are few pairs, or where not all were measured in turns.

    Args:
        pairs: of each A/A pair both halves, each with at least one round.
        known: what the run tells about its passes.
    """
    pairs = list(pairs)
    found = sorted(
        (
            (estimates.median(first.samples).estimate, known.ratio(first, second))
            for first, second in pairs
        ),
        key=lambda one: one[0],
    )
    in_turns = all(quotients(first, second) for first, second in pairs)
    parts = max(1, min(PARTS, len(found) // MANY)) if in_turns else 1
    return tuple(
        LocalFloor((part[0][0], part[-1][0]), noise_floor([change for _, change in part]))
        for index in range(parts)
        if (part := found[len(found) * index // parts : len(found) * (index + 1) // parts])
    )


def margin(floors: Sequence[LocalFloor], seconds: float) -> float:
    """The noise floor of cells that take about so long, a share; 0 where no A/A pair is known."""
    return next((one.margin for one in floors if seconds <= one.seconds[1]), _last(floors))


def _last(floors: Sequence[LocalFloor]) -> float:
    return floors[-1].margin if floors else 0.0


class Compared(NamedTuple):
    """One that competes, by its place among all, beside the fastest: how many times as long."""

    place: int
    ratio: Interval
    change: Change


def standing(
    contest: Sequence[Timed], known: Known, floor: Floor = lambda _: 0.0
) -> tuple[int, list[Compared]]:
    """The place of the fastest, and all others beside it, the next first.

    The fastest is who is ahead in turns also of the one with the smallest median.
    """
    medians = [estimates.median(one.samples).estimate for one in contest]
    first = contest[int(np.argmin(medians))]
    best = int(np.argmin([known.log_ratio(one, first).centre for one in contest]))
    apart = floor(medians[best])
    others = [
        Compared(place, *known.compare(one, contest[best], apart, len(contest) - 1))
        for place, one in enumerate(contest)
        if place != best
    ]
    return best, sorted(others, key=lambda one: one.ratio.estimate)


def without_drift(
    cells: Sequence[Passes], anchors: Sequence[Sequence[ArrayLike]]
) -> list[list[Array]]:
    """Samples of cells of different blocks, as if the machine had been alike in all of them.

    Every block times one and the same cell too, the anchor. What that took in a block beside what
    it takes typically is the machine's doing and is divided out.

    Args:
        cells: for each cell its passes.
        anchors: for each cell, of each of its passes, the anchor's seconds in the same block.
    """
    logs = [[float(np.log(np.median(np.asarray(block)))) for block in of] for of in anchors]
    typical = float(np.median([log for of in logs for log in of]))
    return [
        [
            np.asarray(rounds, dtype=float) * math.exp(typical - log)
            for rounds, log in zip(passes, of, strict=True)
        ]
        for passes, of in zip(cells, logs, strict=True)
    ]
