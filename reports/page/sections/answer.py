"""Which head is fastest: the answer in a few sentences, and a map per phase."""

from __future__ import annotations

from typing import Any

from reports.findings import answer, workloads
from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks

NAME, TITLE = "answer", "Answer"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """Sentences, and maps from class count and batch size to the fastest head."""
    return {
        "answers": answer.sentences(findings),
        "holds": workloads.holds(findings),
        "maps": _maps(findings),
        "within": answer.WITHIN,
    }


def _maps(findings: Findings) -> list[dict[str, Any]]:
    """Per phase a table: rows of class counts, columns of batch sizes."""
    maps = []
    for phase in ("train", "predict"):
        cells = {(fastest.classes, fastest.batch): fastest for fastest in findings.fastest(phase)}
        if cells:
            maps.append(
                {
                    "phase": phase,
                    "batches": sorted({batch for _, batch in cells}),
                    "rows": sorted({classes for classes, _ in cells}),
                    "cells": cells,
                    "squares": answer.squares(findings, phase) if findings.in_turns else "",
                }
            )
    return maps
