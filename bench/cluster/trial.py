"""Shows on this machine that a run on a cluster loses nothing, doubles nothing, and is faster.

    python -m bench.cluster.trial kills    # workers are killed at 20 random moments
    python -m bench.cluster.trial driver   # so is whoever hands out the work, and the run goes on
    python -m bench.cluster.trial study    # 16 short trainings on one node and on two

Each starts small runs in a folder of its own, as a user would, and compares what they wrote.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psutil

from reports import terminal
from reports.arguments import MOST_SEED, Parser, number, whole
from reports.results.files import Reader

ROOT = Path(__file__).parents[2]

SMALL = (
    *("--sweep", "quick", "--heads", "softmax,hierarchical", "--classes", "4,300"),
    *("--batches", "4,8", "--model-classes", "4", "--train-images", "300"),
    *("--threads", "1", "--benchmark-max-time", "0.02"),
)
STUDY = (
    *("--sweep", "study", "--train", "softmax,gumbel", "--seeds", "8", "--epochs", "1"),
    *("--threads", "1", "-k", "test_training"),
)
NODES = ("--cluster", "local:2")

MOST_SHARE = 0.6
"""Of the time on one node that two may take."""

TASK = "ray::headbench"
"""What Ray calls a process that works for us."""


class Run:
    """A run in a process of its own.

    Args:
        folder: to start it in; its results are the newest there.
        options: of the command line.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        command = (sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"))
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._folder = folder
        self._log = (folder / "log.txt").open("ab")
        self._process = subprocess.Popen(
            (*command, str(ROOT / "bench"), *options),
            cwd=folder,
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def path(self) -> Path:
        """The run's folder; none that is there until it has begun."""
        results = self._folder / "results"
        return max(results.iterdir(), default=results) if results.exists() else results

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def end(self) -> None:
        """Wait until it has ended, well."""
        if self._process.wait():
            raise SystemExit(f"a run failed: see {self._log.name}")

    def kill(self) -> None:
        """End it at once, and wait until nothing of it is left."""
        started = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        psutil.wait_procs(started, timeout=60)

    def workers(self) -> list[psutil.Process]:
        """The processes that carry out a job now."""
        found = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            try:
                if process.cmdline()[:1] == [TASK]:
                    found.append(process)
            except psutil.Error:  # it has ended meanwhile
                continue
        return found


def measured(run: Path) -> Counter[tuple[str, str, int]]:
    """Kind, cell and pass -> how many lines have figures of it; trainings are there, too."""
    found: Counter[tuple[str, str, int]] = Counter()
    for line in lines(run / "journal.jsonl"):
        if line["status"] == "measured":
            found[line["kind"], json.dumps(line["cell"], sort_keys=True), line["pass"]] += 1
    for path in sorted((run / "training").glob("*.json")):
        record = json.loads(path.read_text())
        found["training", path.stem, record["seed"]] += record["status"] == "measured"
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    """Those of a file of JSON lines."""
    return Reader(path.parent).lines(path.name, dict) if path.exists() else []


def lost(run: Path) -> int:
    """How many attempts came to nothing."""
    return sum(line["event"] == "lost" for line in lines(run / "attempts.jsonl"))


def compare(run: Path, alone: Counter[tuple[str, str, int]]) -> bool:
    """Print whether a run has what one on a single machine has, each once."""
    found = measured(run)
    missing, strange = alone.keys() - found.keys(), found.keys() - alone.keys()
    doubled = sum(count > 1 for count in found.values())
    print(
        f"{run.name}: {len(found)} of {len(alone)} cells and trainings, {len(missing)} missing, "
        f"{len(strange)} strange, {doubled} doubled; {lost(run)} attempts lost",
        flush=True,
    )
    return found == alone and not doubled


def on_one(folder: Path) -> Path:
    """A run without a cluster."""
    run = Run(folder, *SMALL, "--minutes", "none")
    run.end()
    return run.path


def kills(folder: Path, against: Path | None, times: int, pause: float, seed: int) -> bool:
    """Kill a worker at so many random moments, in as many runs as that takes.

    Each comes some time after a line has been written since the one before: processes that are
    killed as they start, again and again, would show how patient the run is and nothing else.
    """
    draw, well = random.Random(seed), True
    alone = measured(against or on_one(folder))
    while times:
        run, before = Run(folder, *SMALL, *NODES), 0
        while run.goes_on:
            time.sleep(draw.expovariate(1 / pause))
            there = len(lines(run.path / "journal.jsonl"))
            if times and there > before and (workers := run.workers()):
                draw.choice(workers).send_signal(signal.SIGKILL)
                times, before = times - 1, there
        run.end()
        well &= compare(run.path, alone)
    return well


def driver(folder: Path, against: Path | None, times: int, pause: float, seed: int) -> bool:
    """Kill the process that hands out the work at so many random moments, and resume the run."""
    draw = random.Random(seed)
    alone = measured(against or on_one(folder))
    run = Run(folder, *SMALL, *NODES)
    for _ in range(times):
        before = len(lines(run.path / "journal.jsonl"))
        # The start takes its time, and there is nothing in it to lose.
        while run.goes_on and len(lines(run.path / "journal.jsonl")) <= before:
            time.sleep(0.1)
        time.sleep(draw.expovariate(1 / pause))
        if not run.goes_on:
            break
        run.kill()
        print(f"killed with {len(lines(run.path / 'journal.jsonl'))} lines", flush=True)
        run = Run(folder, *NODES, "--resume", "latest")
    run.end()
    return compare(run.path, alone)


def study(folder: Path, images: int) -> bool:
    """Time the trainings of the study on one node and on two."""
    seconds = {}
    for nodes in (1, 2):
        run = Run(folder, *STUDY, "--train-images", str(images), "--cluster", f"local:{nodes}")
        run.end()
        seconds[nodes] = spent(run.path)
        trained = sum(kind == "training" for kind, *_ in measured(run.path).elements())
        print(f"{nodes} node(s): {trained} trainings in {seconds[nodes]:.1f} s", flush=True)
    share = seconds[2] / seconds[1]
    print(f"two nodes take {share:.2f} of the time of one; at most {MOST_SHARE} is asked for")
    return share <= MOST_SHARE


def spent(run: Path) -> float:
    """Seconds from the first beginning of a job to the last end."""
    at = [
        datetime.fromisoformat(line["written"]).timestamp()
        for line in lines(run / "attempts.jsonl")
    ]
    return max(at) - min(at)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; the exit status is 1 where something was lost, doubled or slow."""
    parser = Parser(prog="python -m bench.cluster.trial", description=__doc__)
    parser.add_argument("what", choices=("kills", "driver", "study"))
    parser.add_argument("--times", type=whole(1, 1_000), help="kills (20 of workers, 3 of drivers)")
    parser.add_argument("--pause", type=number(0.01, 600), default=2.0, help="mean seconds (2)")
    # Reading them takes each node some seconds, which many images make little of.
    parser.add_argument("--images", type=whole(100, 50_000), default=50_000, help="of a training")
    parser.add_argument("--seed", type=whole(0, MOST_SEED), default=0, help="of the moments (0)")
    parser.add_argument("--against", type=Path, help="an earlier trial's run on one machine")
    parser.add_argument("--folder", type=Path, help="to work in (a new one in the system's)")
    asked = parser.parse_args(arguments)
    folder = asked.folder or Path(mkdtemp(prefix="headbench-trial-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"working in {folder}", flush=True)
    match asked.what:
        case "kills":
            well = kills(folder, asked.against, asked.times or 20, asked.pause, asked.seed)
        case "driver":
            well = driver(folder, asked.against, asked.times or 3, asked.pause, asked.seed)
        case _:
            well = study(folder, asked.images)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(terminal.command(main))
