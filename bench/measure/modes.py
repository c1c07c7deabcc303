"""How calls are made: as they are written, replayed from captured graphs, or compiled by torch.

As users run heads. `graph`: the call is captured in CUDA graphs, one for each of some batches,
which are replayed in turns, so that the host issues one launch a call. `compile`: the module went
through `torch.compile` as it comes; the optimizer's step is made as ever. Whatever has to be done
once, compiling included, is done before the clock runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

import torch

from bench.measure import capture
from bench.measure.allocation import is_out_of_memory
from bench.measure.timing import Call
from reports.results import Mode

QUIET_CALLS, QUIET_SECONDS = 16, 0.5
"""Calls in a row for which nothing is compiled, and what they may take, until that is believed: of
a head whose shapes depend on the targets, another batch may want another graph."""

MOST_CALLS = 100
"""In all: a call that is compiled again and again is timed as it is."""


class ModeError(Exception):
    """Why a call cannot be made in a mode, in a line."""


def why_not(mode: Mode, device: str) -> str:
    """A line that says why nothing can be measured so, or nothing if it can."""
    if mode == "graph" and not device.startswith("cuda"):
        return "graph needs CUDA: a CPU has no graphs to capture"
    return ""


def captured(prepare: Callable[[], Call]) -> Call:
    """Replays of a call's captures, the next one each time.

    Args:
        prepare: gives the call. It can be made again and again with nothing in between; what it
            works on was made on the stream that is current when it is prepared.

    Raises:
        ModeError: it cannot be captured.
    """
    stream = capture.side_stream()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            call = capture.on_side_stream(prepare)
            reason = capture.why_not(call)
            replays = cycle([] if reason else [one.replay for one in capture.graphs(call)])
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = capture.one_line(error)
    torch.cuda.current_stream().wait_stream(stream)
    if reason:
        raise ModeError(f"cannot be captured: {reason}")
    return lambda: next(replays)()


def compiled(module: Any) -> Any:
    """`module`, or a method of one, as `torch.compile` gives it by default."""
    return torch.compile(module)


def settle(call: Call) -> int:
    """Make `call` until nothing more is compiled.

    Returns:
        Graph breaks: how often, in all that was compiled for it, Python has to go on between two
        compiled parts.

    Raises:
        ModeError: it cannot be compiled, or more often than torch does before it gives up.
        Exception: whatever else is wrong with the call, or there is not enough memory for it.
    """
    # A second to import, which others need not spend.
    from torch._dynamo import config
    from torch._dynamo.utils import counters

    def breaks() -> int:
        return sum(counters["graph_break"].values())

    before, quiet = breaks(), list[float]()
    for _ in range(MOST_CALLS):
        known, begin = counters["stats"]["unique_graphs"], time.perf_counter()
        try:
            # Beyond its limit torch would make the call as it is written, and not say so.
            with config.patch(fail_on_recompile_limit_hit=True):
                call()
        except Exception as error:
            inner = getattr(error, "inner_exception", error)  # of a compiler's
            if is_out_of_memory(inner) or not _of_the_compiler(error):
                raise
            if type(error).__name__ == "FailOnRecompileLimitHit":
                raise ModeError(f"compiled more than {config.recompile_limit} times") from error
            raise ModeError(f"cannot be compiled: {capture.one_line(inner)}") from error
        if counters["stats"]["unique_graphs"] == known:
            quiet.append(time.perf_counter() - begin)
        else:
            quiet.clear()
        if len(quiet) == QUIET_CALLS or sum(quiet) > QUIET_SECONDS:
            break
    return breaks() - before


def _of_the_compiler(error: Exception) -> bool:
    """Whether it was `torch.compile` that failed, and not what it compiles."""
    homes = ("torch._dynamo.", "torch._inductor.")
    return any(kind.__module__.startswith(homes) for kind in type(error).__mro__)


def forget() -> None:
    """Forget what was compiled: of the next sizes, each is compiled for itself, as in training.

    What torch has seen in two sizes it compiles for all of them, which is slower.
    """
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
