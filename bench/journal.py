"""The run's journal: one JSON line per measured cell, on disk before the next cell begins."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bench.cells import Cell

Kind = Literal["time", "memory", "split", "search"]
Status = Literal["measured", "skipped", "out-of-memory", "failed"]


@dataclass(frozen=True)
class Entry:
    """One line of the journal.

    Attributes:
        kind: what was measured.
        status: `measured`, or why there are no figures.
        cell: what the figures belong to.
        pass_index: which pass over the grid.
        reason: one line, empty when measured.
        figures: the raw samples and counts; see docs/results.md.
    """

    kind: Kind
    status: Status
    cell: Cell
    pass_index: int
    reason: str
    figures: dict[str, Any]

    @property
    def key(self) -> tuple[Kind, Cell, int]:
        """What makes the entry one of a kind within a run."""
        return self.kind, self.cell, self.pass_index

    def to_json(self) -> dict[str, Any]:
        """The line as it is written."""
        line: dict[str, Any] = {
            "kind": self.kind,
            "status": self.status,
            "cell": asdict(self.cell),
            "pass": self.pass_index,
            "written": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        if self.reason:
            line["reason"] = self.reason
        return line | self.figures

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Entry:
        """Inverse of `to_json`; raises KeyError or TypeError on a foreign line."""
        cell = Cell(**{field.name: line["cell"][field.name] for field in fields(Cell)})
        known = {"kind", "status", "cell", "pass", "written", "reason"}
        figures = {name: value for name, value in line.items() if name not in known}
        return cls(
            line["kind"], line["status"], cell, line["pass"], line.get("reason", ""), figures
        )


class Journal:
    """Appends entries to `path`; what `append` returned from survives a kill.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        _end_torn_line(path)

    def append(self, entry: Entry) -> None:
        """Write one line and wait until the disk has it."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry.to_json(), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> list[Entry]:
        """What was written so far; lines that are torn or foreign are left out."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                found.append(Entry.from_json(json.loads(line)))
            except (ValueError, KeyError, TypeError):
                continue
        return found


def _end_torn_line(path: Path) -> None:
    """Close a line that a kill left open, so that the next entry starts on its own line."""
    if path.exists() and (written := path.read_bytes()) and not written.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
