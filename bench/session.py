"""One pytest session that measures, and the journal it writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from statistics import median
from typing import Any, NoReturn

import pytest
import torch

from bench import interrupts
from bench.budget import Agenda, Deadline, Pace
from bench.cells import MODEL_BATCH, Block, Visit, anchor, model_step
from bench.cluster.jobs import Group, standing
from bench.display import Display
from bench.items import Task, label, weight
from bench.logbook import Logbook
from bench.machine.clock import timer_of
from bench.measure import allocation, modes
from bench.measure.duet import Rival
from bench.measure.subject import Subjects
from bench.measure.timing import play, warm_up
from bench.measure.workload import Workload
from bench.options import Plan
from bench.todo import Todo
from models.dataset import Dataset
from reports.results import Cell, Entry, Kind, RunFolder, Status, Time
from reports.results.journal import KINDS, Figures

ANCHOR_SECONDS, IMAGE_SECONDS = 4e-4, 1.6e-4
"""A step of the anchor, and an image in a step of TinyVGG, on the machine that what is expected of
cells and trainings was measured on."""

PROBES, PROBE_SECONDS, PROBE_WEIGHT = 9, 0.5, 5.0
"""Steps of a probe, its longest warm-up, and seconds of work that its outcome counts for."""

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
        cut: what an earlier session had no time for.
        moved: what goes on elsewhere than on a cluster's machine that is gone, and which that was.
    """

    def __init__(
        self,
        plan: Plan,
        run: RunFolder,
        dataset: Dataset | None,
        display: Display,
        cut: Iterable[str] = (),
        moved: Mapping[Group, str] | None = None,
    ) -> None:
        torch.set_num_threads(plan.threads)
        self.plan = plan
        self.run = run
        self.dataset = dataset
        self.display = display
        self._journal = run.journal
        self.moved = dict(moved or {})
        earlier = standing(self._journal.entries(), self.moved)
        self.cut = list(cut)
        self.todo = Todo(plan, run, dataset, earlier, self._is_cut)
        self.agenda = Agenda([], Deadline(None), Pace(), 0.0, lambda task: 0.0)
        self.subjects = Subjects()
        self._blocks = 0
        self.task_name = ""
        self.logbook = Logbook(run, plan, display)
        self.times: dict[Cell, dict[int, Time]] = {}
        for entry in earlier:
            self._note(entry)
        self._attempts = run.read_attempt()

    def left(self) -> str:
        """What the run still lacks, in words; empty once it is complete."""
        entries = standing(self._journal.entries(), self.moved)
        return Todo(self.plan, self.run, self.dataset, entries, self._is_cut).left_in_words

    def leave_out(self, kind: str, task: Task) -> NoReturn:
        """Note that there is no time for `task`, and skip it."""
        self.cut.append(_named(kind, task))
        self.forgo()

    def forgo(self) -> NoReturn:
        """Skip what has begun, as there is no time for it."""
        self.agenda.forgo()
        pytest.skip(f"no time was left of --minutes {self.plan.minutes:g}")

    def _is_cut(self, kind: str, task: Task) -> bool:
        return bool(self.cut) and _named(kind, task) in self.cut

    def begin(self, tasks: Sequence[tuple[str, Task]], rounds: float) -> None:
        """See what there is to do, with so many seconds of rounds for each cell."""
        expected = partial(weight, plan=self.plan)
        pace = Pace()
        if self.plan.minutes is not None and tasks:
            self._probe(pace)
        self.agenda = Agenda(tasks, Deadline(self.plan.minutes), pace, rounds, expected)

    def _probe(self, pace: Pace) -> None:
        """Learn how fast this machine is: of a head's training steps, and of the model's."""
        timer = timer_of(self.plan.device)
        model = Workload(model_step(self.plan.device, self.plan.threads))
        for kind, timed, expected in (
            ("time", self.anchor.timed, ANCHOR_SECONDS),
            ("training", model.prepare("train"), IMAGE_SECONDS * MODEL_BATCH),
        ):
            warm_up(timed, timer, PROBE_SECONDS)
            seconds = median(play(timed, 1, timer).seconds for _ in range(PROBES))
            pace.learn(kind, PROBE_WEIGHT, PROBE_WEIGHT * seconds / expected)
        if self.plan.device != "cpu":
            # A GPU's own clocks get so many seconds a cell, however slow its host is.
            pace.learn("device", PROBE_WEIGHT, PROBE_WEIGHT)

    @cached_property
    def anchor(self) -> Rival:
        """What takes part in every block."""
        cell = anchor(self.plan.device, self.plan.threads)
        return Workload(cell).rival(cell.phase)

    def name_block(self) -> str:
        """A name that no other block of the run has."""
        self._blocks += 1
        return f"{self.logbook.session}.{self.task_name}{self._blocks}"

    def attempts(self, block: Block) -> list[tuple[str, tuple[Cell, ...]]]:
        """What to try in order to measure `block`, and which cells that is.

        All at once; one by one where the process was killed with all: one of them is to blame.
        """
        alone: list[tuple[str, tuple[Cell, ...]]]
        alone = [(f"time {visit}", (visit.cell,)) for visit in block.visits]
        together = f"time {block}"
        killed = {what for what, times in self._attempts.items() if times >= ATTEMPTS}
        suspect = together in killed or any(what in self._attempts for what, _ in alone)
        return alone if suspect else [(together, block.cells)]

    def earlier_seconds(self, cell: Cell) -> float:
        """What a call took when `cell` was measured last, 0 if it was not."""
        passes = self.times.get(cell)
        return float(passes[max(passes)].seconds[0]) if passes else 0.0

    def _note(self, entry: Entry) -> None:
        if isinstance(entry.figures, Time):
            self.times.setdefault(entry.cell, {})[entry.pass_index] = entry.figures

    @contextmanager
    def entry(self, kind: Kind, visit: Visit) -> Iterator[dict[str, Any]]:
        """Write the figures put into the yielded mapping, or why there are none, to the journal."""
        with self.outcome(kind, visit) as figures:
            if self.agenda.is_over:
                self.forgo()
            self.begin_attempt(f"{kind} {visit}")
            yield figures

    @contextmanager
    def outcome(self, kind: Kind, visit: Visit) -> Iterator[dict[str, Any]]:
        """The same for what has begun already, with others."""
        figures: dict[str, Any] = {}
        kept: Figures | None = None
        status: Status = "measured"
        reason = ""
        try:
            yield figures
            kept = KINDS[kind].load(figures)
        except pytest.skip.Exception as skipped:
            status, reason = "skipped", str(skipped)
            raise
        except pytest.exit.Exception:  # the disk is full: nothing of this cell is known
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in interrupts.FULL:
                raise  # whoever drives the session ends the run
            self.subjects.discard(visit.cell)
            if isinstance(error, modes.ModeError):
                status, reason = "skipped", str(error)
                pytest.skip(reason)
            reason = _one_line(error)
            if allocation.is_out_of_memory(error):
                status = "out-of-memory"
                pytest.skip(f"out of memory: {reason}")
            status = "failed"
            raise
        finally:
            if kept or reason:
                where = visit.cell, visit.pass_index
                entry = Entry(kind, status, *where, reason, kept, self.logbook.session)
                self.keep(entry)

    def begin_attempt(self, what: str) -> None:
        """Note what runs, so that a cell that kills the process does not kill every resumed one."""
        attempts = self._attempts.get(what, 0) + 1
        try:
            self.run.write_attempt(what, attempts)
        except OSError as error:
            pytest.exit(self.unwritten(error), returncode=int(pytest.ExitCode.INTERNAL_ERROR))
        if attempts > ATTEMPTS:
            raise KilledError(
                f"the process was killed {ATTEMPTS} times while measuring this cell, "
                "probably because the machine ran out of memory"
            )

    def keep(self, entry: Entry) -> None:
        """Write what another machine has measured to the journal."""
        self._note(entry)
        self._append(entry)

    def _append(self, entry: Entry) -> None:
        try:
            self._journal.append(entry)
        except OSError as error:
            pytest.exit(self.unwritten(error), returncode=int(pytest.ExitCode.INTERNAL_ERROR))

    def unwritten(self, error: OSError) -> str:
        """What to do about a disk that took no more, in a line."""
        return (
            f"cannot write {error.filename or f'to {self.run.path}'} ({error.strerror}). What was "
            "measured before is safe; make room, then: tox -e bench -- --resume "
            f"{self.run.path.name}"
        )


def _named(kind: str, task: Task) -> str:
    return f"{kind} {label(task)}"


def _one_line(error: Exception) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
