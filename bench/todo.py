"""What a run is to do, and what of it is left for this session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import heads
from bench import peers
from bench.cells import PIPELINE_HEAD, Block, Spare, Visit, blocks, called, grid, itinerary
from bench.measure import per_core, races
from bench.options import Plan
from bench.train.trainings import name_of
from heads import Phase
from models.cases import CASES
from models.config import TrainingConfig
from models.dataset import Dataset
from reports.results import Cell, Entry, Kind, RunFolder, Scope

Measured = Literal["time", "device", "memory", "communication", "split", "search", "pipeline"]
"""What is measured, a line in the journal for every visit; races are a search there."""

DEVICE_PASSES = 2
"""A GPU's own clock differs little from pass to pass."""

PIPELINE_BATCH = 32
"""The published study's."""


class Todo:
    """Visits, trainings and traces, each in the order in which they are made.

    Args:
        plan: what to measure.
        run: where trainings and traces of an earlier session are.
        dataset: what to train on, or None to train nothing.
        earlier: what is in the journal already.
        is_cut: whether there was no time for something, by kind of work and task.
    """

    def __init__(
        self,
        plan: Plan,
        run: RunFolder,
        dataset: Dataset | None,
        earlier: Iterable[Entry],
        is_cut: Callable[[str, Block | Cell | TrainingConfig], bool] = lambda kind, task: False,
    ) -> None:
        self._is_cut = is_cut
        self._plan, self._run, self._dataset = plan, run, dataset
        # What failed may have been a passing trouble: a resumed run tries it again.
        self._entered = {entry.key: entry.status for entry in earlier}
        self._case = CASES[plan.sweep.model]
        self._grid = grid(plan.sweep, self._cell)
        # What is said of these holds in any mode, or of calls as they are written alone.
        self._written = [c for c in self._grid if c.mode == "eager" and c.ranks == 1]

    @property
    def planned(self) -> int:
        """Visits of the whole run, those of earlier sessions included."""
        return sum(len(self.visits(what)) for what in get_args(Measured))

    def visits(self, what: Measured) -> list[Visit]:
        """What is to be measured, by an earlier session or by this one."""
        sweep, seed = self._plan.sweep, self._plan.seed
        match what:
            case "time":
                return [visit for block in self._blocks() for visit in block.visits]
            case "device":
                if self._plan.device == "cpu":
                    return []
                # A rank's kernels wait for those of others: there is no clock of its own.
                ours = [c for c in self._grid if c.ranks == 1 and not peers.trainer(c.head)]
                return list(itinerary(ours, min(DEVICE_PASSES, sweep.passes), seed))
            case "memory":
                # Of what a library allocates for itself, torch's allocator knows nothing.
                eager = [cell for cell in self._grid if cell.mode == "eager"]
                unique = [c for c in eager if c.replica == 0 and not peers.trainer(c.head)]
                return list(itinerary(unique, 1, seed))
            case "communication":
                shared = [cell for cell in self._grid if cell.ranks > 1 and cell.replica == 0]
                return list(itinerary(shared, 1, seed))
            case "split":
                if not sweep.split_steps:
                    return []
                # At one batch size, or they would take as long as all the rest.
                smallest = [c for c in self._written if c.batch == min(sweep.batches)]
                cells = [c for c in smallest if c.scope == "in-model" and c.head in heads.names()]
                return list(itinerary(cells, sweep.passes, seed))
            case "search":
                return [Visit(cell, 0) for cell in races.cells(self._written)]
            case "pipeline":
                if self._dataset is None:
                    return []
                # In turns: what disturbs the machine meanwhile hits them alike.
                classes, batch = self._dataset.num_classes, PIPELINE_BATCH
                several = self._plan.device == "cpu" and self._plan.threads > 1
                cells = [
                    self._cell("pipeline", PIPELINE_HEAD, "train", classes, batch, pipeline=name)
                    for name in sweep.pipelines
                    if several or not name.endswith(per_core.SUFFIX)
                ]
                return [Visit(cell, index) for index in range(sweep.passes) for cell in cells]

    def left(self, what: Measured) -> list[Visit]:
        """The visits that are still to be made."""
        kind: Kind = "time" if what == "pipeline" else what
        return [
            visit
            for visit in self.visits(what)
            if self._entered.get((kind, visit.cell, visit.pass_index), "failed") == "failed"
        ]

    def blocks_left(self) -> list[Block]:
        """What still competes: a block of which a part is measured is left without that part."""
        left = set(self.left("time"))
        parts = [
            Block(tuple(v.cell for v in block.visits if v in left), block.pass_index)
            for block in self._blocks()
        ]
        return [part for part in parts if part.cells]

    def _blocks(self) -> list[Block]:
        sweep = self._plan.sweep
        planned = blocks(self._grid, sweep.passes, self._plan.seed, sweep.heavy_passes)
        return [block for block in planned if not self._is_cut("time", block)]

    def progress(self) -> Mapping[str, tuple[int, int]]:
        """Kind of work -> how much of it has ended, well or not, of how much was planned.

        It follows from what lies in the folder alone, not from how any session ended.
        """
        visits = [
            ("time" if what == "pipeline" else what, visit.cell, visit.pass_index)
            for what in get_args(Measured)
            for visit in self.visits(what)
        ]
        trainings = [name_of(config) for config in self._trainings()]
        traces = self._traced_heads()
        return {
            "cells": (sum(key in self._entered for key in visits), len(visits)),
            "trainings": (sum(map(self._run.has_ended, trainings)), len(trainings)),
            "traces": (sum(map(self._run.is_traced, traces)), len(traces)),
        }

    @property
    def left_in_words(self) -> str:
        """How much of what was planned has ended; empty where all of it has."""
        progress = self.progress()
        if all(done == planned for done, planned in progress.values()):
            return ""
        return ", ".join(
            f"{done:,} of {planned:,} {what}"
            for what, (done, planned) in progress.items()
            if planned
        )

    @property
    def nothing_left(self) -> bool:
        """Whether a session has nothing to do, not even to try again what failed."""
        return not (
            any(self.left(what) for what in get_args(Measured))
            or self.trainings_left()
            or self.traces_left()
        )

    def trainings_left(self) -> list[TrainingConfig]:
        """The trainings that have not ended well yet."""
        return [c for c in self._trainings() if not self._run.is_trained(name_of(c))]

    def spare(self) -> list[Spare]:
        """What is left in the end, where a run has so many minutes."""
        return [] if self._plan.minutes is None else [Spare(self._plan.minutes)]

    def _trainings(self) -> list[TrainingConfig]:
        if self._dataset is None:
            return []
        return [c for c in self._plan.trainings() if not self._is_cut("training", c)]

    def traces_left(self) -> list[Cell]:
        """The cells of which there is no trace yet: one for each head that is trained.

        They are of training steps of the model at a usual size.
        """
        return [
            self._traced(head) for head in self._traced_heads() if not self._run.is_traced(head)
        ]

    def _traced_heads(self) -> list[str]:
        """Heads, those that were asked for with options as in a call."""
        asked = self._plan.sweep.heads
        trainings = self._plan.trainings()
        named = dict.fromkeys(c.variant if c.variant in asked else c.head for c in trainings)
        return [call for call in named if not self._is_cut("trace", self._traced(call))]

    def _traced(self, call: str) -> Cell:
        head, options = called(call)
        sizes = {"classes": self._case.classes, "batch": self._case.batch}
        return self._cell("in-model", head, "train", **sizes, options=options)

    def _cell(
        self,
        scope: Scope,
        head: str,
        phase: Phase,
        classes: int,
        batch: int,
        features: int = 0,
        **more: Any,
    ) -> Cell:
        """A cell on this run's device; in-model, with the features that the model gives."""
        if scope != "isolated":
            features = self._plan.sweep.width or self._case.features
            more = {"model": self._plan.sweep.model, **more}
        on: dict[str, Any] = {"device": self._plan.device, "threads": self._plan.threads}
        return Cell(scope, head, phase, classes, batch, features, **on, **more)
