"""Where a head's time goes: self CPU time per operator, from a profiler trace (Kineto JSON)."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST_BYTES = 256 * 2**20
"""A training step's trace is a few MB. What is far larger would take longer to read than the rest
of the report together, and a small .gz may unpack to anything."""


@dataclass(frozen=True)
class Operator:
    """Calls of one operator in a trace.

    Attributes:
        self_seconds: time in the operator itself, without the operators that it calls.
    """

    name: str
    calls: int
    self_seconds: float


def operators(path: Path) -> tuple[Operator, ...]:
    """The operators of a trace, the one with the most self CPU time first.

    Raises:
        ValueError: the file is too large or no trace; the message says which.
    """
    return self_times(_events(path))


def _events(path: Path) -> list[dict[str, Any]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except (OSError, EOFError) as error:
        raise ValueError(f"cannot be read ({error})") from None
    if len(content) > LARGEST_BYTES:
        raise ValueError(f"more than {LARGEST_BYTES // 2**20} MiB: open it in Perfetto instead")
    try:
        trace = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("not a JSON trace") from None
    events = trace.get("traceEvents") if isinstance(trace, dict) else None
    if not isinstance(events, list):
        raise ValueError("not a Kineto trace: it has no list traceEvents")
    return [event for event in events if _is_operator(event)]


def _is_operator(event: object) -> bool:
    return (
        isinstance(event, dict)
        and event.get("ph") == "X"
        and event.get("cat") == "cpu_op"
        and isinstance(event.get("name"), str)
        and all(_is_number(event.get(field)) for field in ("ts", "dur"))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def self_times(events: Iterable[dict[str, Any]]) -> tuple[Operator, ...]:
    """Sum each operator's duration less that of the operators nested in it, thread by thread.

    Args:
        events: complete events (`ts` and `dur` in microseconds).
    """
    threads: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        threads[str(event.get("pid")), str(event.get("tid"))].append(event)
    calls: dict[str, int] = defaultdict(int)
    self_us: dict[str, float] = defaultdict(float)
    for thread in threads.values():
        enclosing: list[tuple[float, str]] = []
        for event in sorted(thread, key=lambda e: (e["ts"], -e["dur"])):
            name, start, duration = event["name"], float(event["ts"]), float(event["dur"])
            while enclosing and enclosing[-1][0] <= start:
                enclosing.pop()
            if enclosing:
                self_us[enclosing[-1][1]] -= duration
            calls[name] += 1
            self_us[name] += duration
            enclosing.append((start + duration, name))
    ranked = sorted(self_us, key=lambda name: (-self_us[name], name))
    return tuple(Operator(name, calls[name], max(0.0, self_us[name]) * 1e-6) for name in ranked)


def merge(traces: Sequence[Sequence[Operator]]) -> tuple[Operator, ...]:
    """Operators of several traces of one head, summed."""
    calls: dict[str, int] = defaultdict(int)
    total: dict[str, float] = defaultdict(float)
    for trace in traces:
        for operator in trace:
            calls[operator.name] += operator.calls
            total[operator.name] += operator.self_seconds
    ranked = sorted(total, key=lambda name: (-total[name], name))
    return tuple(Operator(name, calls[name], total[name]) for name in ranked)
