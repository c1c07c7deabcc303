"""Captures of a call as CUDA graphs: its kernels follow each other without the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import torch

from bench.measure.allocation import is_out_of_memory
from bench.measure.timing import Call

CAPTURES = 4
"""Graphs of a call, replayed in turns: a graph repeats its batch, and rows of one batch alone would
be found in the cache."""

WARM_UP = 3
"""Calls before a capture, as torch asks for: what is made once must not be captured."""


@lru_cache(maxsize=1)
def side_stream() -> torch.cuda.Stream:
    """The one to capture on: each stream keeps memory of its own."""
    return torch.cuda.Stream()


def on_side_stream(prepare: Callable[[], Call]) -> Call:
    """A call that was prepared and warmed up on `side_stream`, which has to be the current one."""
    call = prepare()
    for _ in range(WARM_UP):
        call()
    torch.cuda.synchronize()
    return call


def why_not(call: Call) -> str:
    """Why `call` cannot be captured: where it makes the host wait for the device; else nothing.

    Raises:
        RuntimeError: there is not enough memory for it.
    """
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return one_line(error)
    finally:
        torch.cuda.set_sync_debug_mode(before)
        torch.cuda.synchronize()
    return ""


def graphs(call: Call) -> Iterator[torch.cuda.CUDAGraph]:
    """Captures of `call`, one for each of its next batches; their memory is shared.

    Raises:
        RuntimeError: it does what cannot be captured.
    """
    pool = torch.cuda.graph_pool_handle()
    for _ in range(CAPTURES):
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=pool, stream=side_stream()):
                call()
        except Exception:
            _settle()
            raise
        yield graph


def _settle() -> None:
    """Have torch's generator know that a capture that failed is over, which one that ends tells it.

    Whoever draws a number on the device is refused otherwise, from then on.
    """
    torch.cuda.synchronize()
    with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=side_stream()):
        torch.empty(1, device="cuda").uniform_()


def one_line(error: Exception) -> str:
    """What an error says first."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
