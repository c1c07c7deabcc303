"""Every phase of every head can be called again and again, and leaves the head as it was."""

import pytest
import torch

import heads
from bench.measure import workload
from bench.measure.workload import Workload
from reports.results import PHASES, Cell


@pytest.fixture(params=["isolated", "in-model"])
def scope(request):
    return request.param


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("head", heads.names())
def test_a_phase_repeats_and_leaves_the_parameters_alone(scope, head, phase):
    workload = Workload(Cell(scope, head, phase, classes=50, batch=4, features=16))
    before = [parameter.clone() for parameter in workload.parameters]
    timed = workload.prepare(phase)
    for _ in range(3):
        timed.once()
    for parameter, old in zip(workload.parameters, before, strict=True):
        torch.testing.assert_close(parameter, old, rtol=0, atol=0)


@pytest.mark.parametrize("head", heads.names())
def test_backward_gives_what_a_training_step_leaves_behind(head):
    cell = Cell("isolated", head, "backward", classes=50, batch=4, features=16)
    workload, twin = Workload(cell), Workload(cell)
    torch.manual_seed(3)  # some heads draw noise or samples
    workload.backward(workload.loss())
    torch.manual_seed(3)
    twin.prepare("backward").once()
    assert_same_gradients(workload, twin)
    assert workload.input.grad is not None


def assert_same_gradients(workload, twin):
    for ours, theirs in zip(gradients(workload), gradients(twin), strict=True):
        if ours is None:
            assert theirs is None
        else:
            torch.testing.assert_close(ours.to_dense(), theirs.to_dense())


def gradients(workload):
    return [tensor.grad for tensor in (*workload.parameters, workload.input)]


def test_backward_takes_a_fresh_graph_of_other_targets_each_time():
    workload = Workload(Cell("isolated", "softmax", "backward", classes=50, batch=4, features=16))
    call, forward, *_ = workload.prepare("backward")
    seen = []
    for _ in range(3):
        forward()
        call()
        seen.append(workload.input.grad)
    assert not torch.equal(seen[0], seen[1])
    with pytest.raises(IndexError):
        call()  # the graph is used up


@pytest.mark.parametrize("head", heads.names())
def test_a_step_after_backward_finds_its_gradients_there(head, monkeypatch):
    workload = Workload(Cell("isolated", head, "backward", classes=50, batch=4, features=16))
    workload.prepare("backward").once()
    before = gradients(workload)
    if all(one is None for one in before[:-1]):
        pytest.skip("the head makes the step itself, without gradients")
    monkeypatch.setattr(workload, "loss", lambda: pytest.fail("a graph was built again"))
    workload.prepare("step").once()
    assert all(one is other for one, other in zip(gradients(workload), before, strict=True))


def test_the_same_cell_is_built_the_same_way_twice():
    one, two = (Workload(Cell("isolated", "softmax", "train", 10, 4, 8)) for _ in range(2))
    assert torch.equal(one.input, two.input)
    assert all(map(torch.equal, one.targets, two.targets))
    assert all(map(torch.equal, one.parameters, two.parameters))


def test_each_forward_sees_other_targets():
    workload = Workload(Cell("isolated", "softmax", "forward", classes=1000, batch=4, features=8))
    forward = workload.prepare("forward").call
    losses = {float(forward()) for _ in workload.targets}
    assert len(losses) == len(workload.targets)


@pytest.mark.parametrize("head", heads.names())
def test_a_process_meets_each_head_once_on_a_small_twin(scope, head, monkeypatch):
    built, made = [], workload.build_module
    monkeypatch.setattr(workload, "build_module", lambda cell: built.append(cell) or made(cell))
    workload._acquaint.cache_clear()
    for classes, batch in ((10**9, 128), (16, 4)):
        workload.acquaint(Cell(scope, head, "train", classes, batch, features=16))
    assert [(cell.head, cell.classes, cell.batch) for cell in built] == [(head, 512, 2)]
