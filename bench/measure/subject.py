"""The subject of a cell: built when it is first asked for, kept for the cell's other phases."""

from __future__ import annotations

import pytest

from bench import peers
from bench.measure import memory
from bench.measure.workload import Workload, acquaint, why_not, why_unsuitable
from reports.results import Cell


class Subject:
    """One at a time, as two large heads may not fit."""

    def __init__(self) -> None:
        self._built: tuple[Cell, Workload | peers.Trainer] | None = None

    def of(self, cell: Cell) -> Workload | peers.Trainer:
        """The subject of `cell`, kept until another one is asked for.

        Raises:
            pytest.skip.Exception: it is absent here, or cannot fit into memory.
        """
        if self._built is not None and self._built[0] != cell.subject:
            self.forget()
        reason = peers.why_not(cell) or why_unsuitable(cell) or why_not(cell)
        if reason := reason or memory.why_it_cannot_fit(peers.measured_as(cell)):
            pytest.skip(reason)
        if self._built is None:
            trainer = peers.trainer(cell.head)
            if trainer is None:
                acquaint(cell)
            self._built = cell.subject, (trainer or Workload)(cell)
        subject = self._built[1]
        if isinstance(subject, Workload):
            subject.enter(cell.state)
        return subject

    def module_of(self, cell: Cell) -> Workload:
        """The subject of `cell`, which is no library that trains by itself."""
        workload = self.of(cell)
        assert isinstance(workload, Workload)  # else there would be no such item
        return workload

    def forget(self) -> None:
        """Free what is built."""
        self._built = None
