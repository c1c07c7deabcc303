"""A GPU's L2 cache: what a call finds there only because it was called a moment before.

In training, a whole network runs between two uses of a head and leaves nothing of it in the cache.
Timed again and again, a head of a few megabytes never leaves it. Where loading it again would be
seen in the time of a call, the cache is flushed before each (as triton.testing.do_bench does).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from bench.machine.clock import CudaInstant
from bench.measure.timing import Flush

VISIBLE = 0.05
"""From this share of a call on, what the cache saves is worth a flush."""


@dataclass(frozen=True)
class L2:
    """The cache of one GPU.

    Attributes:
        num_bytes: its size.
        load_seconds: to move as many bytes between it and memory.
        spoiler: written to in order to flush it; larger than the cache.
    """

    num_bytes: int
    load_seconds: float
    spoiler: Tensor

    SPOILED_BY: ClassVar[str] = "frac"
    """In the name of the kernel that `spoil` launches, and of no kernel of a head."""

    def spoil(self) -> None:
        """Flush it."""
        self.spoiler.frac_()

    def flush(self, working_set: int) -> Flush:
        """The flush before calls that use `working_set` bytes again and again.

        It is not waited for: while it runs, the host prepares the call, so that neither the flush
        nor the launch of the first kernel is timed.
        """
        kept = min(working_set, self.num_bytes) / self.num_bytes
        return Flush(self.spoil, kept * self.load_seconds / VISIBLE)


@lru_cache(maxsize=1)
def of_current_device() -> L2:
    """The L2 of the current GPU, its speed measured."""
    size: int = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    spoiler = torch.zeros(size // 2, device="cuda")
    seconds = []
    for _ in range(10):
        begin = CudaInstant()
        spoiler.frac_()
        seconds.append(CudaInstant() - begin)
    return L2(size, statistics.median(seconds) / 4, spoiler)
