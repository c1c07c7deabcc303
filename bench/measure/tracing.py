"""One profiler trace per head: training steps of TinyVGG, for TensorBoard and Perfetto."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from bench.measure.workload import Workload
from reports.results import Cell

STEPS = {"wait": 1, "warmup": 2, "active": 5}
"""One step to allocate, two for the profiler to settle, five to look at."""


def trace(cell: Cell, folder: Path) -> Path:
    """Profile training steps of `cell` and write them to `folder`; returns the trace's path."""
    workload = Workload(replace(cell, phase="train"))
    workload.module.train()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{folder.name}.{cell.device.replace(':', '-')}.pt.trace.json"
    draft = path.with_suffix(".draft")  # half a trace would never be made again
    cuda = cell.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(
        activities=activities,
        schedule=schedule(**STEPS),
        record_shapes=True,
        profile_memory=True,
        on_trace_ready=lambda recorded: recorded.export_chrome_trace(str(draft)),
    ) as recorded:
        for _ in range(sum(STEPS.values())):
            with record_function("zero_grad"):
                workload.clear()
            with record_function("forward"):
                loss = workload.loss()
            with record_function("backward"):
                loss.backward()
            with record_function("optimizer step"):
                workload.optimizer.step()
            if cuda:
                torch.cuda.synchronize()
            recorded.step()
    if cuda:
        _rename_runtime_category(draft)
    return draft.replace(path)


def _rename_runtime_category(path: Path) -> None:
    """Give CUDA runtime calls the category that TensorBoard's plugin knows.

    torch-tb-profiler 0.4.3 looks for `Runtime`; newer profilers write `cuda_runtime`, and without
    this the plugin shows no GPU time per operator.
    """
    content = json.loads(path.read_text("utf-8"))
    for event in content["traceEvents"]:
        if event.get("cat") in ("cuda_runtime", "cuda_driver"):
            event["cat"] = "Runtime"
    path.write_text(json.dumps(content), "utf-8")
