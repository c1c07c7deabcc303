"""A run's folder, `results/<run>/`: made for it alone, found again, and what lies where in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from reports.results import lock, schema
from reports.results.fields import count, text
from reports.results.files import Reader, write_json
from reports.results.journal import Journal
from reports.results.traces import operators
from reports.results.training import Training


def file_name(name: str) -> str:
    """A head with its options as part of a file's name; `named` is the inverse."""
    return name.replace("/", "+")


def named(file_name: str) -> str:
    """The head that a file or folder is of."""
    return file_name.replace("+", "/")


AT = "@"
"""Between a run and one of the machines of the cluster that measured it."""


def split_machine(folder: Path) -> tuple[Path, str]:
    """`results/run@machine` -> the run's folder and the machine; no machine for a folder itself."""
    run, at, machine = folder.name.rpartition(AT)
    if at and machine and not folder.is_dir() and (whole := folder.with_name(run)).is_dir():
        return whole, machine
    return folder, ""


class ResultsError(Exception):
    """One line for the user: what is wrong, what was expected, what to do."""


@dataclass(frozen=True)
class RunFolder:
    """Writes a run, and reads what a run that goes on has to know of itself.

    `docs/results.md` says what is in it.
    """

    path: Path

    def hold(self) -> BinaryIO | None:
        """Have no other process measure into the folder until this one ends, however it ends.

        Returns:
            What has to stay open until then; None on a file system that knows no locks.

        Raises:
            ResultsError: another process does, or the folder cannot be written to.
        """
        try:
            return lock.hold(self.path / "running.lock")
        except lock.HeldError as holder:
            raise ResultsError(
                f"{self.path.name} is being measured by {holder}: let it end, or end it, "
                f"and then resume the run"
            ) from None
        except OSError as error:
            raise ResultsError(f"cannot write to {self.path} ({error.strerror})") from None

    @property
    def journal(self) -> Journal:
        """The measured cells."""
        return Journal(self.path / "journal.jsonl")

    @property
    def has_results(self) -> bool:
        """Whether anything has been measured or trained."""
        return (self.path / "journal.jsonl").exists() or any(self.path.glob("training/*.json"))

    def new_benchmark_json(self) -> Path:
        """Where pytest-benchmark can write its own output; a resumed run gets another file."""
        name, part = "pytest-benchmark.json", 1
        while (self.path / name).exists():
            part += 1
            name = f"pytest-benchmark-{part}.json"
        return self.path / name

    def training(self, name: str) -> Path:
        """The training record called `name`."""
        return self.path / "training" / f"{name}.json"

    def write_training(self, name: str, record: Training) -> None:
        """Keep the training record called `name`."""
        write_json(self.training(name), record.dump())

    def is_trained(self, name: str) -> bool:
        """Whether the training called `name` has ended well."""
        found = Reader(self.path).object(f"training/{name}.json", Training.load)
        return found is not None and found.status == "measured"

    def has_ended(self, name: str) -> bool:
        """Whether the training called `name` has ended, well or not, rather than been cut short."""
        found = Reader(self.path).object(f"training/{name}.json", Training.load)
        return found is not None and (
            found.status == "measured" or not self.checkpoint(name).exists()
        )

    def checkpoint(self, name: str) -> Path:
        """Where the training called `name` continues from after an interruption."""
        return self.path / "training" / f"{name}.checkpoint"

    def traces(self, head: str) -> Path:
        """TensorBoard's log folder of `head`."""
        return self.path / "traces" / file_name(head)

    def is_traced(self, head: str) -> bool:
        """Whether there is a trace of `head`, and whole."""
        for path in self.traces(head).glob("*.pt.trace.json"):
            try:
                if operators(path):
                    return True
            except ValueError:
                continue
        return False

    @property
    def attempts(self) -> Path:
        """Where a run on a cluster notes what each machine began, and how that ended."""
        return self.path / "attempts.jsonl"

    def write_attempt(self, what: str, attempts: int) -> None:
        """Note what is being measured, and for which time."""
        write_json(self.path / "running.json", {"what": what, "attempts": attempts})

    def read_attempt(self) -> dict[str, int]:
        """What was being measured when an earlier session was killed -> how often it was tried."""
        return Reader(self.path).object("running.json", _attempt) or {}

    def forget_attempt(self) -> None:
        """Nothing is being measured any more."""
        (self.path / "running.json").unlink(missing_ok=True)

    def read_facts(self) -> dict[str, Any]:
        """`run.json` as it was written.

        Raises:
            ResultsError: it cannot be read, or is of a schema unknown here.
        """
        reader = Reader(self.path)
        if facts := read_facts(reader):
            return facts
        raise ResultsError(f"{self.path} holds no readable run.json ({reader.warnings[0]})")

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Replace `run.json`."""
        mark = {"schema": schema.RUNS[-1], "run": self.path.name}
        write_json(self.path / "run.json", mark | {**facts} | mark, indent=1)


def read_facts(reader: Reader) -> dict[str, Any]:
    """`run.json`; empty where it cannot be read, which the reader warns of.

    Raises:
        ResultsError: it is of a schema unknown here.
    """
    facts = reader.object("run.json", dict)
    if facts is None:
        return {}
    try:
        schema.require(facts, schema.RUNS)
    except ValueError as error:
        raise ResultsError(
            f"{reader.folder / 'run.json'}: {error}: "
            "render it with the headbench version that measured it"
        ) from None
    return facts


def create(results: Path, sweep: str, now: datetime) -> RunFolder:
    """A new folder that no other run shares, named by the time and the sweep.

    Raises:
        ResultsError: `results` cannot be written to.
    """
    stem = f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{sweep}"
    for attempt in range(100):
        path = results / (f"{stem}-{attempt + 1}" if attempt else stem)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ResultsError(
                f"cannot write to {results} ({error.strerror}); choose another with --results"
            ) from error
        return RunFolder(path)
    raise ResultsError(f"cannot find a free name for the run in {results}")


def latest(results: Path) -> Path:
    """The run under `results` that was started last, by name where several were; resumed or not.

    Raises:
        ResultsError: there is none.
    """
    if folders := _runs(results):
        return max(folders, key=_started)
    raise ResultsError(f"no run under {results}/: measure one first with 'tox -e bench'")


def folder_of(run: str, results: Path) -> Path:
    """The folder that `run` means: itself a folder, the name of one under `results`, or 'latest'.

    With `@machine` behind it, that machine's part of a run on a cluster.

    Raises:
        ResultsError: there is no such folder.
    """
    if run == "latest":
        return latest(results)
    for folder in (Path(run), results / run):
        if split_machine(folder)[0].is_dir():
            return folder
    if run.startswith(f"latest{AT}"):
        newest = latest(results)
        return newest.with_name(run.replace("latest", newest.name, 1))
    known = ", ".join(folder.name for folder in _runs(results)) or "none"
    raise ResultsError(
        f"no run {run!r}: neither a folder nor the name of one under {results}/ (there: {known})"
    )


def _runs(results: Path) -> list[Path]:
    return [
        folder
        for folder in (sorted(results.iterdir()) if results.is_dir() else ())
        if (folder / "run.json").is_file() or (folder / "journal.jsonl").is_file()
    ]


def _started(folder: Path) -> tuple[str, str]:
    facts = Reader(folder).object("run.json", dict) or {}
    return str(facts.get("started", "")), folder.name


def _attempt(noted: Mapping[str, Any]) -> dict[str, int]:
    return {text(noted, "what"): count(noted, "attempts")}
