"""The published claims, each with what tests it and what this run says about it.

Claims and figures are those of a study of three heads on TinyVGG and CIFAR-100. To add one, add an
entry to `CLAIMS`: the report, the summary and the tests take it from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from reports import units
from reports.findings import word_claims
from reports.findings.findings import Findings
from reports.findings.growth import ORDERS, Growth, Order, rank, reading
from reports.findings.published import PUBLISHED
from reports.findings.trained import accuracy_over_seeds, by_variant, epoch_passes
from reports.findings.verdicts import NOTHING, Answer, Claim, Evidence, Verdict
from reports.results import Training
from reports.stats import complexity, estimates
from reports.stats.estimates import Interval

SURE = 0.95
SAME_TIME = 0.03
"""Margins of equivalence, fixed before anything was measured. Noise is no margin: more of it may
only make an answer less decided."""

SAME_ACCURACY = 0.025


def check(findings: Findings) -> tuple[tuple[Claim, Verdict], ...]:
    """Every claim with what this run says about it; those on words where words were trained."""
    on_words = any(training.of_words for training in findings.run.trainings)
    claims = (*_COMPLEXITY, *word_claims.CLAIMS) if on_words else CLAIMS
    return tuple((claim, claim.test(findings)) for claim in claims)


# --- complexity -------------------------------------------------------------------------------


def _complexity(head: str, model: str, *, at_most: bool) -> Callable[[Findings], Verdict]:
    """Tests that a training step of `head` grows like `model`, or `at_most` like it."""

    def test(findings: Findings) -> Verdict:
        growth = next((g for g in findings.growths if (g.head, g.phase) == (head, "train")), None)
        if growth is None:
            return Verdict("not tested", NOTHING, f"{head} was not measured alone.")
        answer, because = judge_growth(growth, model, at_most=at_most)
        phases = [g for g in findings.growths if g.head == head and g.time]
        by_phase = ", ".join(f"{g.phase} {g.time.said}" for g in phases if g.time)
        return Verdict(
            answer, _told(growth), because, (*_kinds(growth), Evidence("timed, by phase", by_phase))
        )

    return test


def judge_growth(growth: Growth, model: str, *, at_most: bool) -> tuple[Answer, str]:
    """What counts and clock say together; the counts alone never decide, nor against the clock.

    Args:
        growth: evidence on a training step.
        model: the claimed growth.
        at_most: the claim is a bound ("only O(log n)"), so that slower growth supports it too.
    """
    time, said = growth.time, reading(growth)
    if time is None:
        return "not tested", said
    counted = [found.model for found in (growth.multiply_adds, growth.bytes) if found]
    exact = max(counted, key=rank, default=None)
    answers = {_held(one, model, exact, at_most=at_most) for one in time.within}
    if len(answers) == 1:
        return answers.pop(), said
    slower = ORDERS[: ORDERS.index(model) + 1]
    faster = sum(p for growing, p in time.probabilities.items() if growing not in slower)
    if at_most and not _hidden(exact, model) and faster <= 1 - SURE:
        return "supported", f"{said} But nothing that grows faster than {model} fits them."
    return "inconclusive", said


def _held(timed: str, claimed: str, exact: str | None, *, at_most: bool) -> Answer:
    """What a growth that the clock shows says of the claimed one, beside the counted one."""
    beyond = rank(timed) - rank(claimed)
    if beyond > 0 or (beyond < 0 and not at_most and exact != claimed):
        return "contradicted"
    open_still = _hidden(exact, claimed) or (beyond and not at_most)
    return "inconclusive" if open_still else "supported"


def _hidden(exact: str | None, claimed: str) -> bool:
    """Whether counts must show beyond the claim at some size, though the clock may not see it."""
    return exact is not None and rank(exact) > rank(claimed)


def _kinds(growth: Growth) -> tuple[Evidence, ...]:
    """The three kinds of evidence on one phase."""
    return (
        Evidence("counted multiply-adds", _order(growth.multiply_adds)),
        Evidence("counted bytes", _order(growth.bytes)),
        Evidence("peak memory", _order(growth.memory)),
        Evidence("timed", _timed(growth), growth.time.reason if growth.time else ""),
        Evidence(
            "allowed for caches",
            f"{growth.step:.1f} times",
            "as much more may a class cost outside the caches, by the machine's copy speeds",
        ),
    )


def _order(found: Order | None) -> str:
    if found is None:
        return "too few sizes to tell"
    return found.model + (f" from {found.since:,} classes on" if found.since else "")


def _told(growth: Growth) -> str:
    """What the clock says in a word; where it names no model, at least how steep the curve is."""
    if growth.time is None:
        return "not timed"
    if growth.time.within:
        return growth.time.said
    shown = str(exponent(growth.time))
    return "too few sizes" if shown == NOTHING else f"exponent {shown}"


def _timed(growth: Growth) -> str:
    if growth.time is None:
        return "not timed"
    time = growth.time
    probable = f", {chosen}" if (chosen := probability(time)) else ""
    return f"{time.said}{probable}, exponent {exponent(time)}"


def probability(time: complexity.Verdict) -> str:
    """How probable the named model is; nothing where none is named, as none need fit then."""
    known = {str(m): p for m, p in time.probabilities.items()}
    named = [known[one] for one in time.within if one in known]
    return f"{sum(named):.0%} probable" if named else ""


def exponent(time: complexity.Verdict) -> units.Shown:
    """The exponent and its interval; a dash where nothing could be fitted."""
    fitted = math.isfinite(time.exponent.estimate)
    return units.show(time.exponent) if fitted else units.Shown(NOTHING)


# --- seconds per epoch ------------------------------------------------------------------------


def _epochs(findings: Findings) -> Verdict:
    """Tests that training with Gumbel-softmax is no slower than with softmax.

    Two looks: the epochs themselves, trained one head after the other, and single training steps of
    the same network, measured interleaved, which a drifting machine does not favour either way.
    """
    machine = findings.run.machine
    softmax, gumbel = (
        [seed for seed in _variant(findings, head) if seed.machine == machine]
        for head in ("softmax", "gumbel")
    )
    looks: list[tuple[str, Interval]] = []
    measured = NOTHING
    if _epoch_seconds(softmax) and _epoch_seconds(gumbel):
        ratio = estimates.ratio(_epoch_seconds(gumbel), _epoch_seconds(softmax))
        looks.append((f"epochs, {gumbel[0].variant} over softmax", ratio))
        measured = " against ".join(
            f"{units.seconds(estimates.median(_epoch_seconds(t)).estimate)} ({t[0].variant})"
            for t in (gumbel, softmax)
        )
    for head in VARIANTS["gumbel"]:
        step = findings.in_model_ratio(head, "softmax", PUBLISHED_BATCH)
        if step:
            looks.append((f"interleaved TinyVGG training steps, {head} over softmax", step))
    evidence = tuple(
        Evidence(kind, f"{units.times_interval(ratio)} times") for kind, ratio in looks
    )
    if not looks:
        return Verdict("not tested", measured, "Neither epochs nor steps of both were measured.")
    answer, because = judge_looks([ratio for _, ratio in looks], findings.margin)
    return Verdict(answer, measured, because, evidence)


def judge_looks(looks: Sequence[Interval], floor: float) -> tuple[Answer, str]:
    """Whether something takes no longer, by every look at it: ratios of times.

    It does where a ratio cannot be above the margin of equivalence, and does not where it must be,
    by more than the noise `floor` too. Looks that do not all say the same decide nothing.
    """
    margin = f"the margin of {units.share(SAME_TIME)} within which times count as the same"
    if all(look.high <= 1 + SAME_TIME for look in looks):
        return "supported", f"All of every interval lies below or within {margin}."
    if all(look.low > 1 + max(SAME_TIME, floor) for look in looks):
        return "contradicted", f"All of every interval lies above {margin} and the noise floor."
    above = any(look.low > 1 + SAME_TIME for look in looks)
    below = any(look.high <= 1 + SAME_TIME for look in looks)
    if above and below:
        return "inconclusive", f"The looks disagree about {margin}."
    return "inconclusive", f"An interval reaches over {margin}, or over the noise floor."


def _epoch_seconds(trainings: Sequence[Training]) -> list[np.ndarray]:
    """Every epoch as a pass of one round: epochs lie minutes apart, as passes do."""
    passes = epoch_passes(trainings)
    return [epoch for seed in passes for epoch in seed[:, None] if epoch[0] > 0]


# --- accuracy ---------------------------------------------------------------------------------

VARIANTS = {"softmax": ("softmax",), "gumbel": ("gumbel-normal", "gumbel")}
"""The published form of a head first; where it was not trained, the next one stands in for it."""

PUBLISHED_BATCH, PUBLISHED_EPOCHS, PUBLISHED_IMAGES = 32, 10, 50_000
ONE_SEED = 3.0
"""A single seed says nothing about the next one. Seeds of such trainings differ by about a point,
so a difference has to be this many times the scatter of the test images to contradict."""


def _accuracy(head: str, published: float) -> Callable[[Findings], Verdict]:
    """Tests that `head` reaches the published accuracy in the published set-up."""

    def test(findings: Findings) -> Verdict:
        trainings = _variant(findings, head)
        if not trainings:
            return Verdict("not tested", NOTHING, "It was not trained.")
        if findings.run.stand_in:
            return Verdict("not tested", NOTHING, "Stand-in images: their accuracy says nothing.")
        tables = [t.final.confusion for t in trainings if t.final]
        found = accuracy_over_seeds([table for table in tables if table is not None])
        measured = (
            f"{units.share_interval(found)} ({trainings[0].variant}, {_seeds(len(trainings))})"
        )
        differs = next((d for t in trainings if (d := _deviation(t))), "")
        if differs:
            return Verdict("not tested", measured, f"Another set-up than the published: {differs}.")
        answer, because = judge_accuracy(found, published, len(trainings))
        return Verdict(answer, measured, because)

    return test


def judge_accuracy(found: Interval, published: float, seeds: int) -> tuple[Answer, str]:
    """Whether a measured share agrees with a published one, the outcome of a single training."""
    # The published figure has the scatter of its own test images, about as large as ours.
    reach = math.sqrt(2) * max(found.high - found.estimate, found.estimate - found.low)
    apart = found.estimate - published
    said = (
        f"{100 * apart:+.1f} points from the published {units.share(published)}, "
        f"give or take the {100 * reach:.1f} of the test images"
    )
    if abs(apart) + reach <= SAME_ACCURACY:
        return "supported", f"{said}: within {100 * SAME_ACCURACY:.1f} points, which count as none."
    if abs(apart) <= SAME_ACCURACY + (ONE_SEED if seeds == 1 else 1) * reach:
        more = "another seed may explain that; train more than one" if seeds == 1 else "too many"
        return "inconclusive", f"{said}: {more}."
    return "contradicted", f"{said}: more than test images and seeds explain."


def _variant(findings: Findings, head: str) -> list[Training]:
    """Finished trainings of the head's published variant, else of the next one."""
    finished = by_variant(findings.run.trainings)
    return next((finished[name] for name in VARIANTS[head] if name in finished), [])


def _deviation(training: Training) -> str:
    """How a training's set-up differs from the published one, or nothing."""
    config, images = training.config, training.dataset.get("train_images")
    if training.own_images:
        return f"{training.dataset.get('name')} instead of CIFAR-100"
    if images != PUBLISHED_IMAGES:
        return f"{images} training images instead of {PUBLISHED_IMAGES:,}"
    if len(training.epochs) != PUBLISHED_EPOCHS:
        return f"{len(training.epochs)} epochs instead of {PUBLISHED_EPOCHS}"
    if config.get("batch_size") != PUBLISHED_BATCH:
        return f"batch size {config.get('batch_size')} instead of {PUBLISHED_BATCH}"
    if config.get("optimizer") != "SGD":
        return f"optimizer {config.get('optimizer')} instead of SGD"
    return ""


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


# --- the list ---------------------------------------------------------------------------------

_GROWTH = (
    "Training steps of the head alone at one batch size, over all class counts: multiply-adds and "
    "bytes counted from the head's formulas, peak memory, and the fit of the measured seconds."
)
_SHARE = (
    "TinyVGG on the official CIFAR-100 split, SGD, batch 32, 10 epochs; accuracy on the 10,000 "
    "test images."
)

_SOFTMAX, _GUMBEL = PUBLISHED["softmax"], PUBLISHED["gumbel-normal"]


def _reaches(name: str, head: str, published: float) -> Claim:
    """That `head` reaches the accuracy with which it was published."""
    shown = f"{100 * published:.3g} %"
    return Claim(
        f"{head}-accuracy",
        f"{name} reaches {shown} accuracy on CIFAR-100 after 10 epochs.",
        shown,
        _SHARE,
        _accuracy(head, published),
    )


_COMPLEXITY: tuple[Claim, ...] = (
    Claim(
        "softmax-linear",
        "Softmax costs O(n) in the number of classes.",
        "stated",
        _GROWTH,
        _complexity("softmax", "O(n)", at_most=False),
    ),
    Claim(
        "gumbel-linear",
        "Gumbel-softmax costs O(n), as it contains a softmax.",
        "stated",
        _GROWTH,
        _complexity("gumbel", "O(n)", at_most=False),
    ),
    Claim(
        "hierarchical-logarithmic",
        "Hierarchical softmax costs O(log n), as only one root-to-leaf path is evaluated.",
        "stated, no figures",
        _GROWTH,
        _complexity("hierarchical", "O(log n)", at_most=True),
    ),
)

CLAIMS: tuple[Claim, ...] = (
    *_COMPLEXITY,
    Claim(
        "gumbel-epoch",
        "An epoch with Gumbel-softmax takes no longer than one with softmax.",
        f"{_GUMBEL.epoch_seconds} s against {_SOFTMAX.epoch_seconds} s",
        "Seconds of the training epochs, and interleaved training steps of TinyVGG at batch 32. "
        "The ratio is tested; the seconds themselves belong to another machine.",
        _epochs,
    ),
    _reaches("Softmax", "softmax", _SOFTMAX.accuracy),
    _reaches("Gumbel-softmax", "gumbel", _GUMBEL.accuracy),
)
