"""What exactness costs a tree head, and how often greed goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scipy import stats

from reports import units
from reports.findings import joined
from reports.results import MODELS, Race, Run
from reports.stats import estimates
from reports.stats.estimates import Interval


@dataclass(frozen=True)
class Raced:
    """One head on one model.

    Attributes:
        wrong: share of samples that greedy answers otherwise than exact search.
        right: share of samples that exact search is right for.
        cost: how many times as long exact search takes as greedy.
        gain: how many times as long scoring everything takes as exact search.
        scores: scores that exact search computes per sample.
        all_scores: scores that there are.
    """

    head: str
    model: str
    classes: int
    batch: int
    wrong: Interval
    right: Interval
    cost: Interval
    gain: Interval
    scores: float
    all_scores: float


@dataclass(frozen=True)
class Missed:
    """One training; `wrong` is the share of test images that greedy answers otherwise."""

    variant: str
    seed: int
    wrong: Interval


def raced(run: Run) -> tuple[Raced, ...]:
    """The races of a run, by head, model and number of classes."""
    rows = joined.alike(run.searches).sort_values(["classes", "batch"]).to_dict("records")
    return tuple(
        _raced(row["head"], model, row["classes"], row["batch"], row[model])
        for head in run.heads
        for model in MODELS
        for row in rows
        if row["head"] == head
    )


def missed(run: Run) -> tuple[Missed, ...]:
    """The trainings of a run whose head predicts by a search."""
    return tuple(
        Missed(t.variant, t.seed, share(t.greedy_misses, t.final.tested))
        for t in run.trainings
        if t.final is not None and t.greedy_misses is not None and t.final.tested
    )


def share(count: int, total: int) -> Interval:
    """`count` of `total` as a share, with Wilson's 95 % interval (JASA 22, 1927)."""
    found = stats.binomtest(min(count, total), total)
    ends = found.proportion_ci(method="wilson")
    return Interval(float(ends.low), float(found.statistic), float(ends.high))


def sentences(rows: tuple[Raced, ...]) -> Iterator[str]:
    """What the races say, one line per head and model: at the largest class count."""
    last = {(row.head, row.model): row for row in rows}
    for row in last.values():
        yield (
            f"{row.head}, {row.model}, {row.classes:,} classes: greedy is wrong in "
            f"{units.share_interval(row.wrong)} of the samples; exact search takes "
            f"{units.times_interval(row.cost)} times as long and computes {row.scores:,.0f} of "
            f"{row.all_scores:,.0f} scores."
        )


def _raced(head: str, model: str, classes: int, batch: int, race: Race) -> Raced:
    exact, greedy, everything = (race.seconds[name] for name in ("exact", "greedy", "all"))
    # Methods took turns, so what disturbed a round is in both times of a ratio.
    return Raced(
        head=head,
        model=model,
        classes=classes,
        batch=batch,
        wrong=share(race.misses, race.samples),
        right=share(race.right, race.samples),
        cost=estimates.median([exact / greedy]),
        gain=estimates.median([everything / exact]),
        scores=race.scores["exact"],
        all_scores=race.scores["all"],
    )
