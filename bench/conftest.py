"""Lets pytest drive a run: its options, the live display, and the report at the end."""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, BinaryIO

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import interrupts, items, options, resume
from bench.cluster.nodes import ClusterError, Nodes, connected
from bench.cluster.sweep import Sweep, moved
from bench.cluster.worker import RESULTS
from bench.display import Display, real_console
from bench.items import has_task
from bench.logbook import facts_of
from bench.machine import heap
from bench.machine.clock import timer_of
from bench.measure.stopwatch import Bounds, Stopwatch
from bench.options import Plan
from bench.session import Session
from models.data import root
from models.dataset import DataError
from reports import terminal
from reports.results import ResultsError, RunFolder, folder_of
from reports.results.folder import create

SESSION = pytest.StashKey[Session]()
"""Where hooks find what is measured."""

PYTEST = pytest.StashKey[pytest.Session]()
"""Where the last hook, which is not given it, finds what holds the exit status."""
HELD = pytest.StashKey[BinaryIO]()
"""The lock on the run, for as long as the process lives."""

SWEEP = pytest.StashKey[Sweep]()
"""What hands out a run's tasks, where it is on a cluster."""

IDLE = pytest.StashKey[bool]()
"""There if the run is complete, so that nothing in its folder may change."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Sweep options, beside pytest's and pytest-benchmark's own."""
    options.add_to(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Leave out what pytest cannot show: a signal may strike where code has no line of its own."""
    excinfo.traceback = excinfo.traceback.filter(interrupts.has_line)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Open the run's folder, before pytest-benchmark asks where to write its JSON."""
    if config.option.help:
        return
    if config.option.benchmark_disable or config.option.benchmark_skip:
        raise pytest.UsageError("--benchmark-disable and --benchmark-skip leave nothing to measure")
    if config.option.benchmark_cprofile:
        raise pytest.UsageError("--benchmark-cprofile: see the traces of a run instead")
    options.check_benchmark(config.getoption)
    terminal.ready()
    signals = ExitStack()
    signals.enter_context(interrupts.like_ctrl_c())
    config.add_cleanup(signals.close)
    try:
        config.stash[SESSION] = session = open_session(config)
    except (ResultsError, DataError, heap.HeapError, ClusterError, OSError) as error:
        raise pytest.UsageError(terminal.printable(str(error))) from None
    measures = not config.option.collectonly and IDLE not in config.stash
    if config.option.benchmark_json is None and measures:
        config.option.benchmark_json = session.run.new_benchmark_json()
    if session.plan.device.startswith("cuda"):
        config.option.benchmark_timer = "bench.machine.clock.CudaInstant"
    config.option.no_header = True  # the report names the machine and all versions
    if config.option.tbstyle == "auto":
        config.option.tbstyle = "line"


def open_session(config: pytest.Config) -> Session:
    """A new run as the options ask, or the one to resume.

    The data is loaded first: that it is damaged should be known now, not after ten minutes.
    """
    display = Display(real_console())
    results = Path(config.getoption("results"))
    if resumed := config.getoption("resume"):
        return _resume(config, RunFolder(folder_of(resumed, results)), display)
    plan = options.plan(config.getoption)
    heap.choose(plan.heap)
    nodes = _nodes(config, plan)
    dataset = plan.load_dataset()
    # Listing the cells should leave nothing behind.
    parent = Path(mkdtemp()) if config.option.collectonly else results
    opened = create(parent, plan.name, datetime.now(UTC))
    _hold(config, opened, display)
    session = Session(plan, opened, dataset, display)
    session.logbook.open(session.todo.planned, dataset, here=nodes is None)
    if nodes is not None:
        _spread(session, config, nodes)
    _introduce(session, config)
    return session


def _nodes(config: pytest.Config, plan: Plan) -> Nodes | None:
    """The machines of the cluster that was asked for, until pytest ends; to list takes none."""
    where = config.getoption("cluster")
    if where is None or config.option.collectonly:
        return None
    stack = ExitStack()
    config.add_cleanup(stack.close)
    return stack.enter_context(connected(where, plan.device))


def _spread(session: Session, config: pytest.Config, nodes: Nodes) -> None:
    """Have the machines of a cluster carry out the run."""
    session.display.say("Looking at the machines of the cluster, each as soon as it is free.")
    config.stash[SWEEP] = sweep = Sweep(session, nodes)
    sweep.meet()
    session.display.say(f"Measuring on {', '.join(nodes.machines())}.")
    if (where := config.getoption("cluster")).local > 1:
        session.display.say(
            f"{where} is for trying out: nodes that share a machine disturb each other, as "
            "others_busy says of every cell.",
            style="bold yellow",
        )


def _resume(config: pytest.Config, run: RunFolder, display: Display) -> Session:
    """The session that takes up `run`; merely listing what is left changes nothing."""
    plan = resume.plan_of(run, config.getoption)
    heap.choose(plan.heap)
    clustered = config.getoption("cluster") is not None
    if not config.option.collectonly:
        resume.require_same_kind(run, run.read_facts(), clustered)
    if clustered:
        options.check_alone(config.getoption)
    if not config.option.collectonly:
        _hold(config, run, display)
    if data := config.getoption("data"):
        plan = replace(plan, data=str(root(data)))
    facts = run.read_facts()
    dataset = plan.load_dataset()
    if dataset is not None:
        resume.require_same_data(run, facts, facts_of(dataset))
    cut = facts.get("cut")
    if (minutes := config.getoption("minutes")) is not None:
        plan, cut = replace(plan, minutes=minutes or None), []
    nodes = _nodes(config, plan)
    elsewhere = moved(plan, run, dataset, nodes.machines()) if nodes is not None else {}
    cut = map(str, cut if isinstance(cut, list) else [])
    session = Session(plan, run, dataset, display, cut, elsewhere)
    left = session.todo.left_in_words
    state = f"with {left} done" if left else "complete"
    display.say(f"Resuming {run.path.name}, started {facts.get('started')}, {state}.")
    if facts.get("finished") and not left and session.todo.nothing_left:
        display.say("There is nothing left to measure.")
        config.stash[IDLE] = True
        return session
    if not config.option.collectonly:
        session.logbook.reopen(here=nodes is None)
    if nodes is not None:
        _spread(session, config, nodes)
    _introduce(session, config)
    return session


def _hold(config: pytest.Config, run: RunFolder, display: Display) -> None:
    """Keep other processes out of the run until this one ends."""
    if (held := run.hold()) is None:
        display.say(f"{run.path} cannot be locked: see that nothing else measures into it.")
    else:
        config.stash[HELD] = held


def _introduce(session: Session, config: pytest.Config) -> None:
    """Say where the results go and what is trained on."""
    display, dataset = session.display, session.dataset
    display.say(f"Results go to {session.run.path}")
    for line in () if dataset is None else dataset.account():
        display.say(line)
    if dataset is None and config.getoption("data"):
        display.say("--data is not read: this run trains nothing.")
    if dataset is not None and dataset.stand_in:
        display.say(
            f"Training uses generated stand-in images: {dataset.reason}. "
            "No accuracy of this run says anything about CIFAR-100.",
            style="bold yellow",
        )


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Session:
    """The run that is being made."""
    return request.config.stash[SESSION]


@pytest.fixture
def stopwatch(
    benchmark: BenchmarkFixture, session: Session, pytestconfig: pytest.Config
) -> Stopwatch:
    """What to time with, and how long."""
    return Stopwatch(benchmark, Bounds.of(pytestconfig), timer_of(session.plan.device))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Turn the plan into items; what a resumed run has already is left out."""
    items.parametrize(metafunc, metafunc.config.stash[SESSION].todo)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drop what pytest puts in the place of a benchmark that has nothing to do."""
    items[:] = filter(has_task, items)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the display, once it is known what there is to do."""
    shared = session.config.stash[SESSION]
    if reporter := session.config.pluginmanager.get_plugin("terminalreporter"):
        reporter.showfspath = False
    tasks = [(_kind(item), items.task_of(item)) for item in session.items]
    weights = [items.weight(task, shared.plan) for _, task in tasks]
    if not session.config.option.collectonly:
        bounds = Bounds.of(session.config)
        shared.begin(tasks, bounds.max_time)
        if (sweep := session.config.stash.get(SWEEP, None)) is not None:
            sweep.begin(tasks, bounds)
    shared.display.start(len(weights), sum(weights))


def _kind(item: pytest.Item) -> str:
    return items.kind_of(item.name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Say what runs."""
    session, task, kind = item.config.stash[SESSION], items.task_of(item), _kind(item)
    session.display.running(f"{kind} {items.label(task)}")
    begin = time.monotonic()
    result = yield
    session.agenda.done(kind, task, time.monotonic() - begin)
    session.display.done(items.weight(task, session.plan))
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """On a cluster, wait for the machine that carries out a benchmark instead of doing so."""
    if (sweep := pyfuncitem.config.stash.get(SWEEP, None)) is None:
        return None
    try:
        outcomes = sweep.outcomes(_kind(pyfuncitem), items.task_of(pyfuncitem))
    except (OSError, pytest.exit.Exception):
        raise  # a full disk, which is told of elsewhere
    except Exception as error:
        foreseen = isinstance(error, ClusterError)
        said = str(error) if foreseen else "".join(traceback.format_exception(error))
        pytest.exit(terminal.printable(said), returncode=int(pytest.ExitCode.INTERNAL_ERROR))
    stopwatch = pyfuncitem.funcargs.get("stopwatch")
    for params, timing in (one for outcome in outcomes for one in outcome.timings):
        assert isinstance(stopwatch, Stopwatch), "who times asks for it"
        stopwatch.keep(params, timing)
    reasons = {result: [o.reason for o in outcomes if o.result == result] for result in RESULTS}
    if failed := reasons["failed"]:
        pytest.fail("\n".join(failed), pytrace=False)
    if not reasons["passed"]:
        pytest.skip(reasons["skipped"][0])
    return True


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Keep pytest's dots out of the display; the outcomes still count."""
    if report.when == "call" or report.outcome != "passed":
        return report.outcome, "", ""
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """End the run where the disk is full: nothing that follows could be kept either."""
    try:
        return (yield)
    except OSError as error:
        if error.errno not in interrupts.FULL:
            raise
        session = item.config.stash[SESSION]
        pytest.exit(session.unwritten(error), returncode=int(pytest.ExitCode.INTERNAL_ERROR))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Take the display away, close the run's facts, and have pytest-benchmark write its JSON."""
    shared = session.config.stash[SESSION]
    session.config.stash[PYTEST] = session
    shared.display.stop()
    if not session.config.option.collectonly:
        with _kept(session):
            if (sweep := session.config.stash.get(SWEEP, None)) is not None:
                if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
                    sweep.finish()
                sweep.close()
            left = shared.left()
            if not left and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
                session.exitstatus = pytest.ExitCode.OK
            if shared.run.has_results and IDLE not in session.config.stash:
                shared.logbook.close(left, shared.cut)
    with _kept(session):
        yield


@contextmanager
def _kept(session: pytest.Session) -> Iterator[None]:
    """Say in a line what could not be written in this block, and let the exit status tell."""
    try:
        yield
    except OSError as error:
        shared = session.config.stash[SESSION]
        shared.display.say(shared.unwritten(error), style="bold red")
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Put the same facts into pytest-benchmark's JSON."""
    machine_info["headbench"] = config.stash[SESSION].run.read_facts().get("machine", {})


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_generate_json(benchmarks: list[Any]) -> None:
    """Leave out what was interrupted before its first round: it has no statistics to be written."""
    benchmarks[:] = filter(None, benchmarks)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Render the report of whatever was measured, as `tox -e report` would.

    A run that ended well, but whose report did not, has not ended well.
    """
    session = config.stash.get(SESSION, None)
    if session is None or config.option.collectonly or not session.run.has_results:
        return
    sys.stdout.flush()  # pytest's last lines come before the report's first
    command = [sys.executable, "-m", "reports", str(session.run.path)]
    try:
        rendered = subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        rendered = int(pytest.ExitCode.INTERRUPTED)
    if rendered and (asked := config.stash.get(PYTEST, None)) and not asked.exitstatus:
        asked.exitstatus = rendered
