"""The log of a session in `run.json`: what was asked, of which machine, and how well it went."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bench.display import Display
from bench.machine import condition, identity, limits
from bench.machine.clock import harness_seconds, timer_of
from bench.machine.disturbance import Watch
from bench.options import Plan
from models.data import Dataset
from reports.results import RunFolder


@dataclass
class Stretch:
    """Some time in which something was measured.

    Attributes:
        inside_seconds: spent inside the measured calls; whoever measures says so.
        others_busy: share of the machine's CPU time that others used, once it is over.
    """

    inside_seconds: float = 0.0
    others_busy: float = 0.0


class Logbook:
    """Keeps `run.json` of a run.

    Args:
        run: whose it is; may hold one of an earlier session already, which is added to.
        plan: what is measured.
        display: where to say how it went.
    """

    def __init__(self, run: RunFolder, plan: Plan, display: Display) -> None:
        self._run, self._plan, self._display = run, plan, display
        self._watch = Watch()
        self._conditions = condition.Log(plan.device)
        self._begin = time.monotonic()
        self._inside_seconds = 0.0

    @contextmanager
    def watching(self, alone: bool = True) -> Iterator[Stretch]:
        """Log the time in the block, unless it raises, and what disturbed the machine meanwhile.

        Args:
            alone: whether all that is measured happens in this process; what other processes of
                the run use would count as others', so then nobody is watched.
        """
        stretch = Stretch()
        if alone:
            self._watch.start()
        yield stretch
        if alone:
            stretch.others_busy = round(self._watch.stop(), 3)
        self._conditions.look()
        self._inside_seconds += stretch.inside_seconds

    def open(self, planned: int, dataset: Dataset | None) -> None:
        """Write `run.json`, before anything is measured.

        Args:
            planned: visits of the whole run.
            dataset: what is trained on, if anything is.
        """
        device = self._plan.device
        machine = identity.describe(device)
        self._run.write_facts(
            {
                "started": _now(),
                "finished": None,
                "sweep": self._plan.name,
                "seed": self._plan.seed,
                "passes": self._plan.sweep.passes,
                "planned": planned,
                "options": self._plan.to_json(),
                "machine": machine | limits.measure(device, machine),
                "harness_seconds": harness_seconds(timer_of(device)),
                "dataset": dataset and dataset.facts(),
            }
        )

    def close(self, complete: bool) -> None:
        """Add this session to `run.json` and say how well the measuring itself went."""
        wall = time.monotonic() - self._begin
        self._conditions.note()
        self._run.forget_attempt()
        earlier = self._run.read_facts()
        readings = self._conditions.conditions
        self._run.write_facts(
            earlier
            | {
                "finished": _now() if complete else None,
                "wall_seconds": earlier.get("wall_seconds", 0) + wall,
                "measured_seconds": earlier.get("measured_seconds", 0) + self._inside_seconds,
                "others_busy": max(self._watch.others, earlier.get("others_busy", 0)),
                "stolen": max(self._watch.stolen, earlier.get("stolen", 0)),
                "swapped_bytes": self._watch.swapped_bytes + earlier.get("swapped_bytes", 0),
                "conditions": earlier.get("conditions", []) + self._conditions.to_json(),
                "throttled": condition.throttling(readings) or earlier.get("throttled", ""),
            }
        )
        self._display.say(
            f"{self._inside_seconds / wall:.0%} of {timedelta(seconds=round(wall))} "
            "was spent inside measured code; timing itself adds "
            f"{1e6 * earlier.get('harness_seconds', 0):.2g} µs to a round."
        )
        for advice in filter(None, (self._watch.advice(), condition.advice(readings))):
            self._display.say(advice, style="bold yellow")
        if not complete:
            self._display.say(
                f"To complete this run: tox -e bench -- --resume {self._run.path.name}"
            )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
