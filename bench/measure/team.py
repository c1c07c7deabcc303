"""The processes that a sharded head is spread over: this one, and others that do as it does.

This process is rank 0, and measures. What it does to a workload that is collective, it tells the
others first, in a line each; they have a workload of the same cell, and do the same to theirs.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from bench.machine.disturbance import COMPANIONS
from heads.sharding import LostRankError

PATIENCE = timedelta(seconds=120)
"""That a rank waits for the others; building a large head and compiling kernels take their time."""

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}

_team: Team | None = None


class Team:
    """Other processes, one for each rank but the first.

    Args:
        size: ranks.
        device: `cpu`, or `cuda` for a GPU each.
        threads: of each.
    """

    def __init__(self, size: int, device: str, threads: int) -> None:
        self.size = size
        self._folder = TemporaryDirectory(prefix="headbench-ranks-")
        folder = Path(self._folder.name)
        self._errors = [folder / f"errors-{rank}" for rank in range(1, size)]
        self._others = [
            self._start([str(folder), str(rank), str(size), device, str(threads)], errors)
            for rank, errors in enumerate(self._errors, 1)
        ]
        COMPANIONS.update(other.pid for other in self._others)
        self._numbers = count()
        try:
            self.meshes = joined(folder, 0, size, device)
        except Exception as error:
            raise self.lost(error) from error

    def _start(self, arguments: list[str], errors: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bench.measure.member", *arguments]
        with errors.open("w") as file:
            # In a session of its own: a Ctrl-C is for this process, which ends the others.
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=file, text=True, start_new_session=True
            )

    def number(self) -> int:
        """A number for a workload, by which the others know theirs."""
        return next(self._numbers)

    def tell(self, ranks: int, *what: Any) -> None:
        """Have the others of the first `ranks` do something, at the same time as this process."""
        line = json.dumps(what) + "\n"
        for other in self._others[: ranks - 1]:
            stream: IO[str] = other.stdin  # type: ignore[assignment]
            try:
                stream.write(line)
                stream.flush()
            except OSError as error:
                raise self.lost(error) from error

    def wait_for(self, ranks: int) -> None:
        """Go on when the others are there."""
        try:
            meet(self.meshes[ranks])
        except RuntimeError as error:
            raise self.lost(error) from error

    def lost(self, error: Exception) -> Exception:
        """What to raise instead of `error`, after which there is no team any more."""
        ended = [
            path
            for path, other in zip(self._errors, self._others, strict=True)
            if _has_ended(other)
        ]
        said = [path.read_text("utf-8").strip() for path in ended]
        dissolve(self)
        if not ended:
            return error
        lines = [text.splitlines()[-1] for text in said if text]
        return LostRankError(f"a rank ended: {lines[0] if lines else 'it was killed'}")

    def close(self) -> None:
        """End the others."""
        COMPANIONS.difference_update(other.pid for other in self._others)
        for other in self._others:
            with suppress(OSError):
                other.kill()
            other.wait()
            if other.stdin is not None:
                with suppress(OSError):
                    other.stdin.close()
        if dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()


def _has_ended(other: subprocess.Popen[str]) -> bool:
    """Whether it has, or is about to."""
    try:
        other.wait(0.5)
    except subprocess.TimeoutExpired:
        return False
    return True


def of(ranks: int, device: str, threads: int) -> Team:
    """A team of at least so many, started where there is none."""
    global _team
    if _team is None or _team.size < ranks:
        if _team is not None:
            dissolve(_team)
        _team = Team(ranks, device, threads)
    return _team


def dissolve(team: Team) -> None:
    """End `team`: what it was in the middle of, it would wait for for ever."""
    global _team
    team.close()
    if _team is team:
        _team = None


@atexit.register
def _end() -> None:
    if _team is not None:
        dissolve(_team)


def joined(folder: Path, rank: int, size: int, device: str) -> dict[int, DeviceMesh]:
    """Become one of `size` ranks: number of ranks -> a mesh of the first so many."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        BACKENDS[kind],
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
    return {ranks: DeviceMesh(kind, torch.arange(ranks)) for ranks in range(2, size + 1)}


def meet(mesh: DeviceMesh) -> None:
    """Wait until all ranks of `mesh` are here, and their devices idle."""
    if mesh.device_type == "cuda":
        torch.cuda.synchronize()
    dist.barrier(mesh.get_group())
    if mesh.device_type == "cuda":
        torch.cuda.synchronize()


def follow(
    folder: Path, rank: int, size: int, device: str, threads: int, lines: IO[str],
    build: Callable[[dict[str, Any], int, DeviceMesh], Any],
) -> None:  # fmt: skip
    """Do as the first rank says, line by line, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    meshes = joined(folder, rank, size, device)
    workloads: dict[int, Any] = {}
    for line in lines:
        verb, number, *rest = json.loads(line)
        match verb:
            case "build":
                cell, seed = rest
                workloads[number] = build(cell, seed, meshes[cell["ranks"]])
            case "forget":
                workloads.pop(number, None)
                if device != "cpu":
                    torch.cuda.empty_cache()
            case _:
                getattr(workloads[number], verb)(*rest)
    os._exit(0)  # whoever has ended does not say goodbye to a process group
