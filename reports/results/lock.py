"""One process at a time measures into a run's folder; the kernel ends its claim when it ends."""

from __future__ import annotations

import errno
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.EWOULDBLOCK}
LONGEST_NOTE = 1000

if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        file.seek(LONGEST_NOTE)  # what is locked cannot be read, and the note should be
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class HeldError(Exception):
    """Another process holds the lock; the message says which, and since when."""


def hold(path: Path) -> BinaryIO | None:
    """Lock `path`, and note in it who did. The file stays; the lock ends with this process.

    Returns:
        What has to stay open for as long as the lock is to be held; None on a file system that
        knows no locks.

    Raises:
        HeldError: another process holds it.
        OSError: the file cannot be written.
    """
    # Not through a link: a folder from somebody else must not have other files written to.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags, 0o666), "r+b")
    try:
        _lock(file)
    except OSError as error:
        with file:
            if error.errno in BUSY:
                raise HeldError(_holder(file)) from None
        return None
    note = {"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    file.seek(0)
    file.truncate()
    file.write(json.dumps(note).encode())
    file.flush()
    return file


def _holder(file: BinaryIO) -> str:
    try:
        file.seek(0)
        note = json.loads(file.read(LONGEST_NOTE))
        return f"process {int(note['pid'])} since {note['since']:.40}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"  # it has not got as far as to say who it is
