"""Whether memory that is freed goes back to the system: glibc's heap as it comes, or kept.

As it comes, glibc maps blocks above 32 MiB afresh whenever they are asked for and unmaps them when
they are freed: every step then takes a page fault for each 4 KiB of a large gradient, and the
system clears the page. That time is real, and no algorithm's.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from typing import Literal, get_args

Heap = Literal["default", "kept"]

HEAPS: tuple[Heap, ...] = get_args(Heap)

# Of malloc.h: parameters of `mallopt`, and the value that keeps whatever was freed.
M_TRIM_THRESHOLD, M_MMAP_MAX, NEVER = -1, -4, -1

CHILDREN = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}
"""The same, for processes that are started later: glibc reads it before their first line runs."""

TRIED_BYTES = 2**26
"""Of a block that tells whether it worked: above the 32 MiB at which glibc's own rule ends."""

SETTLED = 20
"""The first few of equal blocks may each find another place in the heap."""


class HeapError(Exception):
    """The heap cannot be kept here; one line says why."""


def choose(heap: Heap) -> None:
    """Have this process, and those that it starts, free memory so.

    Raises:
        HeapError: it cannot be had: not on Linux, not glibc's malloc.
    """
    if heap == "default":
        return
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        raise HeapError(
            f"--heap kept sets glibc's malloc, which is Linux's; this is {platform.system()}: "
            "leave the option out"
        )
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    if not _keeps(libc):
        raise HeapError(
            "--heap kept: malloc gives freed memory back all the same (another allocator is "
            "preloaded): leave the option out, or LD_PRELOAD"
        )
    os.environ |= CHILDREN


def _keeps(libc: ctypes.CDLL) -> bool:
    """Whether a large block that was freed is had again without its pages being faulted in."""
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    for _ in range(SETTLED):
        before = _faults()
        block = libc.malloc(TRIED_BYTES)
        if not block:
            break
        ctypes.memset(block, 1, TRIED_BYTES)
        libc.free(block)
        if _faults() - before < TRIED_BYTES // resource.getpagesize() // 4:
            return True
    return False


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
