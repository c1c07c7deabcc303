"""Which machine does which job next: pure bookkeeping, without a clock, a network or a disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from bench.cluster.jobs import Group, Job

TRIES = 3
"""Machines are taken away and processes killed by anybody; what was being measured each of three
times is suspected to be the reason."""


class Fleet:
    """The jobs of a run and where each is.

    A group is bound to the machine that begins it. A machine that has the least work before it is
    given another group, the largest that is left, so that a slow machine is given fewer.

    Args:
        jobs: what is to be done, in this order.
        weight: rough seconds of a job.
        homes: group -> the machine that it is bound to already.
        whole: group -> all of its jobs, done ones too: what has to be done anew where its machine
            is lost; a group that is absent goes on elsewhere from where it was.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        weight: Callable[[Job], float],
        homes: Mapping[Group, str],
        whole: Mapping[Group, Sequence[Job]],
    ) -> None:
        self._weight, self._whole = weight, whole
        self._waiting = list(jobs)
        self._running: dict[str, Job] = {}
        self._tries: Counter[Job] = Counter()
        left = {job.group for job in self._waiting}
        self.homes = {group: home for group, home in homes.items() if group in left}

    @property
    def is_done(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not (self._waiting or self._running)

    @property
    def running(self) -> Mapping[str, Job]:
        """Machine -> what it does."""
        return self._running

    def begin(self, machine: str, machines: Collection[str]) -> Job | None:
        """Give an idle machine its next job; None where there is none for it.

        Args:
            machine: that asks.
            machines: all that there are, itself among them.
        """
        assert machine not in self._running, "a machine does one job at a time"
        while homeless := self._homeless():
            load = {name: self._load(name) for name in machines}
            if load[machine] > min(load.values()):
                break
            self.homes[max(homeless, key=lambda group: homeless[group])] = machine
        for job in self._waiting:
            if self.homes.get(job.group) == machine:
                self._waiting.remove(job)
                self._running[machine] = job
                self._tries[job] += 1
                return job
        return None

    def attempt(self, job: Job) -> int:
        """For which time `job` runs."""
        return self._tries[job]

    def _homeless(self) -> dict[Group, float]:
        groups: dict[Group, float] = {}
        for job in self._waiting:
            if job.group not in self.homes:
                groups[job.group] = groups.get(job.group, 0.0) + self._weight(job)
        return groups

    def _load(self, machine: str) -> float:
        bound = [job for job in self._waiting if self.homes.get(job.group) == machine]
        running = self._running.get(machine)
        return sum(map(self._weight, [*bound, *([running] if running else [])]))

    def done(self, machine: str) -> Job:
        """What `machine` was doing has ended, well or not."""
        return self._running.pop(machine)

    def crashed(self, machine: str) -> tuple[Job, Sequence[Job]]:
        """The process that worked on `machine` has died; the machine itself goes on.

        Returns:
            What it was doing, and what takes its place: the same again, its cells one by one where
            it has died of all together, or nothing where one alone is to blame.
        """
        job = self._running.pop(machine)
        again = (job,) if self._tries[job] < TRIES else job.parts
        self._waiting[:0] = again
        return job, again

    def lost(self, machine: str) -> None:
        """The machine is gone: what it had begun is for others, from its beginning."""
        job = self._running.pop(machine, None)
        if job is not None:
            self._tries[job] -= 1  # no fault of its own
            self._waiting.insert(0, job)
        unfinished = {one.group for one in self._waiting if self.homes.get(one.group) == machine}
        for group in unfinished:
            del self.homes[group]
            if group in self._whole:
                others = [one for one in self._waiting if one.group != group]
                self._waiting = [*others, *self._whole[group]]
