"""Versions of the format, and how what older ones wrote is read today.

A field that was added since may be absent: see `fields.checked`. What else has changed stands here.
Records are told by their shape, not by the version in `run.json`: a run that was resumed holds
lines of several.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.results.fields import short

SCHEMA = 1
KNOWN = (1,)


def require_known(record: Mapping[str, Any]) -> None:
    """Raise a `ValueError` of one line unless the record is of a schema that can be read here."""
    if record.get("schema") not in KNOWN:
        raise ValueError(
            f"schema {short(record.get('schema'))} is not known here "
            f"(expected {' or '.join(map(str, KNOWN))})"
        )


def training(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A training record as it is written today: version 0.1 knew a head under one recipe only."""
    return {"variant": record.get("head"), **record}
