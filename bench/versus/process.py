"""The near end of the pipes to players: processes that play the heads of one revision each.

Where it can be, they are forked from one nest; elsewhere each is started afresh.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

SCRIPT, NEST = (Path(__file__).with_name(name) for name in ("player.py", "nest.py"))

THREAD_COUNTS = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"
"""Environment variables that libraries read when they are loaded."""

KEPT_HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""Environment variables that make glibc keep what is freed. Whether it goes back to the system, and
is faulted in again at the next call, depends on what else lies on the heap: of all that differs
between two processes with the same code, that is the most."""

FORKS = hasattr(os, "fork") and sys.platform != "darwin"
"""Windows cannot fork, and macOS's own libraries may crash after it."""


class PlayerError(Exception):
    """A player's process ended."""


class CannotPlayError(Exception):
    """A player cannot build what it is asked for, and says why."""


class Revision(NamedTuple):
    """What plays: its name, and the folder with its files."""

    name: str
    folder: Path


class Player:
    """Speaks with a process for as long as it lives; see `nest`.

    Args:
        revision: what it plays.
        requests: its standard input, unbuffered.
        answers: its standard output.
        errors: what it says on standard error.
        end: sees to it that it has ended; its exit status, minus the signal that has ended it.
    """

    def __init__(
        self,
        revision: Revision,
        requests: IO[bytes],
        answers: IO[str],
        errors: IO[str],
        end: Callable[[], int],
    ) -> None:
        self.revision = revision
        self._requests, self._answers, self._errors, self._end = requests, answers, errors, end
        self._doing = "starting"

    def names(self) -> list[str]:
        """The heads that it has; to be asked for once, as the first thing."""
        found: list[str] = self._answer()["names"]
        return found

    def build(self, cell: Mapping[str, Any]) -> float:
        """Build what is played next: seconds of a call of it.

        Raises:
            CannotPlayError: it cannot be built.
        """
        self.ask_for(cell)
        return self.built()

    def ask_for(self, cell: Mapping[str, Any]) -> None:
        """Have it build that, and do not wait."""
        self._ask(cell, f"building {cell['head']}")

    def built(self) -> float:
        """Wait for what was asked for; as `build`."""
        answer = self._answer()
        if "failed" in answer:
            raise CannotPlayError(answer["failed"])
        return float(answer["seconds"])

    def play(self, calls: int, lead: int) -> float:
        """Seconds of `calls` calls, after `lead` calls that do not count."""
        self._ask({"calls": calls, "lead": lead}, "playing")
        return float(self._answer()["seconds"])

    def _ask(self, request: Mapping[str, Any], doing: str) -> None:
        self._doing = doing
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise PlayerError(self._last_words()) from None

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise PlayerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        ended, said = _ending(self._end()), _last_line(self._errors)
        return f"{self.revision.name}: its process ended with {ended} while {self._doing}{said}"


class Starter(Protocol):
    """Starts players' processes, and ends them."""

    def start(self, arguments: Sequence[str], streams: Sequence[int]) -> int:
        """Start one on these standard streams; the number that it is called by from now on.

        Args:
            arguments: of `player.py`; the first is the folder, where it is started.
            streams: descriptors of standard input, output and error.
        """

    def end(self, number: int) -> int:
        """Kill it, unless it has ended; its exit status, minus the signal that has ended it."""


class Fresh:
    """A `Starter` of processes that load everything by themselves."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, arguments: Sequence[str], streams: Sequence[int]) -> int:
        """See `Starter`."""
        command = _python(SCRIPT, *arguments)
        options: Any = dict(zip(("stdin", "stdout", "stderr"), streams, strict=True))
        options |= {"cwd": arguments[0], "env": self._environment, "start_new_session": True}
        self._processes.append(subprocess.Popen(command, **options))
        return len(self._processes) - 1

    def end(self, number: int) -> int:
        """See `Starter`."""
        self._processes[number].kill()
        return self._processes[number].wait()


class Forked:
    """A `Starter` that has them forked by a nest; see `nest.py`.

    Raises:
        ConnectionError: the nest has ended.
    """

    def __init__(self, requests: socket.socket) -> None:
        self._requests, self._numbers = requests, count()

    def start(self, arguments: Sequence[str], streams: Sequence[int]) -> int:
        """See `Starter`."""
        number = next(self._numbers)
        message = json.dumps([number, *arguments]).encode()
        socket.send_fds(self._requests, [message], streams)
        return number

    def end(self, number: int) -> int:
        """See `Starter`."""
        self._requests.send(json.dumps([number]).encode())
        if not (answer := self._requests.recv(64)):
            raise ConnectionResetError
        return int(answer)


Start = Callable[[Revision, int | None], AbstractContextManager[Player]]
"""What starts a player of a revision that runs on one core alone, or, given None, on any."""


@contextmanager
def nest(threads: int) -> Iterator[Start]:
    """What starts players of so many CPU threads; all have ended when the `with` block ends.

    Raises:
        PlayerError: what they are forked from has ended.
    """
    # Ctrl-C is the driver's to handle, so whatever is started has a session of its own.
    environment = os.environ | dict.fromkeys(THREAD_COUNTS, str(threads)) | KEPT_HEAP
    if not FORKS:
        yield partial(_player, Fresh(environment), threads)
        return
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    options: Any = {"env": environment, "stdin": far, "start_new_session": True}
    with (
        _text_file() as errors,
        near,
        subprocess.Popen(
            _python(NEST), **options, stdout=subprocess.DEVNULL, stderr=errors
        ) as process,
    ):
        far.close()
        try:
            yield partial(_player, Forked(near), threads)
        except ConnectionError:
            near.close()
            ended = _ending(process.wait())
            said = _last_line(errors)
            raise PlayerError(f"the nest of all players ended with {ended}{said}") from None
        finally:
            near.close()  # which ends the nest, and that all players


@contextmanager
def _player(
    starter: Starter, threads: int, revision: Revision, core: int | None
) -> Iterator[Player]:
    """A player until the `with` block ends."""
    placed = [] if core is None else [str(core)]
    (requests, to_requests), (from_answers, answers) = os.pipe(), os.pipe()
    with (
        os.fdopen(to_requests, "wb", buffering=0) as near_requests,
        os.fdopen(from_answers, encoding="utf-8") as near_answers,
        _text_file() as errors,
    ):
        try:
            number = starter.start(
                [str(revision.folder), str(threads), *placed],
                [requests, answers, errors.fileno()],
            )
        finally:
            os.close(requests)
            os.close(answers)
        end = partial(starter.end, number)
        try:
            yield Player(revision, near_requests, near_answers, errors, end)
        finally:
            end()


def _python(script: Path, *arguments: str) -> list[str]:
    """A command; -P: the script's own folder is no place to import from."""
    return [sys.executable, "-P", str(script), *arguments]


def _text_file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def _ending(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _last_line(errors: IO[str]) -> str:
    """The last line that was said, after a colon; empty if none was."""
    errors.seek(0)
    said = [line for line in errors.read().splitlines() if line.strip()]
    return f": {said[-1].strip()}" if said else ""
