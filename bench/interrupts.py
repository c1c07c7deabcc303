"""What ends a run early: a signal that asks for it, or a disk that takes no more."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
"""What writing fails with, whatever is written, once a disk is full, broken or write-protected."""


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Within this block SIGTERM and SIGHUP are what Ctrl-C is, unless they are ignored (nohup)."""
    before = {}
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def has_line(entry: Any) -> bool:
    """Whether an entry of one of pytest's tracebacks knows its line, without which pytest fails."""
    try:
        return entry.lineno is not None
    except TypeError:
        return False


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)
