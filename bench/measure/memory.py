"""Peak memory of one phase, to the byte, from the allocator's own events."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import psutil
import torch
from torch.autograd.profiler_util import MEMORY_EVENT_NAME
from torch.profiler import ProfilerActivity, profile, record_function

import heads
from bench.measure.optimizers import RECIPES
from bench.measure.precision import PRECISIONS
from bench.measure.timing import Call
from bench.measure.workload import Workload, build_module
from reports.results import Cell

HEADROOM = 0.8
"""Share of the free memory that a cell may plan with; the rest is for what nobody planned."""

COUNTED = "headbench: counted"
"""Marks in the profile where the call begins whose memory is asked for."""


def _nothing() -> None:
    """Do nothing."""


class MemoryUse(NamedTuple):
    """Bytes of one phase, and of what the module keeps between phases.

    Attributes:
        peak_bytes: highest level above the baseline before the phase.
        parameter_bytes: all parameters of the module.
        gradient_bytes: their gradients after a backward pass; of sparse ones, values and indices.
        optimizer_bytes: the optimizer's state after a step.
    """

    peak_bytes: int
    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int


def measure(workload: Workload, phase: heads.Phase) -> MemoryUse:
    """Run `phase` once, as it runs in a training step, and read the allocator."""
    held = workload.held_bytes  # first: the optimizer's state is there before the phase, not of it
    timed = workload.prepare(phase)
    if timed.company is not None:
        timed.company(1)
    peak = peak_bytes(timed.call, workload.device, timed.before or _nothing)
    return MemoryUse(peak, *held)


def peak_bytes(call: Call, device: torch.device, before: Call = _nothing) -> int:
    """Highest level of allocated bytes during `call` above the level before it.

    On the CPU the allocator knows the size of a block that `call` frees only if it was recorded
    when it was allocated; allocate such blocks in `before`, which is recorded but not counted.
    """
    if device.type == "cuda":
        before()
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        baseline = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - baseline
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        before()
        with record_function(COUNTED):
            call()
    events = sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    begin = next(event.start_ns() for event in events if event.name() == COUNTED)
    changes = [
        event.nbytes()
        for event in events
        if event.name() == MEMORY_EVENT_NAME and event.start_ns() >= begin
    ]
    peak: int = max(itertools.accumulate(changes, initial=0))
    return peak


def free_bytes(device: str) -> int:
    """Bytes that can be allocated on `device` now."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        free: int = torch.cuda.mem_get_info()[0]
    else:
        free = psutil.virtual_memory().available
    return free


SCORE_COPIES = {"cpu": 8, "cuda": 3}
"""Tensors that may hold one score at once: it, its log-probability, a gradient, noise, levels.

A GPU that runs out of memory says so, where a process would be killed: fewer are allowed for.
"""


def predicted_bytes(cell: Cell) -> int:
    """Generous estimate of what a cell holds at once, from shapes and the head's counted work.

    A score is a dot product of `in_features` multiply-adds, so the counts tell how many there are.
    """
    with torch.device("meta"):
        module = build_module(cell)
    head = module if isinstance(module, heads.Head) else module.head
    phase: heads.Phase = "predict" if cell.phase == "predict" else "forward"
    cost = head.cost(phase, cell.batch)
    scores = cost.multiply_adds // head.in_features
    itemsize: int = PRECISIONS[cell.dtype].parameters.itemsize
    parameters = sum(p.numel() for p in module.parameters()) * itemsize
    copies = 3 + RECIPES[cell.optimizer].state
    held = SCORE_COPIES[torch.device(cell.device).type] * scores * itemsize
    return (copies * parameters + cost.bytes + held) // cell.ranks


def why_it_cannot_fit(cell: Cell, free: int) -> str:
    """A line that says why the cell is skipped, or nothing if it should fit into `free` bytes."""
    needed = predicted_bytes(cell)
    if needed <= HEADROOM * free:
        return ""
    return (
        f"would need about {needed / 2**30:.1f} GiB, "
        f"{free / 2**30:.1f} GiB are free on {cell.device}"
    )
