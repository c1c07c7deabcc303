"""Lets pytest drive a run: its options, the live display, and the report at the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from bench import options
from bench.display import Display, real_console
from bench.items import items
from bench.session import Session
from models.data import DataError
from reports.results import ResultsError, RunFolder, locate
from reports.results.folder import create

SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Sweep options, beside pytest's and pytest-benchmark's own."""
    options.add_to(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Open the run's folder, before pytest-benchmark asks where to write its JSON."""
    if config.option.help:
        return
    if config.option.benchmark_disable or config.option.benchmark_skip:
        raise pytest.UsageError("--benchmark-disable and --benchmark-skip leave nothing to measure")
    try:
        config.stash[SESSION] = session = open_session(config)
    except (ResultsError, DataError) as error:
        raise pytest.UsageError(str(error)) from error
    if config.option.benchmark_json is None:
        config.option.benchmark_json = session.run.new_benchmark_json()
    if session.plan.device.startswith("cuda"):
        config.option.benchmark_timer = "bench.measure.timing.CudaInstant"
    config.option.no_header = True  # the report names the machine and all versions
    if config.option.tbstyle == "auto":
        config.option.tbstyle = "line"


def open_session(config: pytest.Config) -> Session:
    """A new run as the options ask, or the one to resume.

    The data is loaded first: that it is damaged should be known now, not after ten minutes.
    """
    display = Display(real_console())
    results = Path(config.getoption("results"))
    resumed = config.getoption("resume")
    if resumed:
        opened = RunFolder(locate(resumed, results))
        plan = options.Plan.from_json(opened.read_facts()["options"])
    else:
        plan = options.plan(config.getoption)
    dataset = plan.load_dataset()
    if not resumed:
        # Listing the cells should leave nothing behind.
        parent = Path(mkdtemp()) if config.option.collectonly else results
        opened = create(parent, plan.name, datetime.now(UTC))
    session = Session(plan, opened, dataset, display)
    if not resumed:
        session.record_start()
    display.say(f"Results go to {opened.path}")
    if dataset is not None and dataset.stand_in:
        display.say(
            f"Training uses generated stand-in images: {dataset.reason}. "
            "No accuracy of this run says anything about CIFAR-100.",
            style="bold yellow",
        )
    return session


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Session:
    """The run that is being made."""
    return request.config.stash[SESSION]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Turn the plan into items; what a resumed run has already is left out."""
    session = metafunc.config.stash[SESSION]
    names, rows = items(metafunc.function, session)
    metafunc.parametrize(names, rows, ids=["-".join(map(str, row)) for row in rows])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drop what pytest puts in the place of a benchmark that has nothing to do."""
    items[:] = [item for item in items if not item.name.endswith("[NOTSET]")]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the display, once it is known what there is to do."""
    shared = session.config.stash[SESSION]
    if reporter := session.config.pluginmanager.get_plugin("terminalreporter"):
        reporter.showfspath = False
    shared.display.start(len(session.items), sum(map(_weight, session.items)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Say what runs."""
    display = item.config.stash[SESSION].display
    display.running(_label(item))
    result = yield
    display.done(_weight(item))
    return result


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Keep pytest's dots out of the display; the outcomes still count."""
    if report.when == "call" or report.outcome != "passed":
        return report.outcome, "", ""
    return None


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Take the display away and close the run's facts."""
    shared = session.config.stash[SESSION]
    shared.display.stop()
    if shared.run.has_results:
        shared.record_end(complete=exitstatus != pytest.ExitCode.INTERRUPTED)


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Put the same facts into pytest-benchmark's JSON."""
    machine_info["headbench"] = config.stash[SESSION].run.read_facts()["machine"]


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Render the report of whatever was measured, as `tox -e report` would."""
    session = config.stash.get(SESSION, None)
    if session is None or not session.run.has_results:
        return
    sys.stdout.flush()  # pytest's last lines come before the report's first
    subprocess.run([sys.executable, "-m", "reports", str(session.run.path)], check=False)


def _label(item: pytest.Item) -> str:
    """The item in words."""
    kind = item.name.partition("[")[0].removeprefix("test_")
    parameters = _parameters(item)
    words = [
        kind,
        *(
            str(parameters[name])
            for name in ("scope", "head", "pipeline", "variant", "phase")
            if name in parameters
        ),
    ]
    if "classes" in parameters:
        words.append(f"n={parameters['classes']} batch={parameters['batch']}")
    if "pass_index" in parameters:
        words.append(f"pass {parameters['pass_index'] + 1}")
    return " ".join(words)


def _weight(item: pytest.Item) -> float:
    """Rough seconds of an item on a small CPU: how much of the time left it stands for."""
    parameters = _parameters(item)
    plan = item.config.stash[SESSION].plan
    if "classes" in parameters:
        scores: float = parameters["classes"] * parameters["batch"]
        return 0.1 + 2e-10 * scores * plan.sweep.features
    return plan.training_weight if "seed" in parameters else 1.0


def _parameters(item: pytest.Item) -> dict[str, Any]:
    parameters: dict[str, Any] = item.callspec.params  # type: ignore[attr-defined]
    return parameters
