"""Tasks in processes of their own, several at once; one that crashes takes no other with it."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

_CONTEXT = multiprocessing.get_context("spawn")
"""Forking would copy torch's locks and thread pools in whatever state they are."""

Task = TypeVar("Task")
Message = TypeVar("Message")
Result = TypeVar("Result")

Tell = Callable[[Message], None]
"""Sends a message from a task on its way."""

Work = Callable[[Task, Tell[Message]], Result]
"""Carries out a task."""


class CrashedError(Exception):
    """A task's process ended before the task did."""


@dataclass(eq=False)
class _Worker(Generic[Task, Result]):
    """A process, and what it works on now."""

    process: SpawnProcess
    connection: Connection[Any, Any]
    busy: tuple[Task, Future[Result]] | None = None


class Pool(Generic[Task, Message, Result]):
    """Carries out tasks in at most `jobs` processes, which are started when they are needed.

    It is driven by whoever waits for a result: no thread of its own, so messages arrive between
    two lines of the caller's. Tasks begin in the order in which they were submitted. Ctrl-C
    reaches the caller only; the processes end when the pool is closed.

    Args:
        jobs: processes, at least 1.
        prepare: called once in each process; gives the function that carries out its tasks. Sent
            by pickle, as are tasks, messages and results.
        listen: called with a task and each message from it.
    """

    def __init__(
        self,
        jobs: int,
        prepare: Callable[[], Work[Task, Message, Result]],
        listen: Callable[[Task, Message], None],
    ) -> None:
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        self._jobs = jobs
        self._prepare = prepare
        self._listen = listen
        self._waiting: deque[tuple[Task, Future[Result]]] = deque()
        self._workers: list[_Worker[Task, Result]] = []

    def submit(self, task: Task) -> Future[Result]:
        """Line up `task`; its future is done once somebody has waited long enough."""
        future: Future[Result] = Future()
        self._waiting.append((task, future))
        return future

    def result(self, future: Future[Result]) -> Result:
        """What the task of `future` gave; meanwhile the others go on.

        Raises:
            CrashedError: its process ended, because it was killed or ran out of memory.
            Exception: what the task raised, with the traceback of its process as a note.
        """
        while not future.done():
            self._assign()
            busy: dict[Any, _Worker[Task, Result]] = {
                w.connection: w for w in self._workers if w.busy
            }
            for connection in wait(list(busy)):
                self._receive(busy[connection])
        self._assign()  # nobody should idle until the next call
        return future.result()

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers.clear()

    def _assign(self) -> None:
        """Give waiting tasks to idle workers, and hire as long as there are too few."""
        idle = [worker for worker in self._workers if not worker.busy]
        while self._waiting and (idle or len(self._workers) < self._jobs):
            worker = idle.pop() if idle else self._hire()
            worker.busy = self._waiting.popleft()
            with suppress(BrokenPipeError):  # it has died; receiving from it will tell
                worker.connection.send(worker.busy[0])

    def _hire(self) -> _Worker[Task, Result]:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_serve, args=(theirs, self._prepare), daemon=True)
        with _ctrl_c_ignored():
            process.start()
        theirs.close()  # else its end would not be seen
        worker: _Worker[Task, Result] = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _receive(self, worker: _Worker[Task, Result]) -> None:
        assert worker.busy is not None  # else nobody would listen to it
        task, future = worker.busy
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            worker.connection.close()
            self._workers.remove(worker)
            future.set_exception(CrashedError(_last_words(worker.process.exitcode)))
            return
        if kind == "message":
            self._listen(task, content)
            return
        worker.busy = None
        if kind == "result":
            future.set_result(content)
        else:
            future.set_exception(content)


def _serve(connection: Connection[Any, Any], prepare: Callable[[], Work[Any, Any, Any]]) -> None:
    """What a worker does all its life."""
    work: Work[Any, Any, Any] | None = None
    with suppress(EOFError, BrokenPipeError):  # the caller has gone, and nobody wants the rest
        while True:
            task = connection.recv()
            try:
                work = work or prepare()
                answer = "result", work(task, lambda message: connection.send(("message", message)))
            except BrokenPipeError:
                raise
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = "error", error
            connection.send(answer)


def _last_words(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        memory = ", probably because the machine ran out of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{memory}"
    return f"its process ended with exit status {exitcode}"


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Processes started in this block never see Ctrl-C; Python leaves an ignored signal ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
