"""The results folder: how it is written, and how it is read, record by record; torch-free.

`bench` and `models` write through it, `reports` reads through it. The format is `docs/results.md`.
"""

from __future__ import annotations

from reports.results.archive import locate
from reports.results.cell import (
    CELL,
    MODES,
    PHASES,
    SCOPES,
    STATES,
    WHOLE,
    Cell,
    Mode,
    Phase,
    Scope,
    State,
)
from reports.results.folder import ResultsError, RunFolder, file_name, folder_of, latest
from reports.results.journal import (
    COLLECTIVES,
    MEMORY,
    METHODS,
    MODELS,
    PARTS,
    Entry,
    Journal,
    Kind,
    Race,
    Status,
    Time,
)
from reports.results.loader import Run, load
from reports.results.training import Epoch, Loss, Metrics, Training

__all__ = [
    "CELL",
    "COLLECTIVES",
    "MEMORY",
    "METHODS",
    "MODELS",
    "MODES",
    "PARTS",
    "PHASES",
    "SCOPES",
    "STATES",
    "WHOLE",
    "Cell",
    "Entry",
    "Epoch",
    "Journal",
    "Kind",
    "Loss",
    "Metrics",
    "Mode",
    "Phase",
    "Race",
    "ResultsError",
    "Run",
    "RunFolder",
    "Scope",
    "State",
    "Status",
    "Time",
    "Training",
    "file_name",
    "folder_of",
    "latest",
    "load",
    "locate",
]
