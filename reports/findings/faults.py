"""Which part of a time is the operating system's: page faults, and what else it does in a call.

A large block that malloc has given back is faulted in again, page by page, whenever it is asked
for. That part is real, and it is no part of the algorithm; with a kept heap it is gone.

System time is CPU time of all threads, so it may be longer than the call. The kernel knows it from
ticks of up to 10 ms, so of few short calls it says next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from reports import units
from reports.findings.findings import Findings
from reports.findings.joined import Cell

NOTABLE = 0.10
"""System time over a call's from which on it is named beside the verdict."""

LARGER = 2.0
"""So many times that at the smallest size, and system time may be what bends a curve."""

TELLING = 0.2
"""Seconds of calls, all together, below which their system time is not told: 20 ticks, of which a
share is known to a tenth."""


@dataclass(frozen=True)
class Share:
    """The system's part of one cell.

    Attributes:
        minor_faults: pages that a call had to be given anew.
        system_seconds: CPU time of a call, all threads; None where its clock was too coarse.
        seconds: that a call takes.
    """

    head: str
    phase: str
    classes: int
    minor_faults: float
    system_seconds: float | None
    seconds: float

    @property
    def share(self) -> float:
        """System time over the call's: above 1 where threads spend it side by side; 0 if untold."""
        return (self.system_seconds or 0.0) / self.seconds if self.seconds else 0.0

    @property
    def said(self) -> str:
        """73.3 ms of CPU time in 95.5 ms (32,768 page faults)."""
        system, call = units.seconds(self.system_seconds or 0.0), units.seconds(self.seconds)
        return f"{system} of CPU time in {call} ({self.minor_faults:,.0f} page faults)"


def of(cell: Cell) -> Share | None:
    """The system's part of `cell`; None where it was not counted."""
    if cell.seconds is None or cell.minor_faults is None or cell.system_seconds is None:
        return None
    seconds = cell.seconds.estimate
    told = cell.system_seconds if cell.calls * seconds >= TELLING else None
    return Share(cell.head, cell.phase, cell.classes, cell.minor_faults, told, seconds)


def shares(findings: Findings, phase: str = "train") -> tuple[Share, ...]:
    """Of every head at the reference size, the largest share first."""
    cells = findings.alone_at(phase, findings.batch, findings.reference)
    found = [share for share in map(of, cells) if share]
    return tuple(sorted(found, key=lambda one: -one.share))


def reading(findings: Findings, head: str, phase: str) -> str:
    """A sentence beside a verdict on growth, where page faults may be what bends the curve."""
    cells = [cell for cell in findings.alone_at(phase, findings.batch) if cell.head == head]
    told = [share for share in map(of, cells) if share and share.system_seconds is not None]
    found = sorted(told, key=lambda one: one.classes)
    if len(found) < 2 or found[-1].share < NOTABLE:
        return ""
    first, last = found[0], found[-1]
    said = f"At {last.classes:,} classes the operating system takes {last.said} a call"
    if last.share < LARGER * first.share:
        return f"{said}."
    since = next(one.classes for one in found if one.share >= NOTABLE)
    return (
        f"{said}, at {first.classes:,} {first.said}: a knee from {since:,} classes on may be "
        "malloc's and not the algorithm's (measure with --heap kept to see)."
    )


def said(findings: Findings) -> str:
    """What a reader has to know of the reference figures; empty where little of them is faults."""
    found = [one for one in shares(findings) if one.share >= NOTABLE and one.minor_faults >= 1]
    if not found:
        return ""
    parts = "; ".join(f"of {one.head} {one.said}" for one in found[:3])
    return (
        f"at {found[0].classes:,} classes, batch {findings.batch:,}, the operating system takes, "
        f"of a training step {parts}; mostly to hand out pages that malloc had given back. Ratios "
        "of heads hold that part: measure with --heap kept to leave it out."
    )
