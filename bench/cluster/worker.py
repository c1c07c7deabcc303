"""What a task does on the machine that it is sent to: one benchmark, into a folder of its own.

It sends back whatever it would have written, and writes nothing to the run.
"""

from __future__ import annotations

import inspect
import os
import platform
import shutil
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal, get_args
from uuid import uuid4

import pytest
from rich.console import Console

from bench import interrupts, items
from bench.cells import Visit
from bench.cluster.jobs import Job
from bench.cluster.nodes import ClusterError
from bench.display import Display
from bench.logbook import Disturbance, facts_of
from bench.machine import heap, identity, limits
from bench.machine.clock import harness_seconds, timer_of
from bench.measure import labels
from bench.measure.stopwatch import Bounds, Stopwatch
from bench.measure.timing import Timing
from bench.options import Plan
from bench.session import Session
from models.config import TrainingConfig
from reports.results import Entry, RunFolder

Result = Literal["passed", "skipped", "failed"]
RESULTS: tuple[Result, ...] = get_args(Result)

JOURNAL, ATTEMPT = "journal.jsonl", "running.json"


@dataclass(frozen=True)
class Order:
    """One job, and all that a machine has to know of the run.

    Attributes:
        plan: of the run.
        bounds: of a measurement.
        folder: that the run was started in, from where its paths are.
        session: of the run, that asks.
        number: of the order; no other of the session has it.
        missing: why the data cannot be had, where it cannot.
        fingerprint: of the data that the run began with; None where no data is read.
        job: what to do.
    """

    plan: Plan
    bounds: Bounds
    folder: str
    session: int
    number: int
    missing: str
    fingerprint: str | None
    job: Job


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of an order.

    Attributes:
        result: of the benchmark, as pytest names it.
        reason: one line, empty where it passed.
        entries: lines for the journal.
        files: path within the run's folder -> content.
        timings: parameters and timing, for pytest-benchmark.
        said: lines for the terminal.
        process: a name of the process, unique among those of the run.
        disturbance: what disturbed the machine while this process measured, from its start on.
        inside_seconds: spent inside measured code.
    """

    result: Result
    reason: str
    entries: Sequence[Entry]
    files: Mapping[str, bytes]
    timings: Sequence[tuple[Mapping[str, str | int], Timing]]
    said: Sequence[str]
    process: str
    disturbance: Disturbance
    inside_seconds: float


class Listed(Stopwatch):
    """A stopwatch that lists what it would have told pytest-benchmark."""

    def __init__(self, bounds: Bounds, device: str) -> None:
        self.bounds, self.timer = bounds, timer_of(device)
        self.kept: list[tuple[Mapping[str, str | int], Timing]] = []

    def keep(self, params: Mapping[str, str | int], timing: Timing) -> None:
        """List it."""
        self.kept.append((dict(params), timing))


class Heard(Display):
    """A display that nobody sees: what it says for good is sent back."""

    def __init__(self) -> None:
        super().__init__(Console(file=StringIO()))
        self.said: list[str] = []

    def running(self, what: str, weight: float = 0.0) -> None:
        """Nobody looks."""

    def say(self, line: str, style: str = "") -> None:
        """Keep the line."""
        self.said.append(line)


class Worker:
    """What a process keeps between orders of one run: heads that are built, and the data.

    Args:
        order: the first one.
    """

    def __init__(self, order: Order) -> None:
        if Path(order.folder).is_dir():
            os.chdir(order.folder)
        self.plan = order.plan
        try:
            heap.choose(self.plan.heap)
            for given in self.plan.sweep.labels:
                labels.parse(given)  # counts of a file are read here, too
        except (heap.HeapError, ValueError) as error:
            raise ClusterError(f"{platform.node()}: {error}") from None
        self._scratch = RunFolder(Path(mkdtemp(prefix="headbench-")))
        self._display = Heard()
        self._session = Session(self.plan, self._scratch, None, self._display)
        self._process = uuid4().hex

    def close(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._scratch.path, ignore_errors=True)

    def carry_out(self, order: Order) -> Outcome:
        """Do the job; whatever goes wrong with what is measured is in the outcome."""
        session, job = self._session, order.job
        session.logbook.session, session.task_name = order.session, f"{order.number}."
        stopwatch = Listed(order.bounds, self.plan.device)
        inside = session.logbook.inside_seconds
        result: Result = "passed"
        reason = ""
        try:
            self._have_data(order)
            self._call(job, stopwatch)
        except pytest.skip.Exception as skipped:
            result, reason = "skipped", str(skipped)
        except (Exception, pytest.fail.Exception) as error:
            if isinstance(error, OSError) and error.errno in interrupts.FULL:
                raise ClusterError(
                    f"{platform.node()}: cannot write to {self._scratch.path} ({error.strerror}): "
                    "make room there, and resume the run"
                ) from None
            result, reason = "failed", _said(error)
        outcome = Outcome(
            result,
            reason,
            self._scratch.journal.entries(),
            dict(self._files()),
            stopwatch.kept,
            tuple(self._display.said),
            self._process,
            session.logbook.disturbance,
            session.logbook.inside_seconds - inside,
        )
        self._display.said.clear()
        shutil.rmtree(self._scratch.path)
        self._scratch.path.mkdir()
        return outcome

    def _call(self, job: Job, stopwatch: Stopwatch) -> None:
        """Call the benchmark as pytest would, with what its parameters ask for."""
        benchmark = items.benchmarks()[job.kind]
        with ExitStack() as stack:
            given: dict[str, Any] = {items.takes(benchmark): job.task}
            for name in inspect.signature(benchmark).parameters.keys() - given.keys():
                match name:
                    case "session":
                        given[name] = self._session
                    case "stopwatch":
                        given[name] = stopwatch
                    case _:
                        given[name] = stack.enter_context(self._fixture(name, job))
            benchmark(**given)

    def _fixture(self, name: str, job: Job) -> AbstractContextManager[Any]:
        from bench.bench_pipelines import builder
        from bench.bench_training import carrying_out

        if name == "built":
            return builder(self._session)
        assert name == "trainings", name
        assert isinstance(job.task, TrainingConfig)
        return carrying_out(self._session, [job.task])

    def _have_data(self, order: Order) -> None:
        """Read the data once, where a job needs it.

        Raises:
            ValueError: it is not the data that the run began with.
        """
        task = order.job.task
        fed = isinstance(task, Visit) and task.cell.scope == "pipeline"
        if self._session.dataset is not None or not (fed or isinstance(task, TrainingConfig)):
            return
        dataset = self.plan.load_dataset(order.missing)
        assert dataset is not None  # else there would be no such job
        # Stand-in images are drawn alike, but rounded as each processor does.
        if not dataset.stand_in and facts_of(dataset)["fingerprint"] != order.fingerprint:
            raise ValueError(f"other images in {self.plan.data} than the run began with")
        self._session.dataset = dataset

    def _files(self) -> list[tuple[str, bytes]]:
        root = self._scratch.path
        paths = [path for path in sorted(root.rglob("*")) if path.is_file()]
        names = {path: path.relative_to(root).as_posix() for path in paths}
        return [(names[p], p.read_bytes()) for p in paths if names[p] not in (JOURNAL, ATTEMPT)]


_worker: Worker | None = None
"""Of this process."""


def carry_out(order: Order) -> Outcome:
    """What Ray calls on a machine."""
    global _worker
    if _worker is None or _worker.plan != order.plan:
        if _worker is not None:
            _worker.close()
        _worker = Worker(order)
    return _worker.carry_out(order)


def look(
    device: str, threads: int, whole: bool, dtypes: Sequence[str] = ("float32",)
) -> dict[str, Any]:
    """Facts of this machine.

    Args:
        device: that is measured on.
        threads: of torch.
        whole: whether its limits are measured, too, which takes seconds.
        dtypes: of the cells that are held against them.
    """
    import torch

    torch.set_num_threads(threads)
    machine = identity.describe(device)
    if not whole:
        return {"machine": machine}
    machine |= limits.measure(device, machine, dtypes)
    return {"machine": machine, "harness_seconds": harness_seconds(timer_of(device))}


def _said(error: BaseException) -> str:
    """An error in a line, and below it where it came from if it is none that was foreseen."""
    if isinstance(error, pytest.fail.Exception):
        return str(error)
    return "".join(traceback.format_exception(error)).rstrip()


def anywhere(plan: Plan) -> Plan:
    """The plan with paths that hold wherever a process was started."""
    return plan if plan.data is None else replace(plan, data=str(Path(plan.data).resolve()))
