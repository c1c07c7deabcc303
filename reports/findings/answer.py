"""The answer in a few sentences: which head is fastest where, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby

from reports import units
from reports.findings import workloads
from reports.findings.fastest import Fastest, rank
from reports.findings.findings import Findings
from reports.stats import paired

PHASE_NAMES = {
    "forward": "Forward pass",
    "backward": "Backward pass",
    "step": "Optimizer step",
    "train": "Training step",
    "predict": "Prediction",
}
MOST_NAMED = 5
"""A sentence of more names than this is a table."""

WITHIN = f"within {100 * paired.EQUAL:g}\u00a0%"
"""How far heads may differ that are called equal."""


def sentences(findings: Findings) -> list[str]:
    """What a reader in a hurry takes home."""
    return [
        *(said for phase in ("train", "predict") if (said := _fastest(findings, phase))),
        *workloads.sentences(findings),
        *(said for said in (_lead(findings), _accuracy(findings)) if said),
    ]


def _fastest(findings: Findings, phase: str) -> str:
    """Training step, batch 128: softmax up to 256 classes, hierarchical from 1,024 on."""
    row = [f for f in findings.fastest(phase) if f.batch == findings.batch]
    if not row:
        return ""
    label = partial(_label, may_be_equal=findings.in_turns)
    parts = [f"{name} {_span(list(stretch), row)}" for name, stretch in groupby(row, key=label)]
    return f"{PHASE_NAMES[phase]}, batch {findings.batch}: {', '.join(parts)}."


def _label(found: Fastest, may_be_equal: bool) -> str:
    """The fastest head, those equal to it, or two between which the noise does not decide."""
    candidates = sorted((found.head, *found.equals, *found.rivals))
    if found.decided and found.equals:
        *some, last = candidates
        return f"{', '.join(some)} or {last} (equal {WITHIN})"
    if len(candidates) > 2:
        return "too close to call"
    # Where heads may be equal too, it has to be said which of both is meant.
    open_ = " (undecided)" if found.rivals and may_be_equal else ""
    return " or ".join(candidates) + open_


def squares(findings: Findings, phase: str) -> str:
    """Of a phase's map, how many squares one head wins, equal ones do, or none so far."""
    found = findings.fastest(phase)
    undecided = sum(not one.decided for one in found)
    equal = sum(one.decided and bool(one.equals) for one in found)
    return (
        f"{len(found)} squares, {len(found) - undecided - equal} with one fastest head, "
        f"{equal} with heads that are equal {WITHIN}, {undecided} undecided"
    )


def _span(stretch: Sequence[Fastest], row: Sequence[Fastest]) -> str:
    low, high = stretch[0].classes, stretch[-1].classes
    if stretch[0] is row[0] and stretch[-1] is row[-1]:
        return f"at all class counts, {low:,} to {high:,}"
    if stretch[0] is row[0]:
        return f"up to {high:,} classes"
    if stretch[-1] is row[-1]:
        return f"from {low:,} classes on"
    return f"at {low:,} classes" if low == high else f"from {low:,} to {high:,} classes"


def _lead(findings: Findings) -> str:
    """At 262,144 classes, a training step takes hierarchical 1.2 ms and softmax 300 ms."""
    if findings.reference is None:
        return ""
    ranked = rank(findings.alone_at("train", findings.batch, findings.reference))
    if len(ranked) < 2:
        return ""
    place, _ = paired.standing(ranked, findings.known)
    first = ranked.pop(place)
    other = next((cell for cell in ranked if cell.head == "softmax"), ranked[-1])
    margin = paired.margin(findings.floors, first.seconds.estimate if first.seconds else 0.0)
    times, change = findings.known.compare(other, first, margin)
    taken = [f"{c.head} {units.seconds(c.seconds.estimate)}" for c in (first, other) if c.seconds]
    said = {
        "slower": f"{units.times_interval(times)} times as long.",
        "same": f"equal {WITHIN}.",
    }
    return (
        f"At {findings.reference:,} classes and batch {findings.batch}, a training step takes "
        f"{' and '.join(taken)}: {said.get(change, 'too close to call.')}"
    )


def _accuracy(findings: Findings) -> str:
    if not findings.trained or findings.run.stand_in:
        return ""
    ranked = sorted(findings.trained, key=lambda row: -row.accuracy.estimate)
    parts = [f"{row.variant} {units.share(row.accuracy.estimate)}" for row in ranked]
    if (others := len(parts) - MOST_NAMED) > 1:
        parts[MOST_NAMED:] = [f"and {others} more"]
    return f"Test accuracy after training: {', '.join(parts)}."
