"""Counted work against independent counts: torch's operator counter, and sets of rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, flop_registry

import heads
from heads import paths
from heads.tree_softmax import TreeSoftmax
from heads.trees import Tree, balanced

BATCH, FEATURES = 12, 8
IN_PLACE = {torch.ops.aten.addmm_: flop_registry[torch.ops.aten.addmm].__wrapped__}
"""A product that torch's counter does not know of."""


def counted(name: str, num_classes: int, targets: Tensor | None = None) -> dict[str, int]:
    """Multiply-adds of the matrix products that torch dispatches, per phase."""
    head = heads.build(name, FEATURES, num_classes)
    features = torch.randn(BATCH, FEATURES, requires_grad=True)
    target = torch.arange(BATCH) * num_classes // BATCH if targets is None else targets
    with FlopCounterMode(display=False) as forward:
        loss = head(features, target).loss
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as backward:
        loss.backward()
    with torch.no_grad(), FlopCounterMode(display=False) as predict:
        head.predict(features)
    return {
        "forward": forward.get_total_flops() // 2,
        "backward": backward.get_total_flops() // 2,
        "predict": predict.get_total_flops() // 2,
    }


@pytest.mark.parametrize("num_classes", [2, 12, 60, 1200])
@pytest.mark.parametrize("name", ["softmax", "gumbel", "gumbel-normal", "hierarchical-dense"])
def test_multiply_adds_are_those_torch_counts(name: str, num_classes: int) -> None:
    head = heads.build(name, FEATURES, num_classes)
    for phase, multiply_adds in counted(name, num_classes).items():
        assert head.cost(phase, BATCH).multiply_adds == multiply_adds, phase


@pytest.mark.parametrize("num_classes", [12, 60, 240])
def test_adaptive_multiply_adds_are_those_torch_counts(num_classes: int) -> None:
    head = heads.build("adaptive", FEATURES, num_classes)
    counts = counted("adaptive", num_classes)
    for phase in ("forward", "backward"):
        assert head.cost(phase, BATCH).multiply_adds == counts[phase], phase
    # Unless the short list wins everywhere, torch scores what predict's worst case counts.
    assert counts["predict"] <= head.cost("predict", BATCH).multiply_adds


@pytest.mark.parametrize("num_classes", [2, 100, 256])
def test_small_hierarchical_multiply_adds_are_those_torch_counts(
    num_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "optional", lambda module: None)
    head = heads.build("hierarchical", FEATURES, num_classes)
    for phase, multiply_adds in counted("hierarchical", num_classes).items():
        assert head.cost(phase, BATCH).multiply_adds == multiply_adds, phase


@pytest.mark.parametrize("tree", [balanced(600, 3), balanced(3000, 8)], ids=["few", "wide"])
def test_a_trees_multiply_adds_are_those_of_its_kernels(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels have the rows at hand in the forward and make the input's gradient there."""
    head = heads.build("hierarchical", FEATURES, tree.num_classes, tree=tree)
    assert isinstance(head, TreeSoftmax)
    assert not head.dense
    fused = heads.build("hierarchical-fused", FEATURES, tree.num_classes, tree=tree)
    with monkeypatch.context() as patched:
        patched.setattr(paths, "optional", lambda module: None)
        plain = {phase: head.cost(phase, BATCH) for phase in ("forward", "backward")}
    monkeypatch.setattr(paths, "optional", lambda module: object())
    compiled = {phase: head.cost(phase, BATCH) for phase in ("forward", "backward")}
    assert plain["backward"].multiply_adds == 2 * plain["forward"].multiply_adds
    assert compiled["forward"] == fused.cost("forward", BATCH)
    products = [sum(c.multiply_adds for c in costs.values()) for costs in (plain, compiled)]
    assert products[1] == products[0] + BATCH * FEATURES


def test_few_rows_cost_what_walking_them_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where loops walk the paths, only the gradient and the step are of all rows."""
    head = heads.build("two-level", FEATURES, 100)
    assert isinstance(head, TreeSoftmax)
    rows, batch = head.rows.out_features, 2
    scored = round(batch * float(head.scored.double().mean()))
    assert scored < rows // 2
    monkeypatch.setattr(paths, "optional", lambda module: None)
    assert head.cost("forward", batch).multiply_adds == batch * rows * FEATURES
    monkeypatch.setattr(paths, "optional", lambda module: object())
    assert head.cost("forward", batch).multiply_adds == 2 * scored * FEATURES
    assert head.cost("backward", batch).multiply_adds == (scored + batch) * FEATURES
    assert head.cost("step", batch).multiply_adds == rows * (FEATURES + 1)
    # The jacobian and the input are read, slopes too; all rows' gradient and the input's written.
    elements = 3 * batch * FEATURES + scored + rows * (FEATURES + 1)
    assert head.cost("backward", batch).bytes == 4 * elements + 8 * batch


@pytest.mark.parametrize("draws", [1, 3])
def test_noise_in_slices_costs_what_the_chunked_softmax_does(
    draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = SimpleNamespace(ELEMENTS=1)
    for module in ("heads.gumbel", "heads.softmax_chunked"):
        monkeypatch.setattr(f"{module}.kernels", lambda weight: slices)
    head = heads.build("gumbel", FEATURES, 1000, draws=draws)
    chunked = heads.build("softmax-chunked", FEATURES, 1000)
    for phase in ("forward", "backward"):
        assert head.cost(phase, BATCH) == chunked.cost(phase, draws * BATCH)
    assert head.cost("backward", BATCH).multiply_adds == 3 * draws * BATCH * 1000 * FEATURES
    usual = heads.build("gumbel", FEATURES, 1000, hard=True)  # no kernel's
    assert usual.cost("backward", BATCH).multiply_adds == 2 * BATCH * 1000 * FEATURES


@pytest.mark.parametrize("name", heads.names())
@pytest.mark.parametrize("num_classes", [2, 100, 1000])
def test_train_is_forward_and_backward_and_step(name: str, num_classes: int) -> None:
    head = heads.build(name, FEATURES, num_classes)
    parts = [head.cost(phase, BATCH) for phase in ("forward", "backward", "step")]
    train = head.cost("train", BATCH)
    assert train.multiply_adds == sum(part.multiply_adds for part in parts)
    assert train.bytes == sum(part.bytes for part in parts)


@pytest.mark.parametrize("name", ["softmax", "softmax-chunked", "gumbel", "hierarchical"])
def test_what_a_head_would_cost_is_known_before_it_has_memory(name: str) -> None:
    with torch.device("meta"):
        head = heads.build(name, FEATURES, 2**24)
    for phase in get_args(heads.Phase):
        assert head.cost(phase, BATCH).multiply_adds > 0


@pytest.mark.parametrize("name", heads.names())
def test_counts_are_positive_integers_and_grow_with_the_batch(name: str) -> None:
    head = heads.build(name, FEATURES, 1000)
    for phase in get_args(heads.Phase):
        small, large = head.cost(phase, 10), head.cost(phase, 1000)
        assert all(isinstance(figure, int) for figure in small)
        # A head that updates itself in the backward leaves nothing to the step.
        assert min(small) > 0 or (phase == "step" and small == (0, 0))
        assert small.multiply_adds <= large.multiply_adds
        assert small.bytes <= large.bytes


@pytest.mark.parametrize("name", heads.names())
def test_bytes_follow_the_dtype(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "optional", lambda module: None)  # as some kernels are float32's
    head = heads.build(name, FEATURES, 1000)
    single = head.cost("train", BATCH).bytes
    double = head.double().cost("train", BATCH).bytes
    assert single < double <= 2 * single


@pytest.mark.parametrize("name", heads.names())
def test_an_unknown_phase_is_answered_with_the_list(name: str) -> None:
    with pytest.raises(ValueError, match="forward, backward, step, train, predict"):
        heads.build(name, FEATURES, 10).cost("update", BATCH)  # type: ignore[arg-type]


def test_softmax_bytes_are_those_of_the_tensors_it_moves() -> None:
    """Forward: all parameters and inputs, what autograd saves, and the output."""
    head = heads.build("softmax", FEATURES, 100)
    features, target = torch.randn(BATCH, FEATURES), torch.arange(BATCH)
    saved: dict[int, int] = {}
    own = {t.data_ptr() for t in (features, target, *head.parameters())}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own and tensor.dim() > 0:
            saved[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = head(features, target).output
    moved = [features, target, output, *head.parameters()]
    expected = sum(tensor.nbytes for tensor in moved) + sum(saved.values())
    assert head.cost("forward", BATCH).bytes == expected
    output.mean().backward()
    parameters = list(head.parameters())
    assert head.cost("step", BATCH).bytes == sum(2 * p.nbytes + p.grad.nbytes for p in parameters)


def path_rows(num_classes: int, targets: list[int]) -> list[int]:
    """Every row on every path, with repetitions, by walking up the heap."""
    rows = []
    for target in targets:
        node = target + num_classes
        while node > 1:
            node //= 2
            rows.append(node)
    return rows


@pytest.mark.parametrize("num_classes", [512, 1000, 1024, 4096])
@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_rows_touched_is_reached_by_a_batch_spread_over_the_leaves(
    num_classes: int, batch_size: int
) -> None:
    """The bound holds for any batch; a batch spread evenly over the leaves of a perfect tree
    attains it."""
    head = heads.build("hierarchical", FEATURES, num_classes)
    spread = [i * num_classes // batch_size for i in range(batch_size)]
    rows = path_rows(num_classes, spread)
    assert len(set(rows)) <= head.rows_touched(batch_size)
    if num_classes & (num_classes - 1) == 0:
        assert len(set(rows)) == head.rows_touched(batch_size)
        # The scores, the rows' gradients and the input's, wherever that is made.
        phases = [head.cost(phase, batch_size).multiply_adds for phase in ("forward", "backward")]
        assert sum(phases) in (3 * len(rows) * FEATURES, (3 * len(rows) + batch_size) * FEATURES)
        assert head.cost("step", batch_size).multiply_adds == len(set(rows)) * (FEATURES + 1)
    assert head.rows_touched(num_classes) == num_classes - 1


def test_hierarchical_step_bytes_are_those_of_its_gradient_and_its_rows() -> None:
    num_classes, batch_size = 1024, 8
    head = heads.build("hierarchical", FEATURES, num_classes)
    target = torch.arange(batch_size) * num_classes // batch_size
    head(torch.randn(batch_size, FEATURES), target).loss.backward()
    gradients = [parameter.grad for parameter in head.parameters()]
    held = sum(g.values().nbytes + g.indices().nbytes for g in gradients)
    distinct = len(set(path_rows(num_classes, target.tolist())))
    rows = 2 * distinct * (FEATURES + 1) * 4
    assert head.cost("step", batch_size).bytes == held + rows


def test_the_dense_gradient_is_visible_in_the_bytes() -> None:
    """One algorithm, two complexities: only the dense gradient's traffic grows with n."""

    def growth(name: str, phase: heads.Phase) -> float:
        small, large = (heads.build(name, FEATURES, n).cost(phase, 4).bytes for n in (2**10, 2**15))
        return large / small

    for phase in ("backward", "step"):
        assert growth("hierarchical", phase) < 1.6
        assert growth("hierarchical-dense", phase) > 25
    assert growth("hierarchical-dense", "forward") < 1.6


def test_a_fused_step_moves_each_row_three_times() -> None:
    """Read in the forward, read and written in the backward: what no update can do without."""
    shallow, deep = (heads.build("hierarchical-fused", FEATURES, n) for n in (2**10, 2**15))
    row, slope = (FEATURES + 1) * 4, 4
    for batch_size in (1, 4):
        more = deep.cost("train", batch_size).bytes - shallow.cost("train", batch_size).bytes
        assert more == batch_size * 5 * (3 * row + 2 * slope)
