"""The log of a session in `run.json`: what was asked, of which machine, and how well it went."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bench import resume
from bench.display import Display
from bench.machine import condition, identity, limits
from bench.machine.clock import harness_seconds, timer_of
from bench.machine.disturbance import Watch
from bench.options import Plan
from models.dataset import Dataset
from reports.results import RunFolder
from reports.results.fields import number


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
        self.session = 1

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
        begun = _now()
        facts = {
            "started": begun,
            "finished": None,
            "sweep": self._plan.name,
            "seed": self._plan.seed,
            "passes": self._plan.sweep.passes,
            "planned": planned,
            "options": self._plan.dump(),
            "dataset": dataset and facts_of(dataset),
            "sessions": [{"started": begun}],
        }
        # Looking at the machine takes seconds: a run that is killed meanwhile can be resumed too.
        self._run.write_facts(facts)
        device = self._plan.device
        machine = identity.describe(device)
        self._run.write_facts(facts | self._looked(machine))

    def reopen(self) -> None:
        """Add a session to `run.json`, and to it what has changed since the first one.

        Raises:
            ResultsError: what is measured now would not be of one kind with what was; nothing is
                written then.
        """
        facts = self._run.read_facts()
        machine = identity.describe(self._plan.device)
        changed = resume.changes(self._run, facts, machine)
        sessions = facts.get("sessions")
        if not isinstance(sessions, list) or not sessions:  # as runs had none before
            sessions = [{"started": facts.get("started")}]
        self.session = len(sessions) + 1
        now = {"started": _now()} | ({"changed": changed} if changed else {})
        looked = {} if resume.mapping(facts.get("machine")) else self._looked(machine)
        self._run.write_facts(facts | looked | {"sessions": [*sessions, now]})
        for name, value in changed.items():
            self._display.say(f"Unlike the run's first session, {name.replace('_', ' ')}: {value}")

    def _looked(self, machine: identity.Description) -> dict[str, Any]:
        device = self._plan.device
        return {
            "machine": machine | limits.measure(device, machine),
            "harness_seconds": harness_seconds(timer_of(device)),
        }

    def close(self, left: str, cut: Sequence[str] = ()) -> None:
        """Add this session to `run.json` and say how well the measuring itself went.

        Args:
            left: what the run still lacks, in words; empty if it is complete.
            cut: what there was no time for.
        """
        wall = time.monotonic() - self._begin
        self._conditions.note()
        self._run.forget_attempt()
        earlier = self._run.read_facts()
        readings = self._conditions.conditions

        def so_far(name: str) -> float:
            try:
                return number(earlier, name)
            except ValueError:  # absent, or damaged
                return 0.0

        conditions = earlier.get("conditions")
        self._run.write_facts(
            earlier
            | {
                "finished": None if left else earlier.get("finished") or _now(),
                "wall_seconds": so_far("wall_seconds") + wall,
                "measured_seconds": so_far("measured_seconds") + self._inside_seconds,
                "cut": list(cut),
                "others_busy": max(self._watch.others, so_far("others_busy")),
                "stolen": max(self._watch.stolen, so_far("stolen")),
                "swapped_bytes": self._watch.swapped_bytes + int(so_far("swapped_bytes")),
                "conditions": [
                    *(conditions if isinstance(conditions, list) else []),
                    *self._conditions.to_json(),
                ],
                "throttled": condition.throttling(readings) or earlier.get("throttled", ""),
            }
        )
        self._display.say(
            f"{self._inside_seconds / wall:.0%} of {timedelta(seconds=round(wall))} "
            "was spent inside measured code; timing itself adds "
            f"{1e6 * so_far('harness_seconds'):.2g} µs to a round."
        )
        if cut:
            kinds = Counter(what.partition(" ")[0] for what in cut)
            again, others = kinds.pop("time", 0), kinds.total()
            named = [what for what in cut if not what.startswith("time ")]
            parts = [f"{again} blocks were not measured in another pass"] if again else []
            parts += [f"{others} were left out: {', '.join(named)}"] if others else []
            self._display.say(f"For want of time, {', and '.join(parts)} (--minutes).")
        for advice in filter(None, (self._watch.advice(), condition.advice(readings))):
            self._display.say(advice, style="bold yellow")
        if left:
            self._display.say(
                f"{left} done. To complete this run: tox -e bench -- --resume {self._run.path.name}"
            )


def facts_of(dataset: Dataset) -> dict[str, Any]:
    """What `run.json` keeps of the data: its facts, and a checksum of it."""
    return dataset.facts() | {"fingerprint": dataset.fingerprint()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
