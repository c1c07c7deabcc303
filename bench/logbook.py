"""The log of a session in `run.json`: what was asked, of which machine, and how well it went."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bench import resume
from bench.display import Display
from bench.machine import condition, identity, limits
from bench.machine.clock import harness_seconds, timer_of
from bench.machine.disturbance import Watch, advice
from bench.options import Plan
from models.dataset import Dataset
from reports.results import ResultsError, RunFolder
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


@dataclass(frozen=True)
class Disturbance:
    """What disturbed a machine while something was measured on it, as `run.json` has it.

    Attributes:
        others_busy: share of its CPU time that others used.
        stolen: share of it that its host gave to others.
        swapped_bytes: moved between RAM and disk.
        conditions: readings of clocks and temperatures.
        throttled: how clocks fell, in words; empty if they held.
    """

    others_busy: float
    stolen: float
    swapped_bytes: int
    conditions: Sequence[Mapping[str, Any]]
    throttled: str

    def after(self, earlier: Mapping[str, Any]) -> dict[str, Any]:
        """What `run.json` says of this and of what it said `earlier`."""
        conditions = earlier.get("conditions")
        return {
            "others_busy": max(self.others_busy, so_far(earlier, "others_busy")),
            "stolen": max(self.stolen, so_far(earlier, "stolen")),
            "swapped_bytes": self.swapped_bytes + int(so_far(earlier, "swapped_bytes")),
            "conditions": [
                *(conditions if isinstance(conditions, list) else []),
                *self.conditions,
            ],
            "throttled": self.throttled or earlier.get("throttled", ""),
        }


def so_far(facts: Mapping[str, Any], name: str) -> float:
    """A number that earlier sessions have added up; 0 where it is absent, or damaged."""
    try:
        return number(facts, name)
    except ValueError:
        return 0.0


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
        self.inside_seconds = 0.0
        self.session = 1

    @property
    def disturbance(self) -> Disturbance:
        """Of this process's machine, as far as it has been watched."""
        return Disturbance(
            self._watch.others,
            self._watch.stolen,
            self._watch.swapped_bytes,
            self._conditions.to_json(),
            condition.throttling(self._conditions.conditions),
        )

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
        self.inside_seconds += stretch.inside_seconds

    def open(self, planned: int, dataset: Dataset | None, here: bool = True) -> None:
        """Write `run.json`, before anything is measured.

        Args:
            planned: visits of the whole run.
            dataset: what is trained on, if anything is.
            here: whether this machine measures; else those do that it is to `meet`.
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
        } | ({} if here else {"machines": {}})
        # Looking at the machine takes seconds: a run that is killed meanwhile can be resumed too.
        self._run.write_facts(facts)
        if here:
            machine = identity.describe(self._plan.device)
            self._run.write_facts(facts | self._looked(machine))

    def reopen(self, here: bool = True) -> None:
        """Add a session to `run.json`, and to it what has changed since the first one.

        Args:
            here: whether this machine measures.

        Raises:
            ResultsError: what is measured now would not be of one kind with what was; nothing is
                written then.
        """
        facts = self._run.read_facts()
        machine = identity.describe(self._plan.device) if here else {}
        changed = resume.changes(self._run, facts, machine)
        sessions = facts.get("sessions")
        if not isinstance(sessions, list) or not sessions:  # as runs had none before
            sessions = [{"started": facts.get("started")}]
        self.session = len(sessions) + 1
        now = {"started": _now()} | ({"changed": changed} if changed else {})
        known = not here or resume.mapping(facts.get("machine"))
        looked = {} if known else self._looked(machine)
        self._run.write_facts(facts | looked | {"sessions": [*sessions, now]})
        for name, value in changed.items():
            self._display.say(f"Unlike the run's first session, {name.replace('_', ' ')}: {value}")

    def meet(self, looked: Mapping[str, Mapping[str, Any]]) -> None:
        """Add machines of a cluster to `run.json`, or what has changed on those that are there.

        Args:
            looked: name -> what was seen of the machine, as `run.json` has it.

        Raises:
            ResultsError: a machine is not what it was when it measured for the run.
        """
        facts = self._run.read_facts()
        machines = resume.mapping(facts.get("machines"))
        changed = {}
        for name, seen in looked.items():
            known = resume.mapping(machines.get(name))
            try:
                changed[name] = resume.changes(self._run, known, seen["machine"])
            except ResultsError as error:
                raise ResultsError(f"on {name}: {error}") from None
        *earlier, now = facts["sessions"]
        now = now | {"machines": resume.mapping(now.get("machines")) | changed}
        machines = {name: dict(seen) for name, seen in looked.items()} | machines
        # One stands for all where a reader knows of one alone.
        first: dict[str, Any] = next(iter(machines.values()), {})
        self._run.write_facts(first | facts | {"machines": machines, "sessions": [*earlier, now]})

    def part(self, disturbed: Mapping[str, Sequence[Disturbance]]) -> None:
        """Add to `run.json` what disturbed each machine of a cluster, and say what to do about it.

        Args:
            disturbed: name -> of each process that measured there.
        """
        facts = self._run.read_facts()
        machines = resume.mapping(facts.get("machines"))
        for name, processes in disturbed.items():
            for one in processes:
                known = resume.mapping(machines.get(name))
                machines[name] = known | one.after(known)
                if said := advice(one.others_busy, one.stolen, one.swapped_bytes):
                    self._display.say(f"{name}: {said}", style="bold yellow")
        self._run.write_facts(facts | {"machines": machines})

    def _looked(self, machine: identity.Description) -> dict[str, Any]:
        device, dtypes = self._plan.device, self._plan.sweep.dtypes
        return {
            "machine": machine | limits.measure(device, machine, dtypes),
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
        machines = resume.mapping(earlier.get("machines"))
        disturbed = {} if machines else self.disturbance.after(earlier)
        self._run.write_facts(
            earlier
            | {
                "finished": None if left else earlier.get("finished") or _now(),
                "wall_seconds": so_far(earlier, "wall_seconds") + wall,
                "measured_seconds": so_far(earlier, "measured_seconds") + self.inside_seconds,
                "cut": list(cut),
            }
            | disturbed
        )
        among = f" on {len(machines)} machines" if machines else ""
        self._display.say(
            f"{self.inside_seconds / wall / max(1, len(machines)):.0%} of "
            f"{timedelta(seconds=round(wall))}{among} was spent inside measured code; "
            f"timing itself adds {1e6 * so_far(earlier, 'harness_seconds'):.2g} µs to a round."
        )
        if cut:
            kinds = Counter(what.partition(" ")[0] for what in cut)
            again, others = kinds.pop("time", 0), kinds.total()
            named = [what for what in cut if not what.startswith("time ")]
            parts = [f"{again} blocks were not measured in another pass"] if again else []
            parts += [f"{others} were left out: {', '.join(named)}"] if others else []
            self._display.say(f"For want of time, {', and '.join(parts)} (--minutes).")
        readings = self._conditions.conditions
        for said in filter(None, (self._watch.advice(), condition.advice(readings))):
            self._display.say(said, style="bold yellow")
        if left:
            command = "bench-cluster -- --cluster ADDRESS" if machines else "bench --"
            command = f"tox -e {command} --resume {self._run.path.name}"
            self._display.say(f"{left} done. To complete this run: {command}")


def facts_of(dataset: Dataset) -> dict[str, Any]:
    """What `run.json` keeps of the data: its facts, and a checksum of it."""
    return dataset.facts() | {"fingerprint": dataset.fingerprint()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
