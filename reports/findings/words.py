"""What next-word prediction says of each head: perplexity, speed, and the time to softmax's own.

Perplexity is the exponential of the mean loss. It is averaged over seeds in its logarithm, and its
interval is Student's t over seeds: all seeds share the test text, so that it speaks of this text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reports import units
from reports.findings.findings import Findings
from reports.findings.joined import Memory
from reports.findings.trained import Trained, by_variant, seeds_reach
from reports.results import Training
from reports.stats.estimates import Interval
from reports.stats.pareto import front
from reports.units import Shown

YARDSTICK = "softmax"

TREE, BETTER_TREES, DENSE = "hierarchical", ("huffman", "learned"), "hierarchical-dense"


@dataclass(frozen=True)
class Curve:
    """A variant's perplexity on validation text while it trains.

    Attributes:
        seconds: of training, tests left out, after each round; mean over seeds.
        perplexity: then; mean over seeds.
    """

    seconds: tuple[float, ...]
    perplexity: tuple[float, ...]


@dataclass(frozen=True)
class WordRow:
    """One variant over all its seeds.

    Attributes:
        perplexity: on the test text, after the last round.
        against: the same over softmax's, paired by seed; None for softmax itself.
        words_per_second: in training.
        seconds: of training in all.
        to_yardstick: seconds until its validation perplexity is softmax's last one, of the same
            seed; None where not every seed comes so far.
        arrived: how many seeds do.
        speedup: how many times as long softmax takes to it; None likewise.
        memory: of a training step of the model, where the sweep measured it.
        bias: of the normaliser that is estimated in training, in nats; None for one that is exact.
        ahead: no other variant reaches a lower perplexity in less time.
        each: seconds and perplexity of every seed.
    """

    trained: Trained
    perplexity: Interval
    against: Interval | None
    words_per_second: Interval
    seconds: Interval
    to_yardstick: Interval | None
    arrived: int
    speedup: Interval | None
    memory: Memory | None
    bias: float | None
    ahead: bool
    each: tuple[tuple[float, float], ...]

    @property
    def variant(self) -> str:
        """What the run calls it."""
        return self.trained.variant


@dataclass(frozen=True, eq=False)
class Words:
    """What a run says about next-word prediction; empty where it trained on no words."""

    findings: Findings

    @cached_property
    def seeds(self) -> Mapping[str, Sequence[Training]]:
        """Variant -> its finished trainings on words."""
        return by_variant(t for t in self.findings.run.trainings if t.of_words and _losses(t))

    @cached_property
    def rows(self) -> tuple[WordRow, ...]:
        """The table, lowest perplexity first."""
        summed = {one.variant: one for one in self.findings.trained}
        ends = {
            variant: (
                over_seeds([_in_all(t) for t in seeds]),
                over_seeds([perplexity(t) for t in seeds]),
            )
            for variant, seeds in self.seeds.items()
        }
        best = front([(took.estimate, -found.estimate) for took, found in ends.values()])
        rows = [
            self._row(summed[variant], took, found, (took.estimate, -found.estimate) in best)
            for variant, (took, found) in ends.items()
            if variant in summed
        ]
        return tuple(sorted(rows, key=lambda row: row.perplexity.estimate))

    @cached_property
    def curves(self) -> Mapping[str, Curve]:
        """Of every variant, over the seeds that made as many rounds as the longest."""
        found = {}
        for variant, seeds in self.seeds.items():
            most = max(len(t.epochs) for t in seeds)
            whole = [t for t in seeds if len(t.epochs) == most]
            seconds = np.mean([_clock(t) for t in whole], axis=0)
            losses = np.mean([_losses(t) for t in whole], axis=0)
            found[variant] = Curve(
                tuple(seconds.tolist()), tuple(np.exp(np.minimum(losses, HIGHEST)).tolist())
            )
        return found

    @property
    def classes(self) -> int:
        """Of the vocabulary; 0 where the records do not say."""
        for seeds in self.seeds.values():
            found = seeds[0].dataset.get("num_classes")
            if isinstance(found, int):
                return found
        return 0

    def row(self, variant: str) -> WordRow | None:
        """That of `variant`, where it was trained."""
        return next((row for row in self.rows if row.variant == variant), None)

    def ratio(self, variant: str, other: str) -> Interval | None:
        """Perplexity of one over that of another, paired by seed; None without a common seed."""
        first, second = (
            {t.seed: math.log(perplexity(t)) for t in self.seeds.get(name, ())}
            for name in (variant, other)
        )
        common = sorted(first.keys() & second.keys())
        return over_seeds([math.exp(first[s] - second[s]) for s in common]) if common else None

    def faster(self, variant: str, other: str) -> Interval | None:
        """Words per second of one over those of another, paired by seed."""
        first, second = (
            {t.seed: _pace(t) for t in self.seeds.get(name, ())} for name in (variant, other)
        )
        common = [s for s in sorted(first.keys() & second.keys()) if second[s] > 0]
        return over_seeds([first[s] / second[s] for s in common]) if common else None

    def _row(self, trained: Trained, took: Interval, found: Interval, ahead: bool) -> WordRow:
        seeds = self.seeds[trained.variant]
        goals = {t.seed: _losses(t)[-1] for t in self.seeds.get(YARDSTICK, ())}
        ends = {t.seed: _in_all(t) for t in self.seeds.get(YARDSTICK, ())}
        paired = [t for t in seeds if t.seed in goals]
        arrivals = {t.seed: at for t in paired if (at := arrival(t, goals[t.seed])) is not None}
        all_arrive = bool(paired) and len(arrivals) == len(paired)
        itself = trained.variant == YARDSTICK
        biases = [t.final.normaliser_bias for t in seeds if t.final is not None]
        known = [bias for bias in biases if bias is not None]
        return WordRow(
            trained=trained,
            perplexity=found,
            against=None if itself else self.ratio(trained.variant, YARDSTICK),
            words_per_second=over_seeds([_pace(t) for t in seeds]),
            seconds=took,
            to_yardstick=over_seeds(list(arrivals.values())) if all_arrive else None,
            arrived=len(arrivals),
            speedup=(
                over_seeds([ends[seed] / at for seed, at in arrivals.items() if at > 0])
                if all_arrive and all(arrivals.values()) and not itself
                else None
            ),
            memory=self._memory(seeds[0]),
            bias=float(np.mean(known)) if known else None,
            ahead=ahead,
            each=tuple((_in_all(t), perplexity(t)) for t in seeds),
        )

    def _memory(self, training: Training) -> Memory | None:
        """Of a step of the same head in the model; a learned tree's is that of any of its shape."""
        options = training.config.get("head_options")
        if training.config.get("tied") or not isinstance(options, dict):
            return None
        spelt = ",".join(f"{name}={value}" for name, value in options.items() if value != "learned")
        name = f"{training.head}({spelt})" if spelt else training.head
        cells = {
            cell.head: cell.memory
            for cell in self.findings.cells
            if cell.scope == "in-model" and cell.classes == self.classes and cell.replica == 0
        }
        return cells.get(name)


HIGHEST = 700.0
"""Losses above have no perplexity that a float holds."""


def over_seeds(values: Sequence[float]) -> Interval:
    """Geometric mean of positive values, a seed each; nothing bounds that of a single one."""
    logs = [math.log(value) if value > 0 else -HIGHEST for value in values]
    centre = float(np.mean(logs))
    reach = seeds_reach(logs) if len(logs) > 1 else math.inf
    if centre + reach > HIGHEST:
        return Interval(-math.inf, math.exp(min(centre, HIGHEST)), math.inf)
    return Interval(math.exp(centre - reach), math.exp(centre), math.exp(centre + reach))


def perplexity(training: Training) -> float:
    """On the test text; of a training that has ended well."""
    loss = training.final.loss if training.final is not None else None
    return math.exp(min(_losses(training)[-1] if loss is None else loss, HIGHEST))


def arrival(training: Training, goal: float) -> float | None:
    """Seconds of training until the validation loss is `goal`, on a straight line between rounds.

    None where it stays above; the time of the first round where that is below already.
    """
    clock, losses = _clock(training), _losses(training)
    for place, loss in enumerate(losses):
        if loss <= goal:
            if place == 0:
                return float(clock[0])
            above = losses[place - 1]
            share = (above - goal) / (above - loss) if above > loss else 1.0
            return float(clock[place - 1] + share * (clock[place] - clock[place - 1]))
    return None


def validation_at(training: Training, seconds: float) -> float | None:
    """Validation loss after so many seconds of training, on a straight line between rounds.

    That of the first round before it, that of the last one after it; None without any.
    """
    losses = _losses(training)
    return float(np.interp(seconds, _clock(training), losses)) if losses else None


def _clock(training: Training) -> np.ndarray:
    """Seconds of training after each round, tests left out."""
    return np.cumsum([epoch.train_seconds for epoch in training.epochs])


def _losses(training: Training) -> list[float]:
    """On the validation text after each round; empty where one is no number."""
    losses = [epoch.test_loss for epoch in training.epochs]
    return losses if all(map(math.isfinite, losses)) else []


def _in_all(training: Training) -> float:
    return float(_clock(training)[-1])


def _pace(training: Training) -> float:
    """Words per second of training; 0 where the record does not tell how many there were."""
    words, rounds = training.dataset.get("train_words"), training.config.get("rounds")
    if not (isinstance(words, int) and isinstance(rounds, int) and rounds > 0):
        return 0.0
    seconds = _in_all(training)
    return words * len(training.epochs) / rounds / seconds if seconds > 0 else 0.0


def times(ratio: Interval) -> Shown:
    """A ratio and its interval, for people; one seed's stands alone."""
    bounded = math.isfinite(ratio.high)
    return units.times_interval(ratio) if bounded else Shown(units.digits(ratio.estimate))


def sentences(words: Words) -> Iterator[str]:
    """What the table says, with intervals."""
    base = words.row(YARDSTICK)
    if base is None:
        return
    seeds = base.trained.seeds
    over = f"over {seeds} seeds" if seeds > 1 else "from a single seed, which bounds nothing"
    took = units.show(base.seconds, units.SECONDS)
    yield (
        f"With {words.classes:,} classes, {YARDSTICK} ends at a perplexity of "
        f"{units.show(base.perplexity)} after {took} of training ({over})."
    )
    yield first(words)
    yield from _trees(words)
    if ratio := words.faster(TREE, DENSE):
        sure = ratio.low > 1
        ends = "survives" if sure else "is not seen to survive"
        yield (
            f"O(log n) {ends} Adam: with a row-sparse gradient and moments of its rows alone, the "
            f"tree trains {times(ratio)} times as many words per second as with a "
            "dense gradient, whose update walks all rows."
        )
    for row in words.rows:
        if row.bias is not None:
            yield (
                f"{row.variant} takes test words to be {units.digits(row.bias, 2)} nats more "
                "probable in training than they are, as it estimates the normaliser; its "
                "perplexity here is from the exact one."
            )


def first(words: Words) -> str:
    """Who reaches softmax's last validation perplexity first."""
    others = [row for row in words.rows if row.speedup is not None]
    if not others:
        return f"No other head reaches {YARDSTICK}'s perplexity from every seed on as many words."
    best = max(others, key=lambda row: row.speedup.estimate if row.speedup else 0.0)
    assert best.speedup is not None
    sure = "" if best.speedup.low > 1 else ", which may be chance"
    late = [row.variant for row in words.rows if row.to_yardstick is None]
    said = f" Not from every seed on as many words: {', '.join(late)}." if late else ""
    return (
        f"First to reach {YARDSTICK}'s last validation perplexity is {best.variant}, "
        f"{times(best.speedup)} times as fast{sure}.{said}"
    )


def _trees(words: Words) -> Iterator[str]:
    """What a binary tree costs in perplexity, and what better trees give back."""
    cost = words.ratio(TREE, YARDSTICK)
    if cost is None:
        return
    yield (f"A balanced binary tree ends at {times(cost)} times {YARDSTICK}'s perplexity.")
    for better in BETTER_TREES:
        gain = words.ratio(better, TREE)
        rest = words.ratio(better, YARDSTICK)
        if gain is None or rest is None:
            continue
        part = ""
        if cost.low > 1 and gain.high < 1:
            given = -math.log(gain.estimate) / math.log(cost.estimate)
            part = f", {units.share(given)} of what the tree costs given back"
        yield (
            f"{better.capitalize()}: {times(gain)} times that of the balanced tree"
            f"{part}; {times(rest)} times {YARDSTICK}'s."
        )
