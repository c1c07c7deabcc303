"""What the field says of output heads for words, held against a run's own text and size.

Their texts, models and machines are others, so what is tested is the statement, not the figure: a
verdict is on this text and this number of words, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports import units
from reports.findings.findings import Findings
from reports.findings.verdicts import NOTHING, Answer, Claim, Evidence, Verdict
from reports.findings.words import YARDSTICK, Words, over_seeds, times, validation_at
from reports.stats.estimates import Interval

SAME_PERPLEXITY = 0.05
"""Margin of equivalence, fixed before anything was measured: a twentieth of the perplexity, as far
apart as two papers' trainings of one model."""

SMALL, LARGE = 30_000, 300_000
"""Vocabularies that count as Chen, Grangier and Auli's 10,000 words, and as their 800,000; what
lies between, as their 100,000."""


def judge_same(ratio: Interval) -> Answer:
    """Whether a perplexity is at most that of softmax, within the margin."""
    if ratio.high <= 1 + SAME_PERPLEXITY:
        return "supported"
    return "contradicted" if ratio.low > 1 + SAME_PERPLEXITY else "inconclusive"


def judge_faster(ratio: Interval) -> Answer:
    """Whether something takes longer than something else."""
    if ratio.low > 1:
        return "supported"
    return "contradicted" if ratio.high <= 1 else "inconclusive"


def together(answers: Sequence[Answer]) -> Answer:
    """Of a claim that says several things: contradicted if one is, supported if all are."""
    if "contradicted" in answers:
        return "contradicted"
    return "supported" if all(one == "supported" for one in answers) else "inconclusive"


def _adaptive(findings: Findings) -> Verdict:
    """Adaptive softmax: more words per second than softmax, and its perplexity."""
    words = Words(findings)
    ratio, pace = words.ratio("adaptive", YARDSTICK), words.faster("adaptive", YARDSTICK)
    if ratio is None or pace is None:
        return _untested()
    evidence = (
        Evidence("perplexity over softmax's", str(times(ratio))),
        Evidence("words per second over softmax's", str(times(pace))),
    )
    answer = together([judge_same(ratio), judge_faster(pace)])
    measured = f"{times(pace)} times as fast, {times(ratio)} times"
    return Verdict(answer, f"{measured} the perplexity", _because(words), evidence)


def _sampled(findings: Findings) -> Verdict:
    """Sampled softmax: softmax's perplexity, whichever way negatives are drawn."""
    words = Words(findings)
    found = {
        variant: ratio
        for variant in words.seeds
        if variant.startswith("sampled")
        if (ratio := words.ratio(variant, YARDSTICK))
    }
    if not found:
        return _untested()
    best = min(found, key=lambda variant: found[variant].estimate)
    evidence = tuple(
        Evidence(f"perplexity over softmax's, {variant}", str(times(ratio)))
        for variant, ratio in found.items()
    )
    return Verdict(
        judge_same(found[best]),
        f"{times(found[best])} times softmax's ({best})",
        _because(words),
        evidence,
    )


def _ranking(findings: Findings) -> Verdict:
    """Hierarchical softmax of two levels beside softmax after the same time, by vocabulary."""
    words = Words(findings)
    ratio = at_same_time(words, "two-level", YARDSTICK)
    if ratio is None or not words.classes:
        return _untested()
    if words.classes <= SMALL:
        expected, answer = "behind", judge_faster(ratio)
    elif words.classes >= LARGE:
        expected, answer = "ahead", judge_faster(inverse(ratio))
    else:
        expected, answer = "level", _judge_level(ratio)
    return Verdict(
        answer,
        f"{times(ratio)} times softmax's perplexity",
        f"Expected of {words.classes:,} words: {expected}. {_because(words)}",
        (Evidence("validation perplexity over softmax's, at the same time", str(times(ratio))),),
    )


def _judge_level(ratio: Interval) -> Answer:
    low, high = 1 / (1 + SAME_PERPLEXITY), 1 + SAME_PERPLEXITY
    if low <= ratio.low and ratio.high <= high:
        return "supported"
    return "contradicted" if ratio.high < low or ratio.low > high else "inconclusive"


def inverse(ratio: Interval) -> Interval:
    """One over it; of what nothing bounds, nothing does."""
    if ratio.low <= 0:
        return Interval(-math.inf, 1 / ratio.estimate, math.inf)
    return Interval(1 / ratio.high, 1 / ratio.estimate, 1 / ratio.low)


def at_same_time(words: Words, variant: str, other: str) -> Interval | None:
    """Validation perplexity of one over another's, when the first of the two to end has ended."""
    ratios = []
    others = {training.seed: training for training in words.seeds.get(other, ())}
    for training in words.seeds.get(variant, ()):
        if training.seed in others:
            pair = training, others[training.seed]
            until = min(sum(e.train_seconds for e in one.epochs) for one in pair)
            first, second = (validation_at(one, until) for one in pair)
            if first is None or second is None:
                return None
            ratios.append(math.exp(first - second))
    return over_seeds(ratios) if ratios else None


def _untested() -> Verdict:
    return Verdict("not tested", NOTHING, "Not all that it speaks of was trained.")


def _because(words: Words) -> str:
    seeds = {len(trainings) for trainings in words.seeds.values()}
    some = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    bound = "" if min(seeds) > 1 else ", and one seed bounds nothing"
    return (
        f"On this text, {words.classes:,} words, {some} seed{'' if seeds == {1} else 's'}{bound}; "
        f"perplexities within {units.share(SAME_PERPLEXITY)} count as the same."
    )


_METHOD = (
    "Trainings of one language model with each head on as many words from the same seeds, each by "
    "a learning rate of its own; perplexity on the test text, seconds without tests."
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "adaptive-words",
        "Adaptive softmax trains faster than the full softmax, at nearly its perplexity.",
        "stated: accuracy “close to that of the full softmax” (Grave et al., ICML 2017)",
        _METHOD,
        _adaptive,
    ),
    Claim(
        "sampled-words",
        "Sampled softmax loses nothing to the full softmax.",
        "“match”, with the full softmax over fewer words (Jean et al., ACL 2015)",
        f"{_METHOD} The better of the ways to draw negatives.",
        _sampled,
    ),
    Claim(
        "ranking-words",
        "In the same time, hierarchical softmax of two levels is behind the full softmax at 10,000 "
        "words, level at 100,000 and ahead at 800,000.",
        "ranked, after a week each (Chen, Grangier and Auli, ACL 2016)",
        f"{_METHOD} Validation perplexity when the first of the two ends.",
        _ranking,
    ),
)
