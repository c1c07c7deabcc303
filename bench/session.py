"""One pytest session that measures, and the journal it writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import pytest
import torch

from bench import interrupts
from bench.cells import Block, Visit, anchor
from bench.display import Display
from bench.logbook import Logbook
from bench.measure import memory
from bench.measure.duet import Rival
from bench.measure.subject import Subjects
from bench.measure.workload import Workload
from bench.options import Plan
from bench.todo import Todo
from models.data import Dataset
from reports.results import Cell, Entry, Kind, RunFolder, Status, Time
from reports.results.journal import KINDS, Figures

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
        self._journal = run.journal
        earlier = self._journal.entries()
        self.todo = Todo(plan, run, dataset, earlier)
        self.subjects = Subjects()
        self._blocks = 0
        self.logbook = Logbook(run, plan, display)
        self._seconds = {
            e.cell: e.figures.seconds[0] for e in earlier if isinstance(e.figures, Time)
        }
        self._attempts = run.read_attempt()

    def left(self) -> str:
        """What the run still lacks, in words; empty once it is complete."""
        return Todo(self.plan, self.run, self.dataset, self._journal.entries()).left_in_words

    @cached_property
    def anchor(self) -> Rival:
        """What takes part in every block."""
        cell = anchor(self.plan.device, self.plan.threads)
        return Workload(cell).rival(cell.phase)

    def name_block(self) -> str:
        """A name that no other block of the run has."""
        self._blocks += 1
        return f"{self.logbook.session}.{self._blocks}"

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
        return float(self._seconds.get(cell, 0.0))

    @contextmanager
    def entry(self, kind: Kind, visit: Visit) -> Iterator[dict[str, Any]]:
        """Write the figures put into the yielded mapping, or why there are none, to the journal."""
        with self.outcome(kind, visit) as figures:
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
            reason = _one_line(error)
            if memory.is_out_of_memory(error):
                status = "out-of-memory"
                pytest.skip(f"out of memory: {reason}")
            status = "failed"
            raise
        finally:
            if isinstance(kept, Time):
                self._seconds[visit.cell] = kept.seconds[0]
            if kept or reason:
                where = visit.cell, visit.pass_index
                self._append(Entry(kind, status, *where, reason, kept, self.logbook.session))

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


def _one_line(error: Exception) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
