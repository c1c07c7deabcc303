"""Device time: what a GPU is occupied for, whoever looks, and whatever the host does meanwhile."""

from __future__ import annotations

import statistics

import pytest
import torch

from bench.measure import capture, device, l2
from bench.measure.workload import Workload
from reports.results import PHASES, Cell
from reports.results.journal import Device

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("head", ["softmax", "hierarchical", "adaptive", "gumbel"])
def test_two_ways_to_a_device_time_agree(head, phase):
    workload = Workload(Cell("isolated", head, phase, 65_536, 512, 128, device="cuda"))
    clocks = device.measure(lambda: workload.repeatable(phase), l2.of_current_device())
    workload.release()
    replayed = statistics.median(clocks.device_seconds)
    # A replay holds the gaps between kernels as well: a microsecond or two for each.
    assert 0.9 * clocks.kernel_seconds < replayed
    assert replayed < 1.3 * clocks.kernel_seconds + 3e-6 * clocks.launches
    assert clocks.captured != bool(clocks.why_not)
    assert Device.load(vars(clocks)).launches == clocks.launches > 0


def test_what_waits_for_the_device_is_not_captured():
    values = torch.ones(10, device="cuda")
    clocks = device.measure(lambda: lambda: (values + 1).sum().item(), l2.of_current_device())
    assert not clocks.captured
    assert "synchroniz" in clocks.why_not


def test_after_a_capture_that_failed_numbers_are_drawn_as_before():
    there = torch.ones(10, device="cuda")

    def call():
        torch.rand(10, device="cuda")
        if torch.cuda.is_current_stream_capturing():
            there.sum().item()

    with pytest.raises(RuntimeError):
        list(capture.graphs(call))
    assert torch.rand(10, device="cuda").unique().numel() > 1


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_training_step_is_captured_with_its_optimizer(optimizer):
    cell = Cell("isolated", "softmax", "train", 4_096, 64, 32, device="cuda", optimizer=optimizer)
    workload = Workload(cell)
    clocks = device.measure(lambda: workload.repeatable("train"), l2.of_current_device())
    workload.release()
    assert clocks.captured, clocks.why_not


def test_host_time_is_seen_by_the_host_alone():
    small, large = torch.ones(1, device="cuda"), torch.ones(2**26, device="cuda")
    of = [device.measure(lambda x=x: x.sin, l2.of_current_device()) for x in (small, large)]
    device_seconds = [statistics.median(clocks.device_seconds) for clocks in of]
    host_seconds = [statistics.median(clocks.host_seconds) for clocks in of]
    assert device_seconds[1] > 5 * device_seconds[0]
    assert host_seconds[1] < 5 * host_seconds[0]
