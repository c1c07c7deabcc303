"""Which machine does which job next: pure bookkeeping, without a clock, a network or a disk."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from bench.cluster.jobs import Group, Job

TRIES = 3
"""Machines are taken away and processes killed by anybody; what was being measured each of three
times is suspected to be the reason."""


class Fleet:
    """The jobs of a run and where each is.

    A group is bound to the machine that begins it. A machine that has none left is given the
    largest that nobody has begun, so that all end at about the same time, and a slow machine is
    given fewer.

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
        self._whole = whole
        self._queues: dict[Group, deque[tuple[int, Job]]] = {}
        self._seconds: dict[Group, float] = {}
        for place, job in enumerate(jobs):
            group = job.group
            self._queues.setdefault(group, deque()).append((place, job))
            self._seconds[group] = self._seconds.get(group, 0.0) + weight(job)
        self._running: dict[str, tuple[int, Job]] = {}
        self._tries: Counter[Job] = Counter()
        self.homes = {group: home for group, home in homes.items() if group in self._queues}

    @property
    def is_done(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not (self._running or any(self._queues.values()))

    @property
    def running(self) -> Mapping[str, Job]:
        """Machine -> what it does."""
        return {machine: job for machine, (_, job) in self._running.items()}

    def attempt(self, job: Job) -> int:
        """For which time `job` runs, or ran last."""
        return self._tries[job]

    def begin(self, machine: str) -> Job | None:
        """Give an idle machine its next job; None where there is none for it."""
        assert machine not in self._running, "a machine does one job at a time"
        left = [group for group, queue in self._queues.items() if queue]
        own = [group for group in left if self.homes.get(group) == machine]
        homeless = [group for group in left if group not in self.homes]
        if own:
            group = min(own, key=lambda group: self._queues[group][0][0])
        elif homeless:
            group = max(homeless, key=lambda group: self._seconds[group])
            self.homes[group] = machine
        else:
            return None
        place, job = self._queues[group].popleft()
        self._running[machine] = place, job
        self._tries[job] += 1
        return job

    def done(self, machine: str) -> None:
        """What `machine` was doing has ended, well or not."""
        del self._running[machine]

    def crashed(self, machine: str, blamed: bool = True) -> tuple[Job, Sequence[Job]]:
        """The process that worked on `machine` has died; the machine itself goes on.

        Args:
            machine: that it worked on.
            blamed: whether what it did may be the reason.

        Returns:
            What it was doing, and what takes its place: the same again, its cells one by one where
            it has died of all together, or nothing where one alone is to blame.
        """
        place, job = self._running.pop(machine)
        self._tries[job] -= not blamed
        again = (job,) if self._tries[job] < TRIES else job.parts
        self._queues[job.group].extendleft((place, one) for one in reversed(again))
        return job, again

    def lost(self, machine: str) -> None:
        """The machine is gone: what it had begun is for others, from its beginning."""
        if machine in self._running:
            place, job = self._running.pop(machine)
            self._tries[job] -= 1  # no fault of its own
            self._queues[job.group].appendleft((place, job))
        for group in [g for g, home in self.homes.items() if home == machine and self._queues[g]]:
            del self.homes[group]
            if group in self._whole:
                self._queues[group] = deque(enumerate(self._whole[group]))
