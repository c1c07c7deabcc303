"""The benchmark of paired ratios: rivals in turns on a machine whose noise and truth are known.

Its tables are part of `python -m reports.simulation`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from reports.stats import estimates, paired
from reports.stats.paired import Known, Series

Array = NDArray[np.float64]
Contest = Mapping[str, Series]

MEASURED = {0.1: 0.55, 0.4: 0.32, 1.8: 0.17, 10.0: 0.03}
"""Seconds -> autocorrelation of what cells deviated from their own mean, so long after each other,
on a shared machine of two cores."""

DRIFT = {0.02: 0.12, 0.153: 0.403, 0.89: 0.175, 4.71: 0.302}
"""Correlation time in seconds -> share of the variance: Ornstein-Uhlenbeck processes whose sum,
with such tails, has that autocorrelation; what it leaves open is gone first."""

TYPICAL, TAIL, MOST = 0.023, 0.62, 2.5
"""Tukey's h distribution of the drift, x exp(h x^2 / 2), bounded in x: of the kept CPU run's passes
half lie within 1.5 % (0.67 x 0.023) of the mean of their cell, and a twentieth beyond 16 %."""

ROUND = 0.023
"""Standard deviation of a round beside its neighbours, likewise."""

SPIKES = ((0.08, 0.1, 0.3), (0.01, 0.3, 1.4))
"""Share of the rounds, and how much longer they take: the ends of its logarithm."""

SPIKED = 1.4e-3
"""Seconds of the rounds in which those were seen; beside longer ones they are so much smaller."""

PLACE = 0.008
"""Typical standard deviation of what all rounds of a cell in a pass share, as it lies elsewhere in
memory; cells differ in it. A/A pairs of short calls then
differ by 1.5 % in a pass, and 95 % of them by less than 3.1 %, as in a trial."""

SHARE, SLICE = 0.06, 5e-4
"""Seconds of each rival in a pass, and of the shortest round."""

RIVALS = {"softmax": 1.0, "a replica": 1.0, "2 % slower": 1.02, "1.5 times": 1.5, "25 times": 25.0}
"""Costs beside the first."""

CONTESTS = 100
"""Of a run: as many as 20 class counts in five phases make."""


def drift(times: Array, random: np.random.Generator) -> Array:
    """The logarithm of how slow the machine is at `times`, seconds that ascend: (..., calls)."""
    passed = np.diff(times, axis=-1, prepend=-math.inf)
    total = np.zeros(times.shape)
    for lasting, share in DRIFT.items():
        kept = np.exp(-passed / lasting)
        fresh = np.sqrt(share * (1 - kept**2)) * random.standard_normal(times.shape)
        level = np.zeros(times.shape[:-1])
        for call in range(times.shape[-1]):
            level = kept[..., call] * level + fresh[..., call]
            total[..., call] += level
    stretched: Array = TYPICAL * total * np.exp(TAIL / 2 * np.minimum(np.abs(total), MOST) ** 2)
    return stretched


def run(
    costs: Mapping[str, float], passes: int, random: np.random.Generator, contests: int = CONTESTS
) -> list[Contest]:
    """Contests of such rivals, whose first takes 30 us to 30 ms, as a run would measure them."""
    factors = np.array(list(costs.values()))
    schedules = [_schedule(factors, random) for _ in range(contests) for _ in range(passes)]
    most = max(len(taken) for _, _, taken in schedules)
    ends = np.array([np.pad(taken, (0, most - len(taken))) for *_, taken in schedules]).cumsum(1)
    slowness = drift(ends, random)
    found: list[Contest] = []
    for contest in range(contests):
        scale = PLACE * np.exp(0.5 * random.standard_normal(len(factors)))
        rounds: dict[int, list[tuple[Array, Array]]] = defaultdict(list)
        for index in range(passes):
            place = contest * passes + index
            turns, who, taken = schedules[place]
            logs = slowness[place, : len(who)] + ROUND * random.standard_normal(len(who))
            for share, low, high in SPIKES:
                spiked = random.random(len(who)) < share
                higher = random.uniform(low, high, len(who)) * np.minimum(1, SPIKED / taken)
                logs += spiked * higher
            logs += (np.log(factors) + scale * random.standard_normal(len(factors)))[who]
            for rival in range(len(factors)):
                rounds[rival].append((turns[who == rival], np.exp(logs[who == rival])))
        found.append(
            {
                name: Series(
                    samples=[seconds for _, seconds in rounds[rival]],
                    passes=range(passes),
                    blocks=["block"] * passes,
                    turns=[tuple(turns) for turns, _ in rounds[rival]],
                )
                for rival, name in enumerate(costs)
            }
        )
    return found


def _schedule(factors: Array, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Of every call in a block its turn, its rival, and the seconds until it ends.

    Each rival has as many rounds as fit into its share, at least one, and takes part in every k-th
    turn, k a power of two.
    """
    taken = np.maximum(SLICE, factors * math.exp(random.uniform(math.log(3e-5), math.log(3e-2))))
    rounds = np.maximum(1, SHARE // taken)
    every = np.exp2(np.ceil(np.log2(rounds.max() / rounds)))
    turns = np.concatenate([np.arange(0, rounds.max(), gap) for gap in every])
    who = np.concatenate([np.full(math.ceil(rounds.max() / k), i) for i, k in enumerate(every)])
    order = np.argsort(turns + random.random(len(turns)))
    return turns[order], who[order], taken[who[order]]


def learned(contests: Sequence[Contest]) -> Known:
    """What a run would know of its passes."""
    cells = estimates.scatter(cell.samples for contest in contests for cell in contest.values())
    return paired.learn(cells, [list(contest.values()) for contest in contests])


def autocorrelation(random: np.random.Generator) -> list[list[str]]:
    """The drift at the lags of `MEASURED`: lag, measured, simulated."""
    step = 0.05
    noise = drift(np.tile(np.arange(0, 200, step), (100, 1)), random)
    rows = []
    for lag, measured in MEASURED.items():
        steps = round(lag / step)
        simulated = np.corrcoef(noise[:, steps:].ravel(), noise[:, :-steps].ravel())[0, 1]
        rows.append([f"{lag:g} s", f"{measured:.2f}", f"{simulated:.2f}"])
    return rows


def coverage(runs: int, passes: int, random: np.random.Generator) -> list[list[str]]:
    """Of every pair of rivals: how many intervals hold the truth, in turns and not, and how wide.

    Rows of: passes, pair, covered, half-width, covered and half-width of unpaired intervals.
    """
    held: dict[str, list[tuple[bool, float, bool, float]]] = defaultdict(list)
    for _ in range(runs):
        contests = run(RIVALS, passes, random)
        known = learned(contests)
        for contest in contests:
            for above, below in combinations(reversed(RIVALS), 2):
                truth = RIVALS[above] / RIVALS[below]
                first, second = contest[above], contest[below]
                ratios = (
                    known.ratio(first, second),
                    estimates.ratio(first.samples, second.samples, known.cells),
                )
                (a, wide), (b, wider) = (
                    (truth in ratio, math.log(ratio.high / ratio.estimate)) for ratio in ratios
                )
                for pair in (f"{above} / {below}", "all"):
                    held[pair].append((a, wide, b, wider))
    rows = []
    for pair, values in held.items():
        covered, width, covered_apart, width_apart = zip(*values, strict=True)
        rows.append(
            [
                *(str(passes), pair),
                *(f"{np.mean(covered):.1%}", f"{np.median(width):.1%}"),
                *(f"{np.mean(covered_apart):.1%}", f"{np.median(width_apart):.1%}"),
            ]
        )
    return rows


SQUARES: Mapping[str, Mapping[str, float]] = {
    "four equal": {"first": 1.0, "second": 1.0, "third": 1.0, "fourth": 1.0},
    **{
        f"next {lead:g}": {"first": 1.0, "second": lead, "third": 1.6, "fourth": 25.0}
        for lead in (1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.1, 1.2)
    },
}
"""What heads cost in a square of the map of the fastest."""


def squares(runs: int, passes: int, random: np.random.Generator) -> list[list[str]]:
    """What is said of such squares, without a noise floor beside the intervals.

    Rows of: passes, square, one head, equal heads, undecided, wrong. It is wrong to call one head
    the fastest that is not, or equal what differs by more.
    """
    rows = []
    for square, costs in SQUARES.items():
        said: Counter[str] = Counter()
        for _ in range(runs):
            contests = run(costs, passes, random)
            known = learned(contests)
            said.update(
                _said(list(contest.values()), [*costs.values()], known) for contest in contests
            )
        shares = (said[one] / said.total() for one in ("one", "equal", "undecided", "wrong"))
        rows.append([str(passes), square, *(f"{share:.1%}" for share in shares)])
    return rows


def _said(contest: Sequence[Series], costs: Sequence[float], known: Known) -> str:
    best, others = paired.standing(contest, known)
    if any(one.change in paired.OPEN for one in others):
        return "undecided"
    equal = [best, *(one.place for one in others if one.change == "same")]
    least = min(costs)
    if len(equal) == 1:
        return "one" if costs[best] == least and costs.count(least) == 1 else "wrong"
    within = all(costs[place] <= least * (1 + paired.EQUAL) for place in equal)
    missed = any(cost == least for place, cost in enumerate(costs) if place not in equal)
    return "equal" if within and not missed else "wrong"


def tables(
    runs: int, seed: int, table: Callable[[Sequence[str], Sequence[Sequence[str]]], str]
) -> str:
    """Its tables, of so many runs of CONTESTS, as `table` makes them of a head and rows."""
    random = np.random.default_rng(seed)
    few = max(1, runs // 5)
    return "\n".join(
        [
            table(["autocorrelation at", "measured", "simulated"], autocorrelation(random)),
            table(
                [
                    *("passes", "pair, in turns", "covered at 95 %", "half-width"),
                    *("unpaired: covered", "half-width"),
                ],
                [row for passes in (2, 3) for row in coverage(runs, passes, random)],
            ),
            table(
                ["passes", "square", "one head", "equal heads", "undecided", "wrong"],
                [row for passes in (2, 3, 6) for row in squares(few, passes, random)],
            ),
        ]
    )
