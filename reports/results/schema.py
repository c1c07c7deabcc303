"""Versions of the format, and how what older ones wrote is read today.

A field that was added since may be absent: see `fields.checked`. What else has changed stands here.
Records are told by their shape, not by the version in `run.json`: a run that was resumed holds
lines of several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.results.fields import short

RUNS = (1, 2)
"""Versions of `run.json` and the journal that can be read; the last is what is written."""

TRAININGS = (1,)
"""Likewise of a training record."""


def require(record: Mapping[str, Any], known: Sequence[int]) -> None:
    """Raise a `ValueError` of one line unless the record's version is known."""
    if record.get("schema") not in known:
        raise ValueError(
            f"schema {short(record.get('schema'))} is not known here "
            f"(expected {' or '.join(map(str, known))})"
        )


def cell(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A cell as it is written today: in version 1 a pipeline stood in the place of its head."""
    if record.get("scope") == "pipeline" and "pipeline" not in record:
        return {**record, "head": "softmax", "pipeline": record.get("head")}
    return record


def training(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A training record as it is written today: at first, a head was known under one recipe."""
    return {"variant": record.get("head"), **record}
