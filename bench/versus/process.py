"""The near end of the pipe to a player: a process that plays the heads of one revision."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

SCRIPT = Path(__file__).with_name("player.py")

THREAD_COUNTS = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"
"""Environment variables that libraries read when they are loaded."""


class PlayerError(Exception):
    """A player's process ended."""


class CannotPlayError(Exception):
    """A player cannot build what it is asked for, and says why."""


class Revision(NamedTuple):
    """What plays: its name, and the folder with its files."""

    name: str
    folder: Path


class Player:
    """Speaks with a process for as long as it lives; see `player`."""

    def __init__(self, revision: Revision, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self.revision = revision
        self._process = process
        self._errors = errors

    def names(self) -> list[str]:
        """The heads that it has; to be asked for once, as the first thing."""
        found: list[str] = self._answer("starting")["names"]
        return found

    def build(self, cell: Mapping[str, Any]) -> float:
        """Build what is played next: seconds of a call of it.

        Raises:
            CannotPlayError: it cannot be built.
        """
        answer = self._ask(cell, f"building {cell['head']}")
        if "failed" in answer:
            raise CannotPlayError(answer["failed"])
        return float(answer["seconds"])

    def play(self, calls: int, lead: int) -> float:
        """Seconds of `calls` calls, after `lead` calls that do not count."""
        return float(self._ask({"calls": calls, "lead": lead}, "playing")["seconds"])

    def _ask(self, request: Mapping[str, Any], doing: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PlayerError(self._last_words(doing)) from None
        return self._answer(doing)

    def _answer(self, doing: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PlayerError(self._last_words(doing))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self, doing: str) -> str:
        status = self._process.wait()
        ended = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        self._errors.seek(0)
        said = [line for line in self._errors.read().splitlines() if line.strip()]
        why = f": {said[-1].strip()}" if said else ""
        return f"{self.revision.name}: its process ended with {ended} while {doing}{why}"


@contextmanager
def player(revision: Revision, threads: int, core: int | None) -> Iterator[Player]:
    """A process of its own for one revision, until the `with` block ends.

    Args:
        revision: what it plays.
        threads: of the CPU.
        core: the only core to run on, or None for any.
    """
    placed = [] if core is None else [str(core)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            # -P: the script's own folder is no place to import from.
            [sys.executable, "-P", str(SCRIPT), str(revision.folder), str(threads), *placed],
            cwd=revision.folder,
            env=os.environ | dict.fromkeys(THREAD_COUNTS, str(threads)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is the driver's to handle
        ) as process,
    ):
        try:
            yield Player(revision, process, errors)
        finally:
            process.kill()
