"""Whatever goes wrong: the run goes on or stops with one clear line, the journal stays readable."""

import errno
import itertools
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bench import conftest, interrupts
from bench.cells import SWEEPS, Visit
from bench.measure import memory
from bench.options import Plan
from bench.session import ATTEMPTS, Session
from reports.results import Cell, RunFolder

CELL = Cell("isolated", "softmax", "train", classes=8, batch=2, features=4)
VISIT = Visit(CELL, 0)
FIGURES = {"seconds": [1.0], "iterations": 1, "warmup_seconds": []}


class Lines:
    """A display that remembers."""

    def __init__(self):
        self.said = []

    def say(self, line, style=""):
        self.said.append(line)


def open_session(path):
    sweep = replace(SWEEPS["quick"], heads=("softmax",), classes=(8,), batches=(2,), trained=())
    plan = Plan("quick", sweep, seed=0, device="cpu", threads=1, data="")
    session = Session(plan, RunFolder(path), None, Lines())
    session.logbook.open(session.todo.planned, None)
    return session


@pytest.fixture
def session(tmp_path, known_machine):
    threads = torch.get_num_threads()
    yield open_session(tmp_path)
    torch.set_num_threads(threads)


def statuses(session):
    return [(entry.status, entry.reason) for entry in session.run.journal.entries()]


def test_a_head_that_raises_is_recorded_and_the_next_cell_is_measured(session):
    with pytest.raises(ZeroDivisionError), session.entry("time", VISIT):
        raise ZeroDivisionError("no\nsecond line")
    with session.entry("time", Visit(CELL, 1)) as figures:
        figures |= FIGURES
    assert statuses(session) == [("failed", "ZeroDivisionError: no"), ("measured", "")]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError("no"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_skips_the_cell(session, error):
    with pytest.raises(pytest.skip.Exception), session.entry("memory", VISIT):
        raise error
    assert [status for status, _ in statuses(session)] == ["out-of-memory"]


def test_a_cell_that_cannot_fit_is_skipped_with_the_reason(session, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 100)
    with pytest.raises(pytest.skip.Exception), session.entry("time", VISIT):
        session.subjects.of(CELL)
    ((status, reason),) = statuses(session)
    assert status == "skipped"
    assert "GiB are free on cpu" in reason


def test_an_interrupted_cell_leaves_no_entry(session):
    with pytest.raises(KeyboardInterrupt), session.entry("time", VISIT):
        raise KeyboardInterrupt
    assert statuses(session) == []


def test_a_full_disk_stops_the_run_with_the_line_that_resumes_it(session, monkeypatch):
    with session.entry("time", VISIT) as figures:
        figures |= FIGURES

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with (
        pytest.raises(pytest.exit.Exception, match=r"No space left.*--resume") as stopped,
        session.entry("time", Visit(CELL, 1)) as figures,
    ):
        figures |= FIGURES
    assert "\n" not in str(stopped.value)
    assert statuses(session)[0] == ("measured", "")


@pytest.fixture
def hooked(session):
    """What pytest hands to the hooks of this session."""
    session.display.stop = lambda: None
    config = SimpleNamespace(
        stash={conftest.SESSION: session}, option=SimpleNamespace(collectonly=False)
    )
    held = SimpleNamespace(config=config, exitstatus=0)
    with session.entry("time", VISIT) as figures:
        figures |= FIGURES
    return held


@pytest.mark.parametrize("number", sorted(interrupts.FULL))
def test_whatever_meets_a_full_disk_ends_the_run_with_the_line_that_resumes_it(hooked, number):
    calling = conftest.pytest_runtest_call(hooked)  # a training's record, a checkpoint, a trace
    next(calling)
    with pytest.raises(pytest.exit.Exception, match=r"cannot write .*--resume") as stopped:
        calling.throw(OSError(number, os.strerror(number), "a file"))
    assert stopped.value.returncode == pytest.ExitCode.INTERNAL_ERROR
    assert "\n" not in str(stopped.value)


def test_another_error_of_a_benchmark_stays_its_own(hooked):
    calling = conftest.pytest_runtest_call(hooked)
    next(calling)
    with pytest.raises(FileNotFoundError):
        calling.throw(FileNotFoundError(errno.ENOENT, "no"))


def test_a_full_disk_at_the_very_end_is_a_line_and_an_exit_status(hooked, session, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    finishing = conftest.pytest_sessionfinish(hooked, pytest.ExitCode.OK)
    next(finishing)  # run.json could not be written
    with pytest.raises(StopIteration):
        finishing.throw(OSError(errno.ENOSPC, "No space left on device"))  # pytest-benchmark's JSON
    assert hooked.exitstatus == pytest.ExitCode.INTERNAL_ERROR
    said = [line for line in session.display.said if "cannot write" in line]
    assert len(said) == 2
    assert all("--resume" in line and "\n" not in line for line in said)
    assert session.run.read_facts()["finished"] is None


@pytest.mark.parametrize("status", [pytest.ExitCode.OK, pytest.ExitCode.INTERRUPTED])
@pytest.mark.parametrize(("left", "finished"), [("", True), ("1 of 2 cells", False)])
def test_a_run_is_finished_when_nothing_is_left_however_it_ended(
    hooked, session, monkeypatch, status, left, finished
):
    monkeypatch.setattr(session, "left", lambda: left)
    finishing = conftest.pytest_sessionfinish(hooked, status)
    next(finishing)
    assert bool(session.run.read_facts()["finished"]) is finished


def test_nothing_to_note_an_attempt_with_ends_the_run(session, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(session.run), "write_attempt", refuse)
    with (
        pytest.raises(pytest.exit.Exception, match=r"No space left.*--resume"),
        session.entry("time", VISIT),
    ):
        pytest.fail("a cell was measured")
    assert statuses(session) == []


def test_a_cell_that_kills_the_process_is_given_up_after_some_attempts(tmp_path, session):
    for attempt in itertools.count(1):
        resumed = open_session(tmp_path)
        context = resumed.entry("time", VISIT)
        if attempt > ATTEMPTS:
            break
        context.__enter__()  # and no exit: the process is gone
    with pytest.raises(Exception, match=rf"killed {ATTEMPTS} times"):
        context.__enter__()
    ((status, reason),) = statuses(resumed)
    assert status == "failed"
    assert "ran out of memory" in reason


def test_a_kill_during_one_cell_does_not_count_against_another(tmp_path, session):
    session.entry("time", VISIT).__enter__()
    resumed = open_session(tmp_path)
    with resumed.entry("time", Visit(CELL, 1)) as figures:
        figures |= FIGURES
    assert statuses(resumed) == [("measured", "")]


def test_an_incomplete_run_ends_with_the_line_that_resumes_it(session):
    session.logbook.close("1 of 2 cells")
    assert session.run.read_facts()["finished"] is None
    assert any(f"--resume {session.run.path.name}" in line for line in session.display.said)


def test_a_second_session_adds_to_the_time_of_the_first(tmp_path, session):
    with session.logbook.watching() as stretch:
        stretch.inside_seconds = 2.0
    session.logbook.close("1 of 2 cells")
    resumed = Session(session.plan, session.run, None, Lines())
    with resumed.logbook.watching() as stretch:
        stretch.inside_seconds = 3.0
    resumed.logbook.close("")
    assert resumed.run.read_facts()["measured_seconds"] == 5.0
