"""Peak memory, to the byte, against the tensors that are known to be allocated."""

import pytest
import torch

import heads
from bench.measure import allocation, memory
from bench.measure.workload import Workload
from reports.results import PHASES, Cell

CPU = torch.device("cpu")
FLOAT = 4


def cell(head="softmax", phase="forward", classes=1000, batch=32, features=64, scope="isolated"):
    return Cell(scope, head, phase, classes, batch, features)


@pytest.mark.parametrize("sizes", [[1000], [1000, 3000], [5000, 100, 7000]])
def test_peak_is_the_sum_of_what_is_alive_at_once(sizes):
    def allocate():
        kept = [torch.empty(size, dtype=torch.uint8) for size in sizes]
        del kept

    assert memory.peak_bytes(allocate, CPU) == sum(sizes)


def test_peak_is_the_highest_level_not_the_sum_of_all_allocations():
    def allocate():
        for size in (3000, 5000, 4000):
            torch.empty(size, dtype=torch.uint8)

    assert memory.peak_bytes(allocate, CPU) == 5000


def test_what_was_allocated_before_does_not_count():
    kept = []

    def free_then_allocate():
        kept.clear()
        torch.empty(2000, dtype=torch.uint8)

    before = lambda: kept.append(torch.empty(10_000, dtype=torch.uint8))  # noqa: E731
    assert memory.peak_bytes(free_then_allocate, CPU, before) == 0


def test_nothing_allocated_is_no_memory():
    assert memory.peak_bytes(lambda: None, CPU) == 0


def test_softmax_forward_peaks_at_the_tensors_it_allocates():
    batch, classes = 32, 1000
    logits = batch * classes * FLOAT  # and as many log-probabilities
    used = memory.measure(Workload(cell(batch=batch, classes=classes)), "forward")
    small = used.peak_bytes - 2 * logits
    # What remains are per-sample vectors and scalars.
    assert 0 <= small <= 64 * batch


def test_softmax_parameters_and_gradients_are_counted_exactly():
    used = memory.measure(Workload(cell()), "train")
    parameters = (1000 * 64 + 1000) * FLOAT
    assert (used.parameter_bytes, used.gradient_bytes, used.optimizer_bytes) == (
        parameters,
        parameters,
        0,
    )


def test_the_path_gradient_holds_rows_on_the_path_only():
    sparse, dense = (
        memory.measure(Workload(cell(head, classes=2**14, batch=2)), "train").gradient_bytes
        for head in ("hierarchical", "hierarchical-dense")
    )
    assert sparse < dense / 50


@pytest.mark.parametrize("head", heads.names())
@pytest.mark.parametrize("phase", PHASES)
def test_a_cell_measures_the_same_first_and_last(head, phase):
    subject = cell(head, phase, classes=300, batch=8)
    first = memory.measure(Workload(subject), phase)
    for other in ("softmax", "hierarchical"):
        memory.measure(Workload(cell(other, classes=2000)), "train")
    assert memory.measure(Workload(subject), phase) == first


@pytest.mark.parametrize("head", heads.names())
@pytest.mark.parametrize("phase", PHASES)
def test_prediction_of_memory_is_not_below_what_is_used(head, phase):
    subject = cell(head, phase, classes=4000, batch=64)
    used = memory.measure(Workload(subject), phase)
    assert memory.predicted_bytes(subject) >= used.peak_bytes + used.parameter_bytes


def test_a_cell_that_cannot_fit_is_told_with_both_figures():
    assert "0.0 GiB are free on cpu" in memory.why_it_cannot_fit(cell(classes=2**20), 2**20)
    assert memory.why_it_cannot_fit(cell(classes=16), 2**20) == ""


def test_the_allocators_refusal_is_recognised():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    assert allocation.is_out_of_memory(refused.value)
    assert not allocation.is_out_of_memory(RuntimeError("shapes do not match"))


def test_what_the_fused_head_keeps_for_its_backward_is_counted():
    subject = Cell("isolated", "hierarchical-fused", "forward", 2**14, batch=64, features=32)
    used = memory.measure(Workload(subject), "forward")
    output, places_and_order = 64 * 4, 2 * 64 * 8
    slopes, jacobian = 64 * 14 * 4, 64 * 32 * 4
    assert used.peak_bytes >= output + places_and_order + slopes + jacobian
