"""The answer in a few sentences: which head is fastest where, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from reports import units
from reports.findings import workloads
from reports.findings.fastest import Fastest, rank
from reports.findings.findings import Findings
from reports.stats import estimates

PHASE_NAMES = {
    "forward": "Forward pass",
    "backward": "Backward pass",
    "step": "Optimizer step",
    "train": "Training step",
    "predict": "Prediction",
}
MOST_NAMED = 5
"""A sentence of more names than this is a table."""


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
    parts = [f"{label} {_span(list(stretch), row)}" for label, stretch in groupby(row, key=_label)]
    return f"{PHASE_NAMES[phase]}, batch {findings.batch}: {', '.join(parts)}."


def _label(found: Fastest) -> str:
    """The fastest head, or two between which the noise does not decide."""
    candidates = sorted((found.head, *found.rivals))
    return " or ".join(candidates) if len(candidates) <= 2 else "too close to call"


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
    first = ranked[0]
    other = next((cell for cell in ranked[1:] if cell.head == "softmax"), ranked[-1])
    times = estimates.ratio(other.samples, first.samples, findings.scatter)
    taken = [f"{c.head} {units.seconds(c.seconds.estimate)}" for c in (first, other) if c.seconds]
    decided = estimates.judge(times, findings.margin) == "slower"
    return (
        f"At {findings.reference:,} classes and batch {findings.batch}, a training step takes "
        f"{' and '.join(taken)}: "
        + (f"{units.times_interval(times)} times as long." if decided else "too close to call.")
    )


def _accuracy(findings: Findings) -> str:
    if not findings.trained or findings.run.stand_in:
        return ""
    ranked = sorted(findings.trained, key=lambda row: -row.accuracy.estimate)
    parts = [f"{row.variant} {units.share(row.accuracy.estimate)}" for row in ranked]
    if (others := len(parts) - MOST_NAMED) > 1:
        parts[MOST_NAMED:] = [f"and {others} more"]
    return f"Test accuracy after training: {', '.join(parts)}."
