"""Taking up a run again: only as it was begun, on the machine and the data it was begun with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bench.options import Plan, contradiction
from models.training import DATA
from reports.results import ResultsError, RunFolder

SAME = (
    *("cpu", "gpu", "cores", "cpu_capability", "threads", "torch", "torch_flags", "cuda"),
    *("numba", "triton", "timing"),
)
"""Facts of the machine that figures of one run must share. Others may differ from session to
session; each is noted, and the cells measured then are marked."""

VOLATILE = ("load_before", "gpu_clock_mhz")
"""Facts that differ whenever one looks."""

FINGERPRINTED = (*DATA, "fingerprint")
"""Facts of the data set that trainings of one run must share."""


def plan_of(run: RunFolder, option: Callable[[str], Any]) -> Plan:
    """The plan that `run` was begun with.

    Args:
        run: what is to go on.
        option: gives an option's value, as `pytest.Config.getoption` does.

    Raises:
        ResultsError: `run.json` holds none that can be carried out, or the options contradict it.
    """
    try:
        plan = Plan.load(mapping(run.read_facts().get("options")))
    except ValueError as error:
        raise _refusal(run, f"the options in its run.json are damaged ({error})") from None
    if said := contradiction(plan, option):
        raise ResultsError(f"{said}: leave the option out, or begin another run without --resume")
    return plan


def require_same_kind(run: RunFolder, facts: Mapping[str, Any], cluster: bool) -> None:
    """Raise a `ResultsError` unless the run goes on as it was begun, on a cluster or on none."""
    machines = facts.get("machines")
    if isinstance(machines, dict) and not cluster:
        by = f", by {', '.join(sorted(machines))}" if machines else ""
        raise ResultsError(
            f"{run.path.name} is measured on a cluster{by}: resume it with --cluster ADDRESS"
        )
    if cluster and not isinstance(machines, dict):
        raise ResultsError(
            f"{run.path.name} is measured on one machine: resume it without --cluster"
        )


def changes(run: RunFolder, facts: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    """What of `machine` is not as in the run's `facts`, fact by fact.

    Raises:
        ResultsError: figures measured now would not be of one kind with the run's.
    """
    first = mapping(facts.get("machine"))
    if first and "timing" in machine and "timing" not in first:
        raise ResultsError(
            f"{run.path.name} cannot go on here: it was begun by an older version, which timed "
            "phases in loops, and not as laps of the training step. Begin another run without "
            "--resume"
        )
    changed = {
        name: value
        for name, value in machine.items()
        if name in first and name not in VOLATILE and first[name] != value
    }
    for name in SAME:
        if name in changed:
            raise _differs(run, name, first[name], changed[name])
    return changed


def require_same_data(run: RunFolder, facts: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Raise a `ResultsError` unless the run was begun with such data.

    Args:
        run: what is to go on.
        facts: its `run.json`.
        data: facts of the data set at hand.
    """
    first = mapping(facts.get("dataset"))
    # Images of the same checksum are the same in whatever folder they lie.
    free = {"name"} if "fingerprint" in first else set()
    for name in [name for name in FINGERPRINTED if name not in free]:
        if name in first and json.dumps(first[name]) != json.dumps(data.get(name)):
            raise _differs(run, f"data set ({name.replace('_', ' ')})", first[name], data.get(name))


def mapping(value: object) -> dict[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _differs(run: RunFolder, name: str, first: object, now: object) -> ResultsError:
    return _refusal(
        run, f"it was begun with another {name}: {_short(first)}, and not {_short(now)}"
    )


def _refusal(run: RunFolder, why: str) -> ResultsError:
    return ResultsError(
        f"{run.path.name} cannot go on here: {why}. Resume it as it was begun, "
        "or begin another run without --resume"
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
