"""What captured graphs and torch.compile make of a call, and what they cannot take."""

from __future__ import annotations

from typing import Any

from reports.findings import modes
from reports.findings.findings import Findings
from reports.findings.workloads import MODES
from reports.page.figures.drawing import Looks

NAME, TITLE = "modes", "Captured and compiled"


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """A table of both phases; nothing where calls were made in one mode alone."""
    found = modes.in_modes(findings.as_read, findings.alone, findings.scatter)
    phases = dict.fromkeys(one.phase for one in found)
    return {
        "mode_words": MODES,
        "used": [mode for mode in MODES if any(mode in one.loop for one in found)],
        "tables": {
            phase: {
                head: [one for one in found if (one.head, one.phase) == (head, phase)]
                for head in dict.fromkeys(one.head for one in found if one.phase == phase)
            }
            for phase in phases
        },
        "on_device": any(one.device for one in found),
        "why_not": modes.why_not(findings.as_read),
    }
