"""Compiled loops on the CPU: numba's decorator as this package uses it, and its threads.

The optional extra `fast` (numba) compiles them. Importing this module fails wherever numba cannot
compile. What it keeps on the disk it compiles again when the file of a loop changes, not this one.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAST = {"reassoc", "contract"}
"""Sums may be taken in another order, but what is not finite stays so."""

Loops = TypeVar("Loops", bound="Callable[..., Any]")


def _next(i: int) -> int:
    """Something to compile."""
    return i + 1


def _can_be_kept() -> bool:
    """Whether compiled code can be kept on disk; raises where nothing can be compiled at all."""
    try:
        numba.njit(cache=True)(_next)(0)
    except Exception:  # nowhere to write, a full disk: numba has no common type for them
        numba.njit(_next)(0)
        return False
    return True


KEPT = _can_be_kept()


def _start_threads() -> None:
    """Start numba's threads, which sets how many torch would use, and set that back."""
    threads = torch.get_num_threads()
    numba.get_num_threads()
    torch.set_num_threads(threads)


_start_threads()


def compiled(**options: Any) -> Callable[[Loops], Loops]:
    """Numba's decorator, with the types that it keeps and does not declare."""
    decorate: Callable[[Loops], Loops] = numba.njit(cache=KEPT, **options)
    return decorate


def threads_for(work: int, per_thread: int) -> int:
    """How many of torch's threads share so much work, if another pays for `per_thread` of it."""
    most = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    return int(max(1, min(most, work // per_thread)))


@contextmanager
def _numba_threads(threads: int) -> Iterator[None]:
    """So many threads for a kernel, or all that there are; the caller's own may want more."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def shared(**options: Any) -> Callable[[Loops], Loops]:
    """Like `compiled`, for loops over blocks; the last argument is how many, and so are threads.

    Compiled twice: what may start threads is slow to call, even with one. Both give the same bits
    if sums that may be reordered (`FAST`) are functions of their own.
    """

    def decorate(loops: Loops) -> Loops:
        copy = FunctionType(loops.__code__, loops.__globals__)
        copy.__qualname__ += "_shared"  # compiled code is kept by this name
        alone, together = compiled(**options)(loops), compiled(parallel=True, **options)(copy)

        @wraps(loops)
        def call(*inputs: Any) -> None:
            if inputs[-1] == 1:
                alone(*inputs)
                return
            with _numba_threads(inputs[-1]):
                together(*inputs)

        return cast("Loops", call)

    return decorate
