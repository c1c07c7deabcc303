"""Which part of a time is the operating system's: page faults, and what else it does in a call.

A large block that malloc has given back is faulted in again, page by page, whenever it is asked
for. That part is real, and it is no part of the algorithm; with a kept heap it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from reports import units
from reports.findings.findings import Findings
from reports.findings.joined import Cell

NOTABLE = 0.10
"""Share of a call from which on its system time is named beside the verdict."""

LARGER = 2.0
"""So many times its share at the smallest size, and system time may be what bends a curve."""


@dataclass(frozen=True)
class Share:
    """The system's part of one cell.

    Attributes:
        minor_faults: pages that a call had to be given anew.
        system_seconds: of a call.
        share: of the call's time; at most 1, as threads spend system time side by side.
    """

    head: str
    phase: str
    classes: int
    minor_faults: float
    system_seconds: float
    share: float


def of(cell: Cell) -> Share | None:
    """The system's part of `cell`; None where it was not counted."""
    if cell.seconds is None or cell.minor_faults is None or cell.system_seconds is None:
        return None
    share = min(1.0, cell.system_seconds / cell.seconds.estimate) if cell.seconds.estimate else 0.0
    return Share(cell.head, cell.phase, cell.classes, cell.minor_faults, cell.system_seconds, share)


def shares(findings: Findings, phase: str = "train") -> tuple[Share, ...]:
    """Of every head at the reference size, the largest share first."""
    cells = findings.alone_at(phase, findings.batch, findings.reference)
    found = [share for share in map(of, cells) if share]
    return tuple(sorted(found, key=lambda one: -one.share))


def reading(findings: Findings, head: str, phase: str) -> str:
    """A sentence beside a verdict on growth, where page faults may be what bends the curve."""
    cells = [cell for cell in findings.alone_at(phase, findings.batch) if cell.head == head]
    found = sorted((share for share in map(of, cells) if share), key=lambda one: one.classes)
    if len(found) < 2 or found[-1].share < NOTABLE:
        return ""
    first, last = found[0], found[-1]
    said = (
        f"At {last.classes:,} classes, {units.share(last.share)} of the time is the operating "
        f"system's ({last.minor_faults:,.0f} page faults a call)"
    )
    if last.share < LARGER * first.share:
        return f"{said}."
    since = next(one.classes for one in found if one.share >= NOTABLE)
    return (
        f"{said}, {units.share(first.share)} at {first.classes:,}: a knee from {since:,} classes "
        "on may be malloc's and not the algorithm's (measure with --heap kept to see)."
    )


def said(findings: Findings) -> str:
    """What a reader has to know of the reference figures; empty where little of them is faults."""
    found = [one for one in shares(findings) if one.share >= NOTABLE and one.minor_faults >= 1]
    if not found:
        return ""
    parts = [
        f"{units.share(one.share)} of {one.head}'s ({one.minor_faults:,.0f} faults)"
        for one in found[:3]
    ]
    return (
        f"at {found[0].classes:,} classes, batch {findings.batch}, the operating system takes "
        f"{', '.join(parts)} training step, mostly to hand out pages that malloc had given back. "
        "Ratios of heads hold that part: measure with --heap kept to leave it out."
    )
