"""What a reader has to know before believing a figure of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports import units
from reports.findings import faults, phases, run_facts
from reports.findings.findings import Findings
from reports.results.folder import AT
from reports.stats import estimates

NOISY = 0.2
"""Above this A/A difference, a map of the fastest heads is mostly undecided."""

BUSY = 0.1
"""From this share of the CPU on, what other programs use can be seen in the figures."""

STOLEN = 0.02
"""A host that has room for its guests takes nothing from them."""

STEADY = 0.1
"""Passes of a steady machine agree within this share in the median over all cells."""


@dataclass(frozen=True)
class Notice:
    """A finding about the run itself: its name and one or two sentences."""

    title: str
    text: str


def notices(findings: Findings) -> tuple[Notice, ...]:
    """Whatever limits what the run can say, the gravest first."""
    run, facts = findings.run, findings.run.facts
    found = []
    if run.stand_in:
        found.append(
            Notice(
                "Stand-in images",
                f"the training used generated images{_reason(facts)}. Times are real; no accuracy "
                "of this run is compared with any claim.",
            )
        )
    if len(run.machines) > 1:
        others = ", ".join(name for name in run.machines if name != run.machine)
        found.append(
            Notice(
                "One machine of several",
                f"{run.machine} measured all times and bytes here. What {others} measured, "
                f"{run.folder.name}{AT}MACHINE shows: figures of different machines are not held "
                "against each other. Accuracies are of all machines, training times of this one.",
            )
        )
    if not facts.get("finished"):
        found.append(
            Notice("Unfinished", "the run was interrupted or still goes on; this is what it has.")
        )
    for number, different in run_facts.sessions(facts).items():
        found.append(
            Notice(
                "Another session",
                f"the run was resumed, and in session {number} not all was as at first: "
                f"{different}. The table of all cells marks what was measured then.",
            )
        )
    if findings.summarised:
        found.append(
            Notice(
                "A summary",
                f"the run has {findings.measured:,} cells, more than a page can show. It shows and "
                f"judges {len(findings.cells):,} of them, a coarser grid with the same ends; the "
                "journal beside the page has all.",
            )
        )
    if disturbed := _disturbance(facts):
        found.append(
            Notice(
                "A busy machine",
                f"while measuring, {disturbed}. Close other programs and measure again; until "
                "then, believe ratios rather than seconds.",
            )
        )
    if isinstance(throttled := facts.get("throttled"), str) and throttled:
        found.append(
            Notice(
                "A throttled machine",
                f"while measuring, {throttled}. Let it cool or look at its power limit, and "
                "measure again; until then, believe ratios rather than seconds.",
            )
        )
    change = estimates.drift(cell.samples for cell in findings.cells if cell.samples)
    if change.low > 1 + STEADY or change.high < 1 / (1 + STEADY):
        pace = "slower" if change.estimate > 1 else "faster"
        found.append(
            Notice(
                "A drifting machine",
                f"the last pass was {pace} than the first, {units.show(change)} times as "
                "long: frequency, temperature or load changed. Passes hold all heads alike, so "
                "believe ratios rather than seconds; let it cool down and measure again.",
            )
        )
    noisiest = max(findings.floors, key=lambda floor: floor.margin, default=None)
    if noisiest and noisiest.margin > NOISY:
        among = "the same cell"
        if len(findings.floors) > 1:
            among = f"of cells that take {' to '.join(map(units.seconds, noisiest.seconds))}, one"
        found.append(
            Notice(
                "A noisy machine",
                f"{among} measured twice differed by up to {_apart(noisiest.margin)}. "
                "Smaller differences are not claimed, so that much stays undecided.",
            )
        )
    if said := phases.said(phases.sums(findings)):
        found.append(Notice("Phases and steps", said))
    if said := faults.said(findings):
        found.append(Notice("Page faults", said))
    return tuple(found)


def _apart(margin: float) -> str:
    return units.share(margin) if margin < 1 else f"a factor of {units.digits(1 + margin, 2)}"


def _reason(facts: Mapping[str, Any]) -> str:
    dataset = facts.get("dataset")
    reason = dataset.get("reason") if isinstance(dataset, dict) else None
    return f" ({reason})" if reason else ""


def _disturbance(facts: Mapping[str, Any]) -> str:
    busy, swapped = facts.get("others_busy"), facts.get("swapped_bytes")
    parts = []
    if isinstance(busy, float) and busy >= BUSY:
        parts.append(f"other programs used {units.share(busy)} of the CPU")
    if isinstance(stolen := facts.get("stolen"), float) and stolen >= STOLEN:
        parts.append(f"the host gave {units.share(stolen)} of the CPU to other virtual machines")
    if isinstance(swapped, int) and swapped > 0:
        parts.append(f"{units.num_bytes(swapped)} were swapped")
    return " and ".join(parts)
