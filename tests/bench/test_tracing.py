"""A trace of each head shows the parts of a training step and the head's own operators."""

import json

import pytest

import heads
from bench.measure import tracing
from reports.results import Cell


@pytest.mark.parametrize("head", heads.names())
def test_a_trace_holds_the_parts_of_every_active_step(tmp_path, head):
    path = tracing.trace(Cell("in-model", head, "train", 100, 4, 250), tmp_path / head)
    events = json.loads(path.read_text())["traceEvents"]
    names = [event.get("name", "") for event in events]
    for part in ("zero_grad", "forward", "backward", "optimizer step"):
        assert names.count(part) == tracing.STEPS["active"]
    operators = {event["name"] for event in events if event.get("cat") == "cpu_op"}
    assert "aten::convolution_backward" in operators or "aten::conv2d" in operators


def test_runtime_calls_get_the_category_that_tensorboard_knows(tmp_path):
    path = tmp_path / "trace.json"
    events = [{"name": "cudaLaunchKernel", "cat": "cuda_runtime"}, {"name": "aten::mm"}]
    path.write_text(json.dumps({"traceEvents": events}))
    tracing._rename_runtime_category(path)
    renamed, untouched = json.loads(path.read_text())["traceEvents"]
    assert renamed == {"name": "cudaLaunchKernel", "cat": "Runtime"}
    assert untouched == {"name": "aten::mm"}
