"""Every cell in a table to sort and filter, and all raw samples to download."""

from __future__ import annotations

from typing import Any

from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "cells", "All cells"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """A row per cell."""
    return {"cells": findings.cells}
