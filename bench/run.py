"""A run's folder: made once for itself alone, or opened again to be completed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.journal import Journal

SCHEMA = 1


class RunError(Exception):
    """One line for the user: what is wrong, what was expected, what to do."""


@dataclass(frozen=True)
class Run:
    """A folder `results/<run>/`; docs/results.md says what is in it."""

    path: Path

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

    def is_trained(self, name: str) -> bool:
        """Whether the training called `name` has ended well."""
        try:
            status: str = json.loads(self.training(name).read_text("utf-8"))["status"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return status == "measured"

    def checkpoint(self, name: str) -> Path:
        """Where the training called `name` continues from after an interruption."""
        return self.path / "training" / f"{name}.checkpoint"

    def traces(self, head: str) -> Path:
        """TensorBoard's log folder of `head`."""
        return self.path / "traces" / head

    def write_attempt(self, what: str, attempts: int) -> None:
        """Note what is being measured, and for which time."""
        content = json.dumps({"what": what, "attempts": attempts})
        (self.path / "running.json").write_text(content, "utf-8")

    def read_attempt(self) -> dict[str, int]:
        """What was being measured when an earlier session was killed -> how often it was tried."""
        try:
            noted = json.loads((self.path / "running.json").read_text("utf-8"))
            return {str(noted["what"]): int(noted["attempts"])}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def forget_attempt(self) -> None:
        """Nothing is being measured any more."""
        (self.path / "running.json").unlink(missing_ok=True)

    def read_facts(self) -> dict[str, Any]:
        """`run.json` as it was written."""
        try:
            found = json.loads((self.path / "run.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path} holds no readable run.json ({error})") from error
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise RunError(f"{self.path / 'run.json'} is not of schema {SCHEMA}")
        return found

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Replace `run.json`."""
        write_json(
            self.path / "run.json", {"schema": SCHEMA, "run": self.path.name} | facts, indent=1
        )


def create(results: Path, sweep: str, now: datetime) -> Run:
    """A new folder that no other run shares, named by the time and the sweep."""
    stem = f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{sweep}"
    for attempt in range(100):
        path = results / (f"{stem}-{attempt + 1}" if attempt else stem)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(
                f"cannot write to {results} ({error.strerror}); choose another with --results"
            ) from error
        return Run(path)
    raise RunError(f"cannot find a free name for the run in {results}")


def reopen(results: Path, name: str) -> Run:
    """The existing run called `name`, or the newest one if `name` is "latest"."""
    runs = sorted(path.parent for path in results.glob("*/run.json"))
    if name == "latest" and runs:
        return Run(max(runs, key=lambda path: (path / "run.json").stat().st_mtime))
    for path in (Path(name), results / name):
        if (path / "run.json").exists():
            return Run(path)
    known = ", ".join(path.name for path in runs) or "none"
    raise RunError(f"no run called {name!r} in {results}; there are: {known}")


def write_json(path: Path, content: dict[str, Any], indent: int | None = None) -> None:
    """Write `path` whole or not at all.

    Args:
        path: where to.
        content: of JSON's own types.
        indent: of a file that people read; without it, one line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(path.suffix + ".draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=indent, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
