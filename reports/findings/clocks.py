"""A GPU's two clocks: which of them a figure is read from, and which of them binds.

A loop of eager calls takes as long as the slower of device and host. Which head is cheaper is a
question to the device; what the host takes is hidden in a large model and gone in a captured graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, get_args

import numpy as np

from reports import units
from reports.findings.joined import Setting, by_cell
from reports.results import CELL, PHASES, Cell, Run
from reports.stats import estimates
from reports.stats.estimates import Interval, NoiseFloor, Scatter

Clock = Literal["loop", "device", "host"]

CLOCKS: tuple[Clock, ...] = get_args(Clock)

WORDS: dict[Clock, str] = {
    "loop": "a loop of calls, device and host together",
    "device": "what a call's kernels occupy the device",
    "host": "what issuing a call costs the host",
}


def clocks(run: Run) -> tuple[Clock, ...]:
    """Those that can be read, the usual one first: the device's where it has one of its own."""
    return ("device", "loop", "host") if len(run.clocks) else ("loop",)


def by(run: Run, clock: Clock) -> Run:
    """The run as `clock` saw it; what that clock did not see is left out.

    Raises:
        ValueError: the run has no such clock; the message says which it has.
    """
    if clock not in (known := clocks(run)):
        raise ValueError(f"{run.name} has no {clock} time, only {' and '.join(known)} time")
    if clock == "loop":
        return run
    place = [*CELL, "pass"]
    seen = run.clocks[[*place, f"{clock}_seconds"]].rename(columns={f"{clock}_seconds": "seconds"})
    times = run.times.drop(columns="seconds").merge(seen, on=place)
    # Whose turn it was, and what the system did meanwhile, is known of the loop alone.
    times["block"], times["system_seconds"] = "", np.nan
    times["turns"] = times["anchor_seconds"] = [()] * len(times)
    return replace(run, times=times[run.times.columns])


@dataclass(frozen=True)
class TwoClocks:
    """One head and phase at one size, on both clocks and in a loop.

    Attributes:
        head: with its options.
        loop: seconds of a call in a loop of calls; None where it was not timed.
        device: seconds that a call's kernels occupy the device.
        host: seconds that issuing a call costs the host.
        kernels: seconds of a call's kernels added up, for comparison with `device`.
        launches: kernels, copies and fills of a call.
        why_not: why no graph of it was captured; empty where one was.
    """

    head: str
    phase: str
    classes: int
    batch: int
    loop: Interval | None
    device: Interval
    host: Interval
    kernels: float
    launches: int
    why_not: str

    @property
    def binds(self) -> Literal["device", "host"]:
        """The slower of the two."""
        return "device" if self.device.estimate >= self.host.estimate else "host"


def two_clocks(run: Run, setting: Setting | None, known: Scatter) -> tuple[TwoClocks, ...]:
    """Every cell of one setting that was measured on both clocks.

    Args:
        run: as read, so that its times are those of the loop.
        setting: of the heads alone; none has no cells.
        known: how much passes differ.
    """
    if not len(run.clocks) or setting is None:
        return ()
    loops = by_cell(run.times, "seconds")
    found = []
    for place, rows in by_cell(
        run.clocks,
        *("device_seconds", "host_seconds", "kernel_seconds", "launches", "why_not"),
    ).items():
        cell = Cell(**dict(zip(CELL, place, strict=True)))
        if not setting.holds(cell):
            continue
        device, host, kernels, launches, why_not = zip(*rows, strict=True)
        loop = [seconds for (seconds,) in loops.get(place, ())]
        found.append(
            TwoClocks(
                head=cell.name,
                phase=cell.phase,
                classes=cell.classes,
                batch=cell.batch,
                loop=estimates.median(loop, known) if loop else None,
                device=estimates.median(device, known),
                host=estimates.median(host, known),
                kernels=float(np.median(kernels)),
                launches=int(np.median(launches)),
                why_not=next(filter(None, why_not), ""),
            )
        )
    heads = run.heads
    return tuple(
        sorted(
            found, key=lambda c: (heads.index(c.head), PHASES.index(c.phase), c.batch, c.classes)
        )
    )


def sentences(found: Iterable[TwoClocks], phase: str, batch: int) -> list[str]:
    """From which size on the device binds, head by head."""
    said = []
    steps = [one for one in found if one.phase == phase and one.batch == batch]
    for head, group in groupby(steps, key=lambda one: one.head):
        sizes = sorted(group, key=lambda one: one.classes)
        since = next(
            (
                one.classes
                for index, one in enumerate(sizes)
                if all(later.binds == "device" for later in sizes[index:])
            ),
            None,
        )
        launches = sizes[-1].launches
        where = (
            f"the host binds at all sizes up to {sizes[-1].classes:,} classes"
            if since is None
            else f"the device binds from {since:,} classes on"
            if since > sizes[0].classes
            else "the device binds at all sizes"
        )
        said.append(f"{head}: {where} ({launches} launches a call at the largest).")
    return said


def noise(floors: Mapping[Clock, NoiseFloor]) -> str:
    """How far apart the halves of A/A pairs are on each clock; empty where there is one alone."""
    known = {clock: floor for clock, floor in floors.items() if floor.comparisons}
    if len(floors) < 2 or not known:
        return ""
    parts = [
        f"{clock} time {units.share(floor.difference.estimate)} (half: "
        f"{units.share(floor.typical.estimate)})"
        for clock, floor in known.items()
    ]
    pairs = max(floor.comparisons for floor in known.values())
    return f"95 % of {pairs} A/A pairs differ by less than: {', '.join(parts)}"
