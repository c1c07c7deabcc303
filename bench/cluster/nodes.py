"""The machines of a Ray cluster: found, or started here; given tasks, and watched.

The only module that imports Ray, and only once a cluster is asked for. Of Ray, tasks and nodes are
used and nothing else; what is lost is not tried again by Ray but by who keeps the journal.
"""

from __future__ import annotations

import os
import re
import time
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from reports.arguments import shown, whole

UNIT = "headbench_node"
"""Ray's resource of which a machine that may measure has one, and a task takes that one."""

MOST_LOCAL = 64
STARTS = 3
"""Of local nodes: on a busy machine the half minute that Ray waits for each may be too short."""

SECONDS_BETWEEN = 0.5
"""Looks at the cluster while nothing happens."""

START = f"ray start --address=HEAD:6379 --resources='{{\"{UNIT}\": 1}}'"


class ClusterError(Exception):
    """One line for the user: what is wrong, what was expected, what to do."""


@dataclass(frozen=True)
class Address:
    """Where the machines are: `local` of them are started here, or Ray's own address."""

    local: int
    ray: str

    def __str__(self) -> str:
        return self.ray or f"local:{self.local}"


def address(given: str) -> Address:
    """Parse what `--cluster` takes."""
    if given == "local" or given.startswith("local:"):
        count = given.partition(":")[2] or "1"
        return Address(whole(1, MOST_LOCAL)(count), "")
    if not re.fullmatch(r"auto|(ray://)?[A-Za-z0-9._\[\]:-]+:[0-9]{1,5}", given):
        raise ArgumentTypeError(f"expected local, local:N, auto or HOST:PORT, got {shown(given)}")
    if given.startswith("ray://"):
        raise ArgumentTypeError(
            f"{given} is a Ray client's address: run headbench on a machine of the cluster, "
            "with --cluster auto"
        )
    return Address(0, given)


class Ended(NamedTuple):
    """A task that is over.

    Attributes:
        machine: that had it.
        outcome: what it returned; None where its process or its machine was lost.
        reason: why it was, in a line.
        blamed: whether that may be what the task did: its own process has died, and not more.
    """

    machine: str
    outcome: Any
    reason: str
    blamed: bool = False


class Nodes:
    """The machines, each known by its name, and at most one task on each.

    Args:
        ray: the module.
        device: that is measured on.
    """

    def __init__(self, ray: Any, device: str) -> None:
        self._ray = ray
        self._gpus = 1 if device.startswith("cuda") else 0
        self._at_work: dict[Any, str] = {}

    def machines(self) -> Mapping[str, Mapping[str, Any]]:
        """Name -> what Ray knows of it, of every machine that is there and may measure.

        Raises:
            ClusterError: two have one name.
        """
        found = [
            (_name(node), node)
            for node in self._ray.nodes()
            if node["Alive"] and node["Resources"].get(UNIT, 0) >= 1
        ]
        twice = [name for name, count in Counter(name for name, _ in found).items() if count > 1]
        if twice:
            raise ClusterError(
                f"two machines of the cluster are called {twice[0]}: start each with a name of "
                "its own, as in ray start --node-name A"
            )
        return dict(sorted(found, key=lambda one: one[0]))

    def begin(self, machine: str, work: Callable[..., Any], *given: Any) -> None:
        """Have `machine` call `work`, which has it to itself as far as Ray can tell.

        It takes all processors, too, so that tasks of others wait. Of a machine that has gone
        meanwhile nothing is heard: whoever looks at `machines` sees it.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if (node := self.machines().get(machine)) is None:
            return
        task = self._ray.remote(work).options(
            name="headbench",
            num_cpus=node["Resources"].get("CPU", 0),
            num_gpus=self._gpus,
            resources={UNIT: 1},
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        self._at_work[task.remote(*given)] = machine

    def wait(self) -> Iterator[Ended]:
        """What ends within `SECONDS_BETWEEN`; nothing if nothing does.

        Raises:
            Exception: what a task raised, which is a mistake of the program.
        """
        errors = self._ray.exceptions
        if not self._at_work:
            time.sleep(SECONDS_BETWEEN)
            return
        done, _ = self._ray.wait(
            list(self._at_work), num_returns=1, timeout=SECONDS_BETWEEN, fetch_local=True
        )
        for task in done:
            machine = self._at_work.pop(task)
            try:
                yield Ended(machine, self._ray.get(task), "")
            except errors.RayTaskError as error:
                raise error.cause or error from None
            except errors.RayError as error:
                blamed = isinstance(error, errors.WorkerCrashedError | errors.OutOfMemoryError)
                reason = f"{type(error).__name__}: {_first(str(error))}"
                yield Ended(machine, None, reason, blamed)

    def forget(self, machine: str) -> None:
        """Expect nothing more from a machine that is gone."""
        self._at_work = {task: name for task, name in self._at_work.items() if name != machine}


def _name(node: Mapping[str, Any]) -> str:
    """What a machine is called: as it was started, else as it calls itself."""
    given, own = node["NodeName"], node["NodeManagerHostname"]
    name = own if given == node["NodeManagerAddress"] else given
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:60]


def _first(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")


@contextmanager
def connected(where: Address, device: str) -> Iterator[Nodes]:
    """The machines at an address, for as long as the block lasts; local ones end with it.

    Raises:
        ClusterError: Ray is not installed, nothing answers there, or no machine may measure.
    """
    # Nothing of a measurement is anybody else's business.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ClusterError(
            "--cluster needs Ray, which is not installed: run tox -e bench-cluster instead of "
            "tox -e bench, or pip install 'headbench[cluster]' (Python 3.11 to 3.14)"
        ) from None
    local = _start(where.local) if where.local else None
    try:
        try:
            ray.init(
                address=where.ray if local is None else local.address,
                log_to_driver=False,
                logging_level="error",
                configure_logging=False,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"no Ray cluster answers at {where} ({_first(str(error))}): start one with ray "
                "start --head, or use --cluster local:2"
            ) from None
        nodes = Nodes(ray, device)
        if not nodes.machines():
            raise ClusterError(
                f"no machine of the cluster at {where} may measure: start each that is to with "
                + START
            )
        yield nodes
    finally:
        ray.shutdown()
        if local is not None:
            local.shutdown()


def _start(count: int) -> Any:
    """So many nodes of Ray on this machine; they end with this process, however it ends.

    Raises:
        ClusterError: they do not start.
    """
    from ray.cluster_utils import Cluster

    why = ""
    for _ in range(STARTS):
        cluster = Cluster()
        try:
            for number in range(1, count + 1):
                cluster.add_node(
                    num_cpus=os.cpu_count() or 1,
                    resources={UNIT: 1},
                    node_name=f"local-{number}",
                    include_dashboard=False,
                    include_log_monitor=False,
                )
        except Exception as error:  # which is all that Ray makes of a node that is slow to start
            why = _first(str(error))
            cluster.shutdown()
        else:
            return cluster
    raise ClusterError(f"{count} nodes of Ray do not start here ({why}): ask for fewer, or later")
