"""Forks players from one process, which has loaded what all revisions share and nothing else.

    python -P nest.py

So a player starts in a fraction of a second, and both players of a pair find libraries, the
interpreter and its hash seed where the other finds them: of where things lie, only what belongs to
the heads, and the pages, is drawn anew. No operation of torch runs here: threads and a GPU's
context, which the first one starts, do not survive a fork.

Standard input is a socket that keeps messages apart. A message is a list in JSON: a number that
stands for a player, then its arguments (see `player.py`), and with these come the descriptors of
its standard input, output and error. A number alone asks to kill that player, which may have ended
already, and is answered by its exit status, minus the signal that has ended it. Who closes the
other end has all players killed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import NoReturn

PLAYER = Path(__file__).with_name("player.py")

LONGEST = 2**16
"""Of a message, in bytes: most of it is the path of a folder."""


def load() -> None:
    """What a player would import first, and take seconds for."""
    importlib.import_module("torch")
    with suppress(Exception, SystemExit):  # absent or broken: heads know what to do without it
        numba = importlib.import_module("numba")
        numba.njit(lambda: None)()  # its compiler is loaded by the first use


def become(player: CodeType, arguments: Sequence[str], streams: Iterable[int]) -> NoReturn:
    """Go on as `python -P player.py *arguments`, in the folder that it plays."""
    status = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(arguments[0])
        sys.argv = [str(PLAYER), *arguments]
        exec(player, {"__name__": "__main__"})
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)  # nothing that a nest does at its own end


def end(child: int) -> int:
    """Kill a child, unless it has ended; its exit status, minus the signal that has ended it."""
    os.kill(child, signal.SIGKILL)  # it may be a zombie, but nobody else's number yet
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def serve(requests: socket.socket, player: CodeType) -> None:
    """Answer requests until the other end is closed."""
    children: dict[int, int] = {}
    ended: dict[int, int] = {}
    try:
        while True:
            message, streams, *_ = socket.recv_fds(requests, LONGEST, 3)
            if not message:
                return
            number, *arguments = json.loads(message)
            if not arguments:
                if number in children:
                    ended[number] = end(children.pop(number))
                requests.send(json.dumps(ended[number]).encode())
                continue
            child = os.fork()
            if not child:
                become(player, arguments, streams)
            children[number] = child
            for stream in streams:  # a player's pipes end with the player
                os.close(stream)
    finally:
        for child in children.values():
            end(child)


def main() -> None:
    """Load once, then fork."""
    load()
    gc.disable()
    gc.freeze()  # what is never looked at again is never copied
    serve(socket.socket(fileno=0), compile(PLAYER.read_text("utf-8"), PLAYER, "exec"))
    os._exit(0)  # to take apart all that is loaded takes a second


if __name__ == "__main__":
    main()
