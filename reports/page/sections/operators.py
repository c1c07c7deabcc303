"""Where the time goes: the operators with the most self CPU time, per head with a trace."""

from __future__ import annotations

from typing import Any

from reports.findings.findings import Findings
from reports.page.figures.drawing import Looks
from reports.results import traces

NAME, TITLE = "operators", "Operators"

TOP = 10


def context(findings: Findings, looks: Looks) -> dict[str, Any]:
    """A table per traced head: those of the run first, in its order."""
    traced = findings.run.traces
    heads = dict.fromkeys([head for head in findings.run.heads if head in traced] + sorted(traced))
    return {"tables": [_table(findings, head) for head in heads]}


def _table(findings: Findings, head: str) -> dict[str, Any]:
    problems, read = [], []
    for path in findings.run.traces[head]:
        try:
            read.append(traces.operators(path))
        except ValueError as error:
            problems.append(f"{path.relative_to(findings.run.folder)}: {error}")
    merged = traces.merge(read)
    total = sum(operator.self_seconds for operator in merged)
    return {
        "head": head,
        "rows": [(o, o.self_seconds / total if total else 0.0) for o in merged[:TOP]],
        "total": total,
        "others": max(0, len(merged) - TOP),
        "problems": problems,
    }
