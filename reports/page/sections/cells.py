"""Every cell in a table to sort and filter, and all raw samples to download."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "cells", "All cells"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """A row per cell; of a run with too many, none: its journal lies beside the page."""
    return {
        "cells": findings.cells,
        "summarised": findings.summarised,
        "resumed": any(cell.sessions != (1,) for cell in findings.cells),
        "journal": quote(os.fsencode(beside(findings.run.name))),
    }


def beside(run: str) -> str:
    """What the copy of a large run's journal is called that lies beside its page."""
    return f"{run}.journal.jsonl.gz"
