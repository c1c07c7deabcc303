"""One pytest session that measures: the plan, the run's folder, the display, what is built now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import pytest
import torch

import heads
from bench import peers
from bench.cells import PIPELINE_HEAD, Visit, grid, itinerary
from bench.display import Display
from bench.machine import condition, identity, limits
from bench.machine.disturbance import Watch
from bench.measure import memory, per_core, races, timing
from bench.measure.workload import Workload, acquaint
from bench.options import Plan
from bench.train.trainings import name_of
from models.config import TrainingConfig
from models.data import Dataset
from models.records import facts_of
from models.tinyvgg import TinyVGG
from reports.results import Cell, Entry, Kind, Phase, RunFolder, Scope, Status, Time
from reports.results.journal import KINDS, Figures

Measured = Literal["time", "memory", "split", "search", "pipeline"]
"""What a session measures; a line in the journal for every visit."""

PIPELINE_BATCH = 32
"""The published study's."""

ATTEMPTS = 2
"""One kill may be anybody's; a cell during which the process is killed again is left out."""


class KilledError(Exception):
    """The process did not survive measuring a cell."""


class Session:
    """What the benchmarks share.

    Args:
        plan: what to measure.
        run: where to keep it; may hold entries of an earlier session already.
        dataset: what to train on, or None to train nothing.
        display: where to say how it goes.
    """

    def __init__(
        self, plan: Plan, run: RunFolder, dataset: Dataset | None, display: Display
    ) -> None:
        torch.set_num_threads(plan.threads)
        self.plan = plan
        self.run = run
        self.dataset = dataset
        self.display = display
        self.measured_seconds = 0.0
        self.watch = Watch()
        self.log = condition.Log(plan.device)
        self._begin = time.monotonic()
        self._journal = run.journal
        # What failed may have been a passing trouble: a resumed run tries it again.
        earlier = self._journal.entries()
        self._finished = {entry.key for entry in earlier if entry.status != "failed"}
        self._known = {e.cell: e.figures.seconds[0] for e in earlier if isinstance(e.figures, Time)}
        self._attempts = run.read_attempt()
        self._built: tuple[Cell, Workload | peers.Trainer] | None = None
        self._model_features = TinyVGG().out_features
        self.grid = grid(plan.sweep, self.cell)

    def visits(self, what: Measured) -> list[Visit]:
        """What is to be measured, in this order, by an earlier session or by this one."""
        sweep = self.plan.sweep
        match what:
            case "time":
                return list(itinerary(self.grid, sweep.passes, self.plan.seed, sweep.heavy_passes))
            case "memory":
                # Of what a library allocates for itself, torch's allocator knows nothing.
                unique = [c for c in self.grid if c.replica == 0 and not peers.trainer(c.head)]
                return list(itinerary(unique, 1, self.plan.seed))
            case "split":
                if not sweep.split_steps:
                    return []
                # At one batch size, or they would take as long as all the rest.
                smallest = [c for c in self.grid if c.batch == min(sweep.batches)]
                cells = [c for c in smallest if c.scope == "in-model" and c.head in heads.names()]
                return list(itinerary(cells, sweep.passes, self.plan.seed))
            case "search":
                return [Visit(cell, 0) for cell in races.cells(self.grid)]
            case "pipeline":
                if self.dataset is None:
                    return []
                # In turns: what disturbs the machine meanwhile hits them alike.
                classes, batch = self.dataset.num_classes, PIPELINE_BATCH
                several = self.plan.device == "cpu" and self.plan.threads > 1
                cells = [
                    self.cell("pipeline", PIPELINE_HEAD, "train", classes, batch, pipeline=name)
                    for name in sweep.pipelines
                    if several or not name.endswith(per_core.SUFFIX)
                ]
                return [Visit(cell, index) for index in range(sweep.passes) for cell in cells]

    def left(self, what: Measured) -> list[Visit]:
        """The visits that are still to be made."""
        kind: Kind = "time" if what == "pipeline" else what
        return [v for v in self.visits(what) if (kind, v.cell, v.pass_index) not in self._finished]

    def trainings_left(self) -> list[TrainingConfig]:
        """The trainings that have not ended well yet."""
        if self.dataset is None:
            return []
        return [c for c in self.plan.trainings() if not self.run.is_trained(name_of(c))]

    def traces_left(self) -> list[Cell]:
        """The cells of which there is no trace yet: one for each head that is trained."""
        trained = dict.fromkeys(config.head for config in self.plan.trainings())
        return [
            self.cell("in-model", head, "train", classes=100, batch=32)
            for head in trained
            if not any(self.run.traces(head).glob("*.json"))
        ]

    def cell(
        self,
        scope: Scope,
        head: str,
        phase: Phase,
        classes: int,
        batch: int,
        replica: int = 0,
        pipeline: str = "",
    ) -> Cell:
        """A cell on this run's device, with the features that its scope implies."""
        features = self.plan.sweep.features if scope == "isolated" else self._model_features
        return Cell(
            scope, head, phase, classes, batch, features,
            device=self.plan.device, threads=self.plan.threads, replica=replica, pipeline=pipeline,
        )  # fmt: skip

    def known_seconds(self, cell: Cell) -> float:
        """What a call took when `cell` was measured last, 0 if it was not."""
        return float(self._known.get(cell, 0.0))

    def workload(self, cell: Cell) -> Workload | peers.Trainer:
        """The subject of `cell`, kept until another one is asked for."""
        if self._built is not None and self._built[0] != cell.subject:
            self._built = None  # two large heads at once may not fit
        if reason := peers.why_not(cell) or memory.why_it_cannot_fit(peers.measured_as(cell)):
            pytest.skip(reason)
        if self._built is None:
            trainer = peers.trainer(cell.head)
            if trainer is None:
                acquaint(cell)
            self._built = cell.subject, (trainer or Workload)(cell)
        return self._built[1]

    @contextmanager
    def entry(self, kind: Kind, visit: Visit) -> Iterator[dict[str, Any]]:
        """Write the figures put into the yielded mapping, or why there are none, to the journal."""
        figures: dict[str, Any] = {}
        kept: Figures | None = None
        status: Status = "measured"
        reason = ""
        try:
            self._begin_attempt(f"{kind} {visit}")
            yield figures
            kept = KINDS[kind].load(figures)
        except pytest.skip.Exception as skipped:
            status, reason = "skipped", str(skipped)
            raise
        except Exception as error:
            self._built = None
            reason = _one_line(error)
            if memory.is_out_of_memory(error):
                status = "out-of-memory"
                pytest.skip(f"out of memory: {reason}")
            status = "failed"
            raise
        finally:
            if isinstance(kept, Time):
                self._known[visit.cell] = kept.seconds[0]
            if kept or reason:
                self._append(Entry(kind, status, visit.cell, visit.pass_index, reason, kept))

    def _begin_attempt(self, what: str) -> None:
        """Note what runs, so that a cell that kills the process does not kill every resumed one."""
        attempts = self._attempts.get(what, 0) + 1
        self.run.write_attempt(what, attempts)
        if attempts > ATTEMPTS:
            raise KilledError(
                f"the process was killed {ATTEMPTS} times while measuring this cell, "
                "probably because the machine ran out of memory"
            )

    def _append(self, entry: Entry) -> None:
        try:
            self._journal.append(entry)
        except OSError as error:
            pytest.exit(
                f"cannot write to {self.run.path} ({error.strerror}). What was measured before is "
                f"safe; make room, then: tox -e bench -- --resume {self.run.path.name}",
                returncode=int(pytest.ExitCode.INTERNAL_ERROR),
            )

    def record_start(self) -> None:
        """Write `run.json`, before anything is measured."""
        facts = identity.facts(self.plan.device)
        self.run.write_facts(
            {
                "started": _now(),
                "finished": None,
                "sweep": self.plan.name,
                "seed": self.plan.seed,
                "passes": self.plan.sweep.passes,
                "planned": sum(len(self.visits(what)) for what in get_args(Measured)),
                "options": self.plan.to_json(),
                "machine": facts | limits.measure(self.plan.device, facts),
                "harness_seconds": timing.harness_seconds(timing.timer_of(self.plan.device)),
                "dataset": self.dataset and facts_of(self.dataset),
            }
        )

    def record(self, **facts: Any) -> None:
        """Update `run.json`."""
        self.run.write_facts(self.run.read_facts() | facts)

    def record_end(self, complete: bool) -> None:
        """Close `run.json` and say how well the measuring itself went."""
        wall = time.monotonic() - self._begin
        self.log.note()
        self.run.forget_attempt()
        earlier = self.run.read_facts()
        self.record(
            finished=_now() if complete else None,
            wall_seconds=earlier.get("wall_seconds", 0) + wall,
            measured_seconds=earlier.get("measured_seconds", 0) + self.measured_seconds,
            others_busy=max(self.watch.others, earlier.get("others_busy", 0)),
            stolen=max(self.watch.stolen, earlier.get("stolen", 0)),
            swapped_bytes=self.watch.swapped_bytes + earlier.get("swapped_bytes", 0),
            conditions=earlier.get("conditions", []) + self.log.to_json(),
            throttled=condition.throttling(self.log.conditions) or earlier.get("throttled", ""),
        )
        self.display.say(
            f"{self.measured_seconds / wall:.0%} of {timedelta(seconds=round(wall))} "
            "was spent inside measured code; timing itself adds "
            f"{1e6 * earlier.get('harness_seconds', 0):.2g} µs to a round."
        )
        for advice in filter(None, (self.watch.advice(), condition.advice(self.log.conditions))):
            self.display.say(advice, style="bold yellow")
        if not complete:
            self.display.say(f"To complete this run: tox -e bench -- --resume {self.run.path.name}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _one_line(error: Exception) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
