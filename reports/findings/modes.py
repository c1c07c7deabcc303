"""The same call in several modes: as written, replayed from captured graphs, or compiled.

What a mode changes above all is what the host does, so here times are those of the loop, whatever
clock the rest of a report is read from; beside them stands the device's time, where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from reports.findings.joined import Setting, by_cell
from reports.results import CELL, MODES, PHASES, WHOLE, Cell, Mode, Run
from reports.stats import estimates
from reports.stats.estimates import Interval, Scatter


@dataclass(frozen=True)
class InModes:
    """One head and phase at one size, in each mode that it was measured in.

    Attributes:
        loop: seconds of a call in a loop of calls, mode by mode.
        device: seconds that a call's kernels occupy the device, likewise; none on a CPU.
        graph_breaks: of the compiled call; None where it was not compiled.
    """

    head: str
    phase: str
    classes: int
    batch: int
    loop: Mapping[Mode, Interval]
    device: Mapping[Mode, Interval]
    graph_breaks: int | None

    def share(self, mode: Mode) -> float | None:
        """Of the eager loop that a loop in `mode` takes."""
        if mode not in self.loop or "eager" not in self.loop:
            return None
        return self.loop[mode].estimate / self.loop["eager"].estimate


def in_modes(run: Run, setting: Setting | None, known: Scatter) -> tuple[InModes, ...]:
    """What was measured in more than one mode, all else as in `setting`.

    Args:
        run: as read, so that its times are those of the loop.
        setting: of the heads alone; none has no cells.
        known: how much passes differ.
    """
    if setting is None or run.times["mode"].nunique() < 2:
        return ()
    loop = dict(_intervals(run.times, "seconds", setting, known))
    device = dict(_intervals(run.clocks, "device_seconds", setting, known))
    breaks = {
        Cell(**dict(zip(CELL, place, strict=True))): max(
            (count for (count,) in rows if not pd.isna(count)), default=np.nan
        )
        for place, rows in by_cell(
            run.times[run.times["mode"] == "compile"], "graph_breaks"
        ).items()
    }
    found = []
    for cell in dict.fromkeys(replace(cell, mode="eager") for cell in loop):
        each: dict[Mode, Cell] = {mode: replace(cell, mode=mode) for mode in MODES}
        modes = {mode: loop[one] for mode, one in each.items() if one in loop}
        if len(modes) < 2:
            continue
        count = breaks.get(each["compile"], np.nan)
        found.append(
            InModes(
                *(cell.name, cell.phase, cell.classes, cell.batch),
                loop=modes,
                device={mode: device[one] for mode, one in each.items() if one in device},
                graph_breaks=None if pd.isna(count) else int(count),
            )
        )
    heads = run.heads
    return tuple(
        sorted(
            found, key=lambda c: (heads.index(c.head), PHASES.index(c.phase), c.batch, c.classes)
        )
    )


def _intervals(
    table: pd.DataFrame, seconds: str, setting: Setting, known: Scatter
) -> Iterator[tuple[Cell, Interval]]:
    """Cell -> its seconds, of those that differ from `setting` in nothing but the mode."""
    if not len(table):
        return
    for place, rows in by_cell(table, seconds).items():
        cell = Cell(**dict(zip(CELL, place, strict=True)))
        if cell.phase in WHOLE and replace(setting, mode=cell.mode).holds(cell):
            yield cell, estimates.median([taken for (taken,) in rows], known)


def why_not(run: Run) -> dict[str, dict[str, list[str]]]:
    """Mode -> reason -> the heads and phases that cannot be called in it."""
    skipped = run.missing[(run.missing["mode"] != "eager") & (run.missing["status"] == "skipped")]
    found: dict[str, dict[str, list[str]]] = {}
    for mode, reason, head, options, phase in zip(
        *(skipped[name] for name in ("mode", "reason", "head", "options", "phase")), strict=True
    ):
        name = f"{head}({options}) {phase}" if options else f"{head} {phase}"
        named = found.setdefault(mode, {}).setdefault(reason, [])
        if name not in named:
            named.append(name)
    return found
