"""How heads are run: eagerly, replayed from captured graphs, or compiled."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import torch
from torch import nn

from bench.measure import device

Call = Callable[[], object]


class CannotError(Exception):
    """A call that cannot be run in the mode asked for; the message says why, in one line."""


def captured(prepare: Callable[[], Call]) -> Call:
    """The call as graphs of it, replayed in turns: see `device.capture`.

    Raises:
        CannotError: there is no GPU, or the call waits for it.
    """
    if not torch.cuda.is_available():
        raise CannotError("graphs are captured on CUDA devices only")
    graphs, why_not = device.capture(prepare)
    if why_not:
        raise CannotError(f"cannot be captured: {why_not}")
    turns = cycle(graphs)
    return lambda: next(turns).replay()


def compile_in_place(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Have `torch.compile` take the module's forward and `predict` and the optimizer's step.

    What it compiles, it compiles at the first call, and raises then.
    """
    torch._dynamo.reset()  # another head's code is no reason to give up on this one's
    module.compile()
    # Not as attributes that the module would register or save.
    object.__setattr__(module, "predict", torch.compile(module.predict))
    object.__setattr__(optimizer, "step", torch.compile(optimizer.step))


def graph_breaks(call: Call) -> int:
    """How often `torch.compile` had to leave its graph while `call` was compiled."""
    from torch._dynamo.utils import counters

    counters.clear()
    call()
    return sum(counters["graph_break"].values())
