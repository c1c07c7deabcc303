"""headbench started as a user starts it, in a folder of the test's own, without data or network."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.machine import identity, limits

ROOT = Path(__file__).parents[2]
SETTINGS = str(ROOT / "pyproject.toml")

TINY = (
    *("--sweep", "quick", "--heads", "softmax,hierarchical", "--classes", "4,300"),
    # A race of searches looks at a thousand samples: in few batches.
    *("--batches", "32", "--model-classes", "4", "--train-images", "300", "--threads", "1"),
    "--benchmark-max-time=0.005",
)

OFFLINE = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
"""Nothing listens there, so that a download fails at once, on any machine."""


OWN = ("-p", "no:hypothesispytest", "-p", "no:xdist")
"""Where headbench is installed alone, its pytest has none of the plugins of these tests."""


def command(arguments):
    return "-m", "pytest", *OWN, "-c", SETTINGS, str(ROOT / "bench"), *arguments


def environment():
    return {**os.environ, **OFFLINE, "CIFAR100_ROOT": "", "PYTHONPATH": str(ROOT)}


class Headbench:
    """The command line in `folder`, and the one run that it made there."""

    def __init__(self, folder, warm):
        self.folder, self._warm = folder, warm

    def start(self, *arguments):
        """A process that goes on by itself."""
        return self._warm.start(*command(arguments), cwd=self.folder, env=environment())

    def run(self, *arguments):
        """Exit status, standard output and standard error of a finished process."""
        process = self.start(*arguments)
        output, errors = process.communicate()
        return process.returncode, output, errors

    def start_cold(self, *arguments):
        """A process of an interpreter that has imported nothing, as are those that it starts."""
        return subprocess.Popen(
            [sys.executable, *command(arguments)],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Tests in the background of a script ignore Ctrl-C, and so would all that they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run_cold(self, *arguments):
        """As `run`, likewise."""
        process = self.start_cold(*arguments)
        output, errors = process.communicate()
        return process.returncode, output, errors

    @property
    def path(self):
        """The only run's folder."""
        (path,) = (self.folder / "results").iterdir()
        return path

    def facts(self):
        return json.loads((self.path / "run.json").read_text())

    def journal(self):
        return [json.loads(line) for line in (self.path / "journal.jsonl").read_text().splitlines()]

    def training(self, head):
        return json.loads((self.path / "training" / f"{head}-seed0.json").read_text())


@pytest.fixture
def headbench(tmp_path, warm):
    return Headbench(tmp_path, warm)


@pytest.fixture(scope="session")
def finished(common_path, warm):
    """One finished tiny run: the command line, exit status, output, errors."""
    headbench, said = Headbench(common_path / "finished", warm), common_path / "finished.json"
    with (common_path / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            headbench.folder.mkdir()
            said.write_text(json.dumps(headbench.run(*TINY)))
    return headbench, *json.loads(said.read_text())


@pytest.fixture(scope="session")
def tiny():
    """Options of a run that takes seconds."""
    return TINY


@pytest.fixture(scope="session")
def looked():
    """What this machine is and how fast, as a run finds out at its start."""
    machine = identity.describe("cpu")
    return machine, limits.measure("cpu", machine)


@pytest.fixture
def known_machine(looked, monkeypatch):
    """Sessions of this process need not find that out again each."""
    machine, rates = looked
    monkeypatch.setattr(identity, "describe", lambda device: dict(machine))
    monkeypatch.setattr(limits, "measure", lambda device, machine, dtypes: dict(rates))
