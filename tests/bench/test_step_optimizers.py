"""Every optimizer makes a real step, leaves the head alone, and is counted with its state."""

import pytest
import torch

import heads
from bench.measure import memory, optimizers, workload
from bench.measure.optimizers import RECIPES, Optimizer
from bench.measure.workload import Workload
from heads import Cost
from reports.results import Cell

CLASSES, FEATURES, BATCH = 600, 16, 4  # enough classes for row-sparse gradients
STEPS_BY_ITSELF = ("hierarchical-fused",)


def cell(head="hierarchical", phase="train", optimizer="adam", classes=CLASSES, **others):
    return Cell("isolated", head, phase, classes, BATCH, FEATURES, optimizer=optimizer, **others)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("optimizer", RECIPES)
@pytest.mark.parametrize("head", [name for name in heads.names() if name not in STEPS_BY_ITSELF])
def test_steps_leave_the_parameters_alone(head, optimizer, dtype):
    subject = Workload(cell(head, optimizer=optimizer, dtype=dtype))
    before = [parameter.clone() for parameter in subject.parameters]
    call = subject.prepare("train").once
    for _ in range(3):
        call()
    for parameter, old in zip(subject.parameters, before, strict=True):
        assert torch.equal(parameter, old)


# SparseAdam is another algorithm than Adam: the moments of other rows stay as they are.
@pytest.mark.parametrize("optimizer", sorted(RECIPES.keys() - {"adam"}))
def test_a_row_sparse_gradient_moves_what_its_dense_twin_does(optimizer):
    moved = []
    for dense in (False, True):
        torch.manual_seed(0)
        parameter = torch.nn.Parameter(start := torch.randn(10, 3))
        before = start.clone()
        ours = Optimizer(optimizer, [parameter])
        for step in range(4):
            rows = torch.tensor([[step, step + 1, step]])
            gradient = torch.sparse_coo_tensor(
                rows, torch.randn(3, 3), (10, 3), check_invariants=True
            )
            parameter.grad = gradient.to_dense() if dense else gradient
            ours.step()
            for made in ours._made:
                made.param_groups[0]["lr"] = 0.1
        moved.append(parameter.detach())
    torch.testing.assert_close(*moved)
    assert (moved[0] != before)[1:5].all()


@pytest.mark.parametrize("optimizer", RECIPES)
def test_a_gradient_is_as_sparse_after_a_step_as_before(optimizer):
    subject = Workload(cell(optimizer=optimizer))
    subject.prepare("step").once()
    assert all(parameter.grad.is_sparse for parameter in subject.parameters)


@pytest.mark.parametrize(
    ("optimizer", "copies"),
    [("sgd", 0), ("momentum", 1), ("adam", 2), ("adamw", 2), ("adagrad", 1)],
)
@pytest.mark.parametrize("head", ["softmax", "hierarchical"])
def test_the_state_is_counted_and_lies_outside_the_phases_peak(head, optimizer, copies):
    first = memory.measure(Workload(cell(head, optimizer=optimizer)), "step")
    steps_counted = 64  # a scalar per parameter tensor
    assert 0 <= first.optimizer_bytes - copies * first.parameter_bytes <= steps_counted
    subject = Workload(cell(head, optimizer=optimizer))
    memory.measure(subject, "step")
    later = memory.measure(subject, "step")  # other targets: a few more or fewer rows
    assert abs(later.peak_bytes - first.peak_bytes) < first.parameter_bytes / 10


@pytest.mark.parametrize("phase", ["step", "train"])
@pytest.mark.parametrize("optimizer", RECIPES)
@pytest.mark.parametrize("head", ["softmax", "hierarchical", "adaptive"])
def test_prediction_of_memory_holds_the_state(head, optimizer, phase):
    subject = cell(head, phase, optimizer, classes=4000)
    used = memory.measure(Workload(subject), phase)
    held = used.parameter_bytes + used.optimizer_bytes
    assert memory.predicted_bytes(subject) >= used.peak_bytes + held


@pytest.mark.parametrize("phase", ["step", "train"])
def test_what_is_measured_allocates_no_state(phase):
    subject = Workload(cell(optimizer="adam"))
    subject.prepare(phase)
    assert subject.optimizer.ready


def test_counts_of_plain_sgd_are_the_heads_own():
    for phase in ("forward", "backward", "step", "train", "predict"):
        subject = Workload(cell(phase=phase, optimizer="sgd"))
        assert subject.cost(phase) == subject.module.cost(phase, BATCH)


@pytest.mark.parametrize(
    ("optimizer", "multiply_adds", "bytes_each"),
    [
        # Per weight, in float32: gradient, weight and state, each read, the latter two written.
        ("sgd", 1, 4 * (1 + 2)),
        ("momentum", 2, 4 * (1 + 2 + 2)),
        ("adam", 4, 4 * (1 + 2 + 4)),
        ("adamw", 5, 4 * (1 + 2 + 4)),
        ("adagrad", 2, 4 * (1 + 2 + 2)),
    ],
)
def test_a_dense_step_is_counted_weight_by_weight(optimizer, multiply_adds, bytes_each):
    weights = CLASSES * FEATURES + CLASSES
    counted = Workload(cell("softmax", optimizer=optimizer)).cost("step")
    assert counted == Cost(multiply_adds * weights, bytes_each * weights)


@pytest.mark.parametrize("optimizer", RECIPES)
def test_a_step_of_rows_grows_with_the_classes_only_if_all_rows_move(optimizer):
    few, many = (
        Workload(cell(optimizer=optimizer, classes=classes)).cost("step").bytes
        for classes in (2**10, 2**14)
    )
    assert (many < 2 * few) == (optimizer in ("sgd", "adam", "adagrad"))


def test_the_counted_train_is_the_sum_of_its_parts():
    subject = Workload(cell(optimizer="adamw"))
    parts = [subject.cost(phase) for phase in ("forward", "backward", "step")]
    assert subject.cost("train") == Cost(*map(sum, zip(*parts, strict=True)))


def test_a_head_that_steps_by_itself_is_measured_under_plain_sgd_only():
    assert workload.why_not(cell("hierarchical-fused", optimizer="sgd")) == ""
    assert "makes the step itself" in workload.why_not(cell("hierarchical-fused"))


def test_an_unknown_optimizer_is_refused_by_name():
    assert "'lion'; there are: sgd, momentum" in workload.why_not(cell(optimizer="lion"))
    assert "plain SGD" in workload.why_not(cell("fasttext"))


def test_torchs_own_momentum_ends_with_every_row_in_its_buffer():
    """Why it is made dense here: the first steps are cheaper than those of a long training."""
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.zeros(100, 2))
    theirs = torch.optim.SGD([parameter], lr=0.0, momentum=optimizers.MOMENTUM)
    rows_kept = []
    for _ in range(300):
        rows = torch.randint(100, (1, 10))
        parameter.grad = torch.sparse_coo_tensor(
            rows, torch.ones(10, 2), (100, 2), check_invariants=True
        ).coalesce()
        theirs.step()
        rows_kept.append(theirs.state[parameter]["momentum_buffer"]._nnz())
    assert rows_kept[0] <= 10
    assert rows_kept[-1] == 100
