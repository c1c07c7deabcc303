"""Files of a results folder: written whole or not at all, read without trust."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

Loaded = TypeVar("Loaded")
Load = Callable[[dict[str, Any]], Loaded]
"""Makes something of a JSON object, or raises a `ValueError` of one line."""

DEEPEST = 50
"""Records nest a tenth of that; what nests far more breaks whoever prints it."""

WARNINGS_PER_FILE = 10
"""A file with a thousand bad lines is one finding, not a thousand."""


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write `path` whole or not at all: whoever reads it finds the old content or the new.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    try:
        with draft.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = None) -> None:
    """Write `path` whole or not at all.

    Args:
        path: where to.
        content: of JSON's own types.
        indent: of a file that people read; without it, one line.
    """
    text = json.dumps(content, indent=indent, allow_nan=False)
    write_whole(path, lambda file: file.write(text.encode()))


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line of JSON; once this has returned, the line survives a kill.

    A line that a kill left open is ended first.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    line = json.dumps(record, allow_nan=False).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read() == b"\n" else b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


class Reader:
    """Reads files of a folder that may come from anybody, or from a run that was killed.

    Nothing is unpickled, and no link is followed out of the folder.

    Attributes:
        folder: with no link in its path.
        warnings: what was left out, one line each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.warnings: list[str] = []

    def files(self, pattern: str) -> Iterator[Path]:
        """Regular files of the folder, by name."""
        for path in sorted(self.folder.glob(pattern)):
            if self._holds(path):
                yield path
            else:
                name = path.relative_to(self.folder)
                self.warnings.append(f"{name} is not a regular file of this folder")

    def object(self, name: str, load: Load[Loaded]) -> Loaded | None:
        """What `load` makes of the JSON object in a file; None where there is none."""
        content = self._content(name)
        if content is None:
            return None
        try:
            return load(_parse(content))
        except (ValueError, OverflowError) as error:
            self.warnings.append(f"{name}: {error}; it is left out")
            return None

    def lines(self, name: str, load: Load[Loaded]) -> list[Loaded]:
        """What `load` makes of the JSON object in each line of a file."""
        lines = (self._content(name) or b"").split(b"\n")
        found, malformed = [], []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                found.append(load(_parse(line)))
            except (ValueError, OverflowError) as error:
                torn = "torn, as the run was killed while writing it"
                said = torn if number == len(lines) else error
                malformed.append(f"{name} line {number}: {said}; it is left out")
        self.warnings += malformed[:WARNINGS_PER_FILE]
        if (more := len(malformed) - WARNINGS_PER_FILE) > 0:
            self.warnings.append(f"{name}: {more} more such lines")
        return found

    def _holds(self, path: Path) -> bool:
        """Whether `path` is a regular file that, links followed, lies in the folder."""
        return path.is_file() and path.resolve().is_relative_to(self.folder)

    def _content(self, name: str) -> bytes | None:
        path = self.folder / name
        if not path.exists() and not path.is_symlink():
            self.warnings.append(f"{name} is missing")
        elif not self._holds(path):
            self.warnings.append(f"{name} is not a regular file of this folder; it is left out")
        else:
            try:
                return path.read_bytes()
            except OSError as error:
                self.warnings.append(f"{name} cannot be read ({error.strerror}); it is left out")
        return None


def _finite(digits: str) -> float | None:
    """A number; one that is too large counts as none."""
    value = float(digits)
    return value if math.isfinite(value) else None


def _whole(digits: str) -> int | float | None:
    """An integer; one of more digits than any count has is not exact anyway."""
    return int(digits) if len(digits) < 20 else _finite(digits)


def _depth(value: Any) -> int:
    """How far lists and objects are nested."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [
            inner for one in level for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return depth


def _printable(value: Any) -> Any:
    """`value` without halves of characters, which JSON can hold and no file can."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_printable(name): _printable(one) for name, one in value.items()}
    return [_printable(one) for one in value] if isinstance(value, list) else value


def _parse(text: bytes) -> dict[str, Any]:
    """A JSON object, or a `ValueError` that says what is there instead."""
    try:
        value = json.loads(
            text.decode("utf-8"),
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=lambda name: None,  # NaN and Infinity are no JSON
        )
        if b"\\ud" in text or b"\\uD" in text:
            value = _printable(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg})") from None
    if text.count(b"[") + text.count(b"{") > DEEPEST and _depth(value) > DEEPEST:
        raise ValueError("nested too deeply")
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    return value
