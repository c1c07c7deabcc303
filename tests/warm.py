"""A Python that has imported already what takes seconds to import, and forks for who starts one.

What is started is a process of its own: arguments, folder, environment, signals and exit status
are as ever, and this project's own modules are imported by it. Only what an interpreter reads
before its first line (locale, `PYTHONUTF8`) is the server's. A Python that it starts in turn, and
whose streams are its own, is forked likewise; those of a pool are, from one that is forked for it
before anything else happens.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from multiprocessing import forkserver, util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, NoReturn

TRAINING = ("torch", "torch.utils.tensorboard", "numba", "torchvision", "sklearn.metrics")
"""What a process imports of others that trains."""

BENCH = (
    *(*TRAINING, "torch.utils.flop_counter", "PIL.Image", "packaging.requirements", "psutil"),
    *("pytest", "rich.progress"),
    # For its report, which is a process of its own.
    *("jinja2", "matplotlib.backends.backend_svg", "matplotlib.figure", "pandas", "plotly.offline"),
    *("scipy.interpolate", "scipy.optimize", "scipy.special", "scipy.stats"),
)
"""What the bench imports of others, from its start to its report."""

STREAMS = ("output", "errors")


class Warm:
    """Starts processes, one after the other.

    Args:
        modules: imported before the first process; one that fails is left to who needs it.
    """

    def __init__(self, *modules: str) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # else a line that has been read ahead would not be seen by `select`
        )
        self._last: Process | None = None

    def start(self, *arguments: str, cwd: Path, env: Mapping[str, str]) -> Process:
        """What `python *arguments` would start; the arguments begin with -m or -c."""
        self._end_last()
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        streams = TemporaryDirectory()
        self._server.stdin.write(
            json.dumps([arguments, str(cwd), dict(env), streams.name]).encode() + b"\n"
        )
        self._last = Process(self._server.stdout, streams)
        return self._last

    def close(self) -> None:
        """End the server."""
        self._end_last()
        self._server.communicate()

    def _end_last(self) -> None:
        """A test that failed may have left its process."""
        if self._last and self._last.poll() is None:
            self._last.kill()
            self._last.communicate()


class Process:
    """As much of `subprocess.Popen` as the tests use."""

    def __init__(self, server: IO[bytes], streams: TemporaryDirectory[str]) -> None:
        self._server, self._streams = server, streams
        self.pid = int(server.readline())
        self.returncode: int | None = None

    def poll(self, patience: float | None = 0) -> int | None:
        """The exit status, minus the signal that has ended it, or None as long as it lives."""
        if self.returncode is None and select.select([self._server], [], [], patience)[0]:
            self.returncode = int(self._server.readline())
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To a process that lives."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Without warning."""
        self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[str, str]:
        """Standard output and standard error, once it has ended."""
        self.poll(None)
        output, errors = (Path(self._streams.name, name).read_text("utf-8") for name in STREAMS)
        return output, errors


def serve() -> None:
    """Fork for each line of standard input, and say the process's number and exit status."""
    for name in sys.argv[1:]:
        with suppress(Exception):
            importlib.import_module(name)
    if "numba" in sys.modules:
        with suppress(Exception):
            sys.modules["numba"].njit(lambda: None)()  # its compiler is loaded by the first use
    gc.freeze()  # what is never looked at again is never copied
    for line in sys.stdin:
        child = fork()
        if not child:
            leave(become, *json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    leave(sys.exit)


def fork() -> int:
    """As `os.fork`; what has been printed is not printed twice."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's threads know how to be forked
        return os.fork()


def leave(last: Callable[..., object], *arguments: Any) -> NoReturn:
    """Call `last`, then end as an interpreter does, but for taking apart all it has imported.

    That takes a second, as every page of it would have to be copied first.
    """
    try:
        last(*arguments)
        status: Any = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(status if isinstance(status, int) else bool(status))


def become(arguments: list[str], folder: str, environment: dict[str, str], streams: str) -> None:
    """Go on as `python *arguments`."""
    for number, path in enumerate((os.devnull, *(Path(streams, name) for name in STREAMS))):
        opened = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [folder, *filter(None, paths)]
    subprocess.run = partial(run, subprocess.run)
    multiprocessing.get_context = partial(forking, multiprocessing.get_context)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    begin_pools()
    # A shell's background jobs ignore Ctrl-C, and would pass that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    execute(*arguments)


def begin_pools() -> None:
    """Fork what pools fork their processes from, as nothing has been begun yet that forbids it.

    Their processes ignore Ctrl-C, as all of the bench do, if it is ignored now.
    """
    cold = util.spawnv_passfds
    util.spawnv_passfds = spawn
    forkserver.ensure_running()
    util.spawnv_passfds = cold


def spawn(path: bytes, command: Sequence[str], kept: Iterable[int]) -> int:
    """`multiprocessing.util.spawnv_passfds`, but by a fork, which keeps its streams and `kept`."""
    child = fork()
    if not child:
        atexit._clear()
        for low, high in pairwise([2, *sorted(kept), os.sysconf("SC_OPEN_MAX")]):
            os.closerange(low + 1, high)
        leave(execute, *command[-2:])
    return child


def forking(get_context: Callable[..., Any], method: str | None = None) -> Any:
    """`multiprocessing.get_context`, but processes are forked from one that did nothing else."""
    return get_context("forkserver" if method == "spawn" else method)


def run(cold: Callable[..., Any], command: Any, *others: Any, **options: Any) -> Any:
    """`subprocess.run`, which forks where `command` is `python -m ...` and shares its streams."""
    if others or options.keys() - {"check"} or [*command[:2]] != [sys.executable, "-m"]:
        return cold(command, *others, **options)
    child = fork()
    if not child:
        atexit._clear()  # what is to happen at the end of whoever starts it happens there
        leave(execute, *command[1:])
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done: subprocess.CompletedProcess[str] = subprocess.CompletedProcess(command, status)
    if options.get("check"):
        done.check_returncode()
    return done


def execute(option: str, what: str, *rest: str) -> None:
    """Run a module or a text as an interpreter does that is asked to."""
    sys.argv = [option, *rest]
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(what, {"__name__": "__main__"})


if __name__ == "__main__":
    serve()
