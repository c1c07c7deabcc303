"""Carries out a run on a cluster: hands out jobs, and alone writes what comes back.

Driven by whoever waits for a job, without a thread of its own, so that lines are written between
two of the caller's.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from bench import resume
from bench.cells import Block, Visit
from bench.cluster import worker
from bench.cluster.fleet import TRIES, Fleet
from bench.cluster.jobs import Group, Job, homes, standing
from bench.cluster.nodes import ClusterError, Ended
from bench.cluster.worker import Order, Outcome
from bench.items import Task, left_of, weight
from bench.logbook import Disturbance
from bench.measure.stopwatch import Bounds
from bench.options import Plan
from bench.session import Session
from bench.todo import Todo
from bench.train.trainings import name_of
from models.config import TrainingConfig
from models.dataset import Dataset
from models.records import begun
from reports.results import Entry, Kind, ResultsError, RunFolder, Training
from reports.results.files import Reader, append_line, write_whole
from reports.results.journal import KINDS

PATIENCE = 120
"""Looks at a cluster without a machine, half a second apart, before a run gives up."""

LOOKS = 20
"""At a machine whose processes die of it, before it is done without."""

LINES: Mapping[str, Kind] = {
    **{kind: kind for kind in KINDS},
    "races": "search",
    "pipeline": "time",
}
"""Benchmarks that write lines of the journal, and of which kind."""

QUIET = Disturbance(0.0, 0.0, 0, (), "")


class Machines(Protocol):
    """What is asked of `bench.cluster.nodes.Nodes`."""

    def machines(self) -> Mapping[str, Any]: ...  # noqa: D102
    def begin(self, machine: str, work: Callable[..., Any], *given: Any) -> None: ...  # noqa: D102
    def wait(self) -> Iterator[Ended]: ...  # noqa: D102
    def forget(self, machine: str) -> None: ...  # noqa: D102


def moved(
    plan: Plan, run: RunFolder, dataset: Dataset | None, here: Collection[str]
) -> dict[Group, str]:
    """Unfinished groups of a run that goes on, whose machine is not `here`, and which that was."""
    kept = standing(run.journal.entries(), {})
    unfinished = {Job(*one).group for one in left_of(Todo(plan, run, dataset, kept))}
    return {
        group: machine
        for group, machine in homes(kept).items()
        if group in unfinished and machine not in here
    }


class Sweep:
    """A run's jobs on its machines.

    Args:
        session: of the run.
        machines: of the cluster.
    """

    def __init__(self, session: Session, machines: Machines) -> None:
        self._session, self._machines = session, machines
        self._met: list[str] = []
        self._meeting: set[str] = set()
        self._refused: Counter[str] = Counter()
        self._fleet = Fleet([], lambda job: 0.0, {}, {})
        self._outcomes: dict[tuple[str, object], Outcome] = {}
        self._disturbed: dict[str, dict[str, Disturbance]] = defaultdict(dict)
        self._orders = self._alone = 0
        self._doing = ""
        self._bounds: Bounds
        self._fingerprint: str | None = None

    def meet(self) -> None:
        """Look at the machines, and see that those that measured earlier are what they were.

        Raises:
            ClusterError: there are none.
            ResultsError: one is not.
        """
        self._see_who_is_there()
        while self._meeting or not self._met:
            for ended in self._machines.wait():
                self._hear(ended)
            self._see_who_is_there()

    def begin(self, tasks: Sequence[tuple[str, Task]], bounds: Bounds) -> None:
        """Say what there is to do, and how long each call is measured."""
        session, self._bounds = self._session, bounds
        facts = session.run.read_facts()
        self._fingerprint = resume.mapping(facts.get("dataset")).get("fingerprint")
        whole: dict[Group, list[Job]] = defaultdict(list)
        for kind, task in left_of(Todo(session.plan, session.run, session.dataset, [])):
            if not isinstance(task, TrainingConfig):
                whole[Job(kind, task).group].append(Job(kind, task))
        at = homes(standing(session.run.journal.entries(), session.moved))
        at = {**at, **_trained_at(session.run)}
        here = {group: machine for group, machine in at.items() if machine in self._met}
        self._fleet = Fleet([Job(*one) for one in tasks], self._weight, here, whole)

    def _weight(self, job: Job) -> float:
        rounds = len(job.task.cells) if isinstance(job.task, Block) else 1
        return weight(job.task, self._session.plan) + self._bounds.max_time * rounds

    def outcomes(self, kind: str, task: Task) -> Sequence[Outcome]:
        """What came of a task, in one part or in several; waits for it.

        Raises:
            ClusterError: there is no machine any more.
        """
        units = _units(Job(kind, task))
        while not units <= self._outcomes.keys():
            assert not self._fleet.is_done, f"{kind} {task} was never handed out"
            self._step()
        return list(dict.fromkeys(self._outcomes[unit] for unit in units))

    def finish(self) -> None:
        """Wait for what nobody has asked for: what is done anew, as its machine was lost."""
        while not self._fleet.is_done:
            self._step()

    def close(self) -> None:
        """Say what disturbed the machines."""
        self._session.logbook.part(
            {name: list(found.values()) for name, found in self._disturbed.items()}
        )

    def _step(self) -> None:
        """Give idle machines something to do, and take in what has ended."""
        self._see_who_is_there()
        for machine in self._met:
            if machine not in self._fleet.running:
                self._give(machine)
        doing = "; ".join(f"{name}: {job}" for name, job in sorted(self._fleet.running.items()))
        if doing != self._doing:
            self._doing = doing
            self._session.display.running(doing)
        for ended in self._machines.wait():
            self._hear(ended)

    def _see_who_is_there(self) -> None:
        """Look at machines that have come, and do without those that are gone."""
        there = self._machines.machines()
        for machine in [name for name in (*self._met, *self._meeting) if name not in there]:
            self._lose(machine)
        self._alone = 0 if there else self._alone + 1
        if self._alone > PATIENCE:
            run = self._session.run.path.name
            raise ClusterError(
                "no machine of the cluster is left: start them again, then: tox -e "
                f"bench-cluster -- --cluster ADDRESS --resume {run}"
            )
        for machine in there:
            strange = machine not in self._met and machine not in self._meeting
            if strange and self._refused[machine] < LOOKS:
                self._look_at(machine)

    def _look_at(self, machine: str) -> None:
        session = self._session
        device, threads = session.plan.device, session.plan.threads
        dtypes = session.plan.sweep.dtypes
        known = resume.mapping(session.run.read_facts().get("machines"))
        self._meeting.add(machine)
        self._machines.begin(machine, worker.look, device, threads, machine not in known, dtypes)

    def _hear(self, ended: Ended) -> None:
        machine = ended.machine
        if machine in self._meeting:
            self._meeting.remove(machine)
            self._get_to_know(ended)
        elif machine not in self._fleet.running:
            return  # it was thought to be gone
        elif ended.outcome is not None:
            self._take_in(machine, ended.outcome)
        elif machine in self._machines.machines():
            self._crashed(machine, ended.reason, ended.blamed)
        # Else all of the machine is gone, which is seen next.

    def _get_to_know(self, ended: Ended) -> None:
        machine = ended.machine
        if ended.outcome is None:
            self._refused[machine] += 1
            if self._refused[machine] == LOOKS and not self._met:
                raise ClusterError(f"{machine} cannot be used: {ended.reason}")
            return
        try:
            self._session.logbook.meet({machine: ended.outcome})
        except ResultsError as error:
            if not self._fleet.running:
                raise
            # One that came later must not end what the others do.
            self._refused[machine] = LOOKS
            self._session.display.say(str(error), style="bold yellow")
            return
        self._met.append(machine)

    def _lose(self, machine: str) -> None:
        self._machines.forget(machine)
        if machine in self._meeting:
            self._meeting.remove(machine)
            return
        if (job := self._fleet.running.get(machine)) is not None:
            self._note(machine, job, "lost", "the machine is gone")
        begun = [group for group, home in self._fleet.homes.items() if home == machine]
        self._fleet.lost(machine)
        self._met.remove(machine)
        self._session.moved |= {
            group: machine for group in begun if self._fleet.homes.get(group) != machine
        }
        self._session.display.say(
            f"{machine} is gone. What it had begun is measured anew elsewhere, so that figures of "
            "different machines do not meet.",
            style="bold yellow",
        )

    def _give(self, machine: str) -> None:
        if (job := self._fleet.begin(machine)) is None:
            return
        session, dataset = self._session, self._session.dataset
        self._orders += 1
        order = Order(
            plan=worker.anywhere(session.plan),
            bounds=self._bounds,
            folder=str(Path.cwd()),
            session=session.logbook.session,
            number=self._orders,
            missing=dataset.reason if dataset is not None and dataset.stand_in else "",
            fingerprint=self._fingerprint,
            job=job,
        )
        self._note(machine, job, "begun")
        self._machines.begin(machine, worker.carry_out, order)

    def _take_in(self, machine: str, outcome: Outcome) -> None:
        """Write what a job has come to: its files, then its lines."""
        job, session = self._fleet.running[machine], self._session
        for name, content in outcome.files.items():
            self._keep_file(machine, PurePosixPath(name), content)
        for entry in outcome.entries:
            session.keep(replace(entry, machine=machine))
        for line in outcome.said:
            session.display.say(f"{machine}: {line}")
        self._disturbed[machine][outcome.process] = outcome.disturbance
        session.logbook.inside_seconds += outcome.inside_seconds
        self._note(machine, job, outcome.result)
        self._settle(job, outcome)
        self._fleet.done(machine)

    def _keep_file(self, machine: str, name: PurePosixPath, content: bytes) -> None:
        run = self._session.run
        path = run.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.parts[0] == "training" and name.suffix == ".json":
            record = Training.load(json.loads(content))
            run.write_training(name.stem, replace(record, machine=machine))
        elif name.suffix != ".checkpoint":  # nobody could go on from it
            write_whole(path, lambda file: file.write(content))

    def _crashed(self, machine: str, reason: str, blamed: bool) -> None:
        self._note(machine, self._fleet.running[machine], "lost", reason)
        job, again = self._fleet.crashed(machine, blamed)
        self._session.display.say(f"{machine}: lost {job} ({reason}).", style="bold yellow")
        if not again:
            self._give_up(machine, job, reason)

    def _give_up(self, machine: str, job: Job, reason: str) -> None:
        """Note that a job kills whatever process does it."""
        session = self._session
        said = f"its process died {TRIES} times, probably as the memory ran out ({reason})"
        tasks = job.task.visits if isinstance(job.task, Block) else [job.task]
        for task in tasks:
            if isinstance(task, Visit):
                where = task.cell, task.pass_index, said, None, session.logbook.session
                session.keep(Entry(LINES[job.kind], "failed", *where, machine))
            elif isinstance(task, TrainingConfig) and session.dataset is not None:
                record = replace(begun(task, session.dataset), reason=said, machine=machine)
                session.run.training(name_of(task)).parent.mkdir(exist_ok=True)
                session.run.write_training(name_of(task), record)
        self._settle(job, Outcome("failed", said, (), {}, (), (), "", QUIET, 0.0))

    def _settle(self, job: Job, outcome: Outcome) -> None:
        self._outcomes |= dict.fromkeys(_units(job), outcome)

    def _note(self, machine: str, job: Job, event: str, reason: str = "") -> None:
        """Add a line to the attempts: each beginning and each end."""
        line: dict[str, Any] = {
            "what": str(job),
            "machine": machine,
            "session": self._session.logbook.session,
            "attempt": self._fleet.attempt(job),
            "event": event,
            "written": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        append_line(self._session.run.attempts, line | ({"reason": reason} if reason else {}))


def _units(job: Job) -> frozenset[tuple[str, object]]:
    """What a job settles: each of its visits, or all of it."""
    each = job.task.visits if isinstance(job.task, Block) else [str(job)]
    return frozenset((job.kind, one) for one in each)


def _trained_at(run: RunFolder) -> dict[Group, str]:
    """The group of each seed that has been trained from -> the machine that did it last."""
    reader = Reader(run.path)
    names = [str(path.relative_to(reader.folder)) for path in reader.files("training/*.json")]
    found = [record for name in names if (record := reader.object(name, Training.load))]
    return {
        ("training", record.seed): record.machine
        for record in sorted(found, key=lambda record: record.started)
    }
