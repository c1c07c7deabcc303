"""What a run's `run.json` says of itself, as text; it may be damaged, or say anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports import units
from reports.results import fields


def mapping(value: object) -> dict[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def where(facts: Mapping[str, Any]) -> str:
    """The GPU's or CPU's name; empty where it is unknown."""
    machine = mapping(facts.get("machine"))
    return str(machine.get("gpu") or machine.get("cpu") or "")


def machine(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts of the machine, bytes in a fitting unit."""
    return {
        name: units.num_bytes(value)
        if name.endswith("bytes") and isinstance(value, (int, float))
        else str(value)
        for name, value in mapping(facts.get("machine")).items()
    }


def options(facts: Mapping[str, Any]) -> dict[str, str]:
    """What was asked of the run, nested options under their parent's name."""
    flat: dict[str, str] = {}
    for name, value in mapping(facts.get("options")).items():
        inner = value if isinstance(value, dict) else {"": value}
        for part, asked in inner.items():
            shown = ", ".join(map(str, asked)) if isinstance(asked, list) else str(asked)
            flat[f"{name} {part}".strip()] = shown
    return flat


def sessions(facts: Mapping[str, Any]) -> dict[int, str]:
    """Number of each session that was not as the first one -> what was different, in words."""
    noted = facts.get("sessions")
    differing = {}
    for number, session in enumerate(noted if isinstance(noted, list) else (), start=1):
        if changed := mapping(mapping(session).get("changed")):
            first = mapping(facts.get("machine"))
            differing[number] = ", ".join(
                f"{name.replace('_', ' ')} {value} instead of {first.get(name, 'none')}"
                for name, value in changed.items()
            )
    return differing


def inside(facts: Mapping[str, Any]) -> str:
    """Which share of its time a run spent inside what it measured, in words; or nothing."""
    measured, wall = _seconds(facts, "measured_seconds"), _seconds(facts, "wall_seconds")
    if not (measured and wall):
        return ""
    return f"{units.share(measured / wall)} of {units.seconds(wall)} inside measured code"


def _seconds(facts: Mapping[str, Any], name: str) -> float:
    """A time; 0 for whatever else the file may hold."""
    try:
        return fields.seconds(facts, name)
    except ValueError:
        return 0.0
