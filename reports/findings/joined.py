"""One record per cell: the passes of a run joined, with the median time and its interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from reports import results
from reports.results import CELL, MEMORY, PHASES, SCOPES, STATES, Run, State
from reports.stats import estimates, paired
from reports.stats.estimates import Interval, Scatter
from reports.stats.paired import Known

USUAL_BATCH = 128
"""The batch size that figures and verdicts speak of where it was measured: small enough for a
laptop, large enough that a training step is more than its overhead."""


MOST_CELLS = 2_500
"""Cells that a page can show and a reader take in: four times those of the full sweep's largest
part. Of a run with more, so many are judged, and the page says so."""

TIMES = (
    *("seconds", "multiply_adds", "bytes"),
    *("pass", "block", "turns", "anchor_seconds", "minor_faults", "system_seconds", "iterations"),
    *("same_as", "computes"),
)
"""What is joined of a time, pass by pass."""

SIZES = ("classes", "batch", "features", "threads")
"""Axes of a grid on which a part of the values tells of the others."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one phase (`peak`, above the baseline) and of what the module keeps."""

    peak: int
    parameters: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """Parameters, optimizer state and the peak together; a step's peak holds its gradients."""
        return self.parameters + self.optimizer + self.peak


@dataclass(frozen=True, eq=False)
class Cell(results.Cell):
    """One point of the grid and what was measured there.

    Attributes:
        head: with its options, as in a call: another head than the one without them.
        samples: seconds, one array of rounds per pass; empty where only memory was measured.
        passes: of each, its number.
        seconds: the median and its 95 % interval, None without samples.
        multiply_adds: counted from the head's formulas for this batch; None in-model.
        bytes: counted likewise.
        memory: None where it was not measured.
        sessions: of the run, that measured it.
        blocks: of each pass, the block that measured it; empty for one measured by itself.
        turns: of each pass, the turn of every round in its block; empty likewise.
        anchors: of each pass, seconds in the same block of the one cell that all blocks share;
            empty where not every pass has them.
        minor_faults: pages that a call had to be given anew, the mean over passes; None if unknown.
        system_seconds: CPU time of a call, all threads, in the operating system; None likewise.
        calls: that were timed, over all rounds and passes.
        same_as: the head whose calls of this phase are the very same code; empty if it has its own.
        computes: of a peer, the head whose function it computes; empty otherwise.
    """

    samples: tuple[np.ndarray, ...] = ()
    seconds: Interval | None = None
    multiply_adds: int | None = None
    bytes: int | None = None
    memory: Memory | None = None
    sessions: tuple[int, ...] = (1,)
    passes: tuple[int, ...] = ()
    blocks: tuple[str, ...] = ()
    turns: tuple[tuple[int, ...], ...] = ()
    anchors: tuple[tuple[float, ...], ...] = ()
    minor_faults: float | None = None
    system_seconds: float | None = None
    calls: int = 0
    same_as: str = ""
    computes: str = ""

    @property
    def rounds(self) -> int:
        """Number of samples over all passes."""
        return sum(len(taken) for taken in self.samples)


@dataclass(frozen=True)
class Setting:
    """What is held fixed while heads, classes and batches vary, so that like meets like.

    Attributes:
        state: of predictions; other phases have none.
    """

    scope: str
    features: int
    dtype: str
    device: str
    threads: int
    labels: str = "uniform"
    optimizer: str = "sgd"
    state: str = "untrained"
    mode: str = "eager"
    ranks: int = 1
    model: str = "tinyvgg"

    def holds(self, cell: results.Cell) -> bool:
        """Whether a cell was measured in this setting and is no second half of an A/A pair."""
        state = self.state if cell.phase == "predict" else cell.state
        return replace(self, state=state) == _setting(cell) and cell.replica == 0

    def holds_at_any_width(self, cell: Cell) -> bool:
        """Whether it does but for the cell's number of features."""
        return replace(self, features=cell.features).holds(cell)


def join(run: Run, known: Scatter) -> tuple[Cell, ...]:
    """The run's cells that have a time or a memory figure: by scope, head, phase and size.

    What was measured once and holds for all labels and states is there for each that a rival has.
    Passes agree in memory to the byte; where they do not, the largest counts.
    """
    cells: dict[Any, Cell] = {}
    measured = (*run.heads, *run.pipelines)
    times = run.times.sort_values("pass", kind="stable")
    for place, rows in by_cell(times, *TIMES, "session").items():
        samples, work, moved, passes, blocks, turns, anchors, *others = zip(*rows, strict=True)
        faults, system, iterations, same_as, computes, sessions = others
        cells[place] = replace(
            _empty(place),
            samples=samples,
            seconds=estimates.median(samples, known),
            multiply_adds=_whole(work[-1]),
            bytes=_whole(moved[-1]),
            sessions=_sessions(sessions),
            passes=passes,
            blocks=blocks,
            turns=turns,
            anchors=anchors if all(anchors) else (),
            minor_faults=_mean(faults),
            system_seconds=_mean(system),
            calls=sum(int(n) * len(one) for n, one in zip(iterations, samples, strict=True)),
            same_as=same_as[-1],
            computes=computes[-1],
        )
    for place, rows in by_cell(run.memory, *MEMORY, "session").items():
        *figures, sessions = zip(*rows, strict=True)
        timed = cells.get(place)
        cells[place] = replace(
            timed or _empty(place),
            memory=Memory(*(int(max(values)) for values in figures)),
            sessions=_sessions((*sessions, *(timed.sessions if timed else ()))),
        )
    holds = by_cell(times, "any_labels")
    free = [
        cells[place] for place, rows in holds.items() if all(any_labels for (any_labels,) in rows)
    ]
    return tuple(
        sorted(
            (*cells.values(), *_for_all_labels(free, cells.values())),
            key=lambda c: (
                SCOPES.index(c.scope),
                measured.index(c.pipeline or c.head),
                PHASES.index(c.phase),
                *(getattr(c, field) for field in CELL[3:]),
            ),
        )
    )


def _for_all_labels(free: Iterable[Cell], cells: Iterable[Cell]) -> Iterator[Cell]:
    """Each cell that holds for all labels and states, as a cell of those that its rivals have."""
    shared = ("head", "replica", "labels", "state")
    asked: dict[Any, dict[tuple[str, State], None]] = {}
    there = {_place(cell) for cell in cells}
    for cell in cells:
        asked.setdefault(_place(cell, *shared), {})[cell.labels, cell.state] = None
    for cell in free:
        for labels, state in asked[_place(cell, *shared)]:
            further = replace(cell, labels=labels, state=state)
            if cell.replica == 0 and _place(further) not in there:
                yield further


def summary(run: Run, most: int = MOST_CELLS) -> tuple[Run, int]:
    """The run with at most so many cells, and how many it has.

    Every second value of the axis with most values is left out, its ends kept, until the rest is
    few enough: the grid becomes coarser, but stays a grid, so that like still meets like. Where the
    sizes are few and yet the cells are many, the first heads stay.
    """
    places = pd.concat([run.times[[*CELL]], run.memory[[*CELL]]]).drop_duplicates()
    measured = len(places)
    kept: dict[str, set[Any]] = {}
    while len(places) > most:
        axis = max(SIZES, key=lambda name: places[name].nunique())
        values = sorted(places[axis].unique())
        if len(values) > 2:
            kept[axis] = {*values[:-1:2], values[-1]}
        else:
            heads = list(dict.fromkeys(places["head"]))
            if len(heads) < 2:
                places = places.iloc[:most]
                break
            axis = "head"
            kept[axis] = set(heads[: len(heads) // 2])
        places = places[places[axis].isin(kept[axis])]
    if len(places) == measured:
        return run, measured
    return replace(
        run,
        times=run.times.merge(places, on=[*CELL]),
        memory=run.memory.merge(places, on=[*CELL]),
    ), measured


def _empty(place: Any) -> Cell:
    cell = Cell(**dict(zip(CELL, place, strict=True)))
    return replace(cell, head=cell.name, options="")


def by_cell(table: pd.DataFrame, *columns: str) -> dict[Any, list[tuple[Any, ...]]]:
    """Cell, as a tuple -> `columns` of its rows; pandas' own groups cost a millisecond each."""
    groups: dict[Any, list[tuple[Any, ...]]] = {}
    places = zip(*(table[name].tolist() for name in CELL), strict=True)
    values = zip(*(table[name].tolist() for name in columns), strict=True)
    for place, row in zip(places, values, strict=True):
        groups.setdefault(place, []).append(row)
    return groups


def _sessions(numbers: Iterable[float]) -> tuple[int, ...]:
    return tuple(sorted(set(map(int, numbers))))


def _whole(value: float) -> int | None:
    return None if pd.isna(value) else int(value)


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not pd.isna(value)]
    return float(np.mean(known)) if known else None


def _setting(cell: results.Cell) -> Setting:
    return Setting(**{one.name: getattr(cell, one.name) for one in fields(Setting)})


def usual_setting(cells: Iterable[Cell], scope: str) -> Setting | None:
    """The setting of `scope` that holds most cells, the first of equals; None without cells.

    Heads are usually whole: of settings that differ in their ranks, those with the fewest count.
    Its state is that of most predictions.
    """
    cells = [cell for cell in cells if cell.scope == scope]
    least = min((cell.ranks for cell in cells), default=1)
    settings = [replace(_setting(cell), state="untrained") for cell in cells if cell.ranks == least]
    usual = max(dict.fromkeys(settings), key=settings.count, default=None)
    if usual is None:
        return None
    states = [
        cell.state
        for cell in cells
        if cell.phase == "predict" and replace(_setting(cell), state="untrained") == usual
    ]
    return replace(usual, state=max(dict.fromkeys(states), key=states.count, default="untrained"))


def settings(cells: Iterable[Cell], usual: Setting | None) -> tuple[Setting, ...]:
    """Every setting of `usual`'s scope, that one first: one for each state that is predicted in."""
    if usual is None:
        return ()
    found: dict[Setting, set[str]] = {}
    for cell in cells:
        if cell.scope == usual.scope and cell.replica == 0:
            states = found.setdefault(replace(_setting(cell), state="untrained"), set())
            if cell.phase == "predict":
                states.add(cell.state)
    every = [
        replace(one, state=state)
        for one, states in found.items()
        for state in STATES
        if state in (states or {usual.state})
    ]
    return tuple(dict.fromkeys([usual, *every]))


def alike(table: pd.DataFrame) -> pd.DataFrame:
    """The lines measured under the workload that most were, heads called by their full names."""
    if table.empty:
        return table
    workloads = table[["dtype", "labels", "optimizer", "mode", "features"]].apply(tuple, axis=1)
    named = table["head"] + ("(" + table["options"] + ")").where(table["options"] != "", "")
    kept: pd.DataFrame = table.assign(head=named)[workloads == workloads.mode()[0]]
    return kept


def usual_batch(cells: Iterable[Cell]) -> int:
    """The batch size to speak of: `USUAL_BATCH` where measured, else the middle one, else 0."""
    batches = sorted({cell.batch for cell in cells})
    if USUAL_BATCH in batches or not batches:
        return USUAL_BATCH if batches else 0
    return batches[(len(batches) - 1) // 2]


def scatter(run: Run) -> Scatter:
    """How much passes of one cell differ on this machine, learned from all of the run's cells."""
    groups = by_cell(run.times, "seconds").values()
    return estimates.scatter(tuple(seconds for (seconds,) in passes) for passes in groups)


def learn(cells: Iterable[Cell], known: Scatter) -> Known:
    """How much passes of pairs differ, beside those of cells: from all that competed in turns."""
    contests: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        if any(cell.blocks):
            contests[_place(cell, "head", "options", "replica")].append(cell)
    return paired.learn(known, contests.values())


def same(cells: Iterable[Cell]) -> list[tuple[Cell, Cell]]:
    """The A/A pairs: cells that were timed as if they were two."""
    halves: dict[tuple[Any, ...], dict[int, Cell]] = defaultdict(dict)
    for cell in cells:
        if cell.samples:
            halves[_place(cell, "replica")][cell.replica] = cell
    return [(half[0], half[1]) for half in halves.values() if {0, 1} <= half.keys()]


def _place(cell: Cell, *but: str) -> tuple[Any, ...]:
    return tuple(getattr(cell, field) for field in CELL if field not in but)
