"""A rank of a sharded head but the first: `python -m bench.measure.member`.

It is started by `bench.measure.team`, with folder, rank, number of ranks, device and threads, and
told on its standard input what to do.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

from torch.distributed.device_mesh import DeviceMesh

from bench.measure import team
from bench.measure.sharded import Member
from reports.results import Cell


def build(cell: dict[str, Any], seed: int, mesh: DeviceMesh) -> Member:
    """This rank's part of the workload of a cell."""
    return Member(Cell.load(cell), seed, mesh)


def main() -> None:
    """Follow; what goes wrong is said in the last line."""
    folder, rank, size, device, threads = sys.argv[1:]
    try:
        team.follow(Path(folder), int(rank), int(size), device, int(threads), sys.stdin, build)
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip().splitlines() or [""])[0]
        print(f"rank {rank}: {type(error).__name__}: {first}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
