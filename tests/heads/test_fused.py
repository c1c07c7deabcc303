"""The fused head's backward changes the head as the plain head's backward and SGD do."""

from __future__ import annotations

import copy
import gc
import weakref
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

import heads
from heads import paths
from heads.trees import Tree, balanced, huffman


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("num_classes", [2, 3, 100, 300, 5000, 12000])
def test_a_fused_backward_is_an_sgd_step(num_classes: int, ordered: bool) -> None:
    torch.manual_seed(0)
    order = torch.randperm(num_classes) if ordered else None
    head = heads.build("hierarchical-fused", 24, num_classes, order=order, learning_rate=0.7)
    exact = copy.deepcopy(head).double()
    optimizer = torch.optim.SGD(exact.parameters(), lr=0.7)
    features, target = torch.randn(40, 24), torch.randint(num_classes, (40,))
    weights = torch.rand(40)
    for _ in range(3):
        ours = features.clone().requires_grad_()
        reference = features.double().requires_grad_()
        output = head(ours, target).output
        expected = exact(reference, target).output
        optimizer.zero_grad()
        (-output @ weights / 40).backward()
        (-expected @ weights.double() / 40).backward()
        optimizer.step()
        torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad.double(), reference.grad, rtol=1e-4, atol=1e-6)
    for parameter, other in zip(head.parameters(), exact.parameters(), strict=True):
        assert parameter.grad is None
        torch.testing.assert_close(parameter.double(), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "num_classes", "options"),
    [
        *(("hierarchical-fused", size, {"learning_rate": 0.5}) for size in (2, 3, 100, 5000, 9000)),
        ("hierarchical", 5000, {}),
        ("hierarchical", 300, {"tree": balanced(300, 5)}),
        ("hierarchical", 100, {"tree": huffman(range(1, 101)), "pieces": 3}),
        ("two-level", 1000, {}),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2, 40, 1000])
def test_the_result_does_not_depend_on_the_number_of_threads(
    name: str,
    num_classes: int,
    options: dict[str, Any],
    batch_size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernels = pytest.importorskip("heads.paths_numba", reason="needs the optional extra 'fast'")
    monkeypatch.setattr(kernels, "WORK_PER_THREAD", 1)
    torch.manual_seed(0)
    head = heads.build(name, 31, num_classes, **options)
    other = copy.deepcopy(head)
    features, target = torch.randn(batch_size, 31), torch.randint(num_classes, (batch_size,))
    threads, results = torch.get_num_threads(), []
    try:
        for count, one in ((1, head), (2, other)):
            torch.set_num_threads(count)
            variable = features.clone().requires_grad_()
            output, loss = one(variable, target)
            loss.backward()
            gradients = [p.grad.to_dense() for p in one.parameters() if p.grad is not None]
            results.append((output.detach(), variable.grad, *one.parameters(), *gradients))
    finally:
        torch.set_num_threads(threads)
    for ours, expected in zip(*results, strict=True):
        assert ours is not None
        assert expected is not None
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("count", [1, 2])
def test_loops_start_as_many_threads_as_torch_has(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = pytest.importorskip("heads.paths_numba", reason="needs the optional extra 'fast'")
    if count > pytest.importorskip("numba").config.NUMBA_NUM_THREADS:
        pytest.skip("needs as many processors")
    monkeypatch.setattr(kernels, "WORK_PER_THREAD", 1)
    started: list[int] = []

    def noted(threads: int) -> AbstractContextManager[None]:
        started.append(threads)
        return nullcontext()

    monkeypatch.setattr(import_module("heads.loops"), "_numba_threads", noted)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        head = heads.build("hierarchical-fused", 24, 100)
        head(torch.randn(40, 24), torch.randint(100, (40,))).loss.backward()
    finally:
        torch.set_num_threads(threads)
    assert started == ([] if count == 1 else [count, count])  # scores, and the update


@pytest.mark.parametrize("tree", ["balanced", balanced(300, 5)], ids=["heap", "table"])
def test_numbas_number_of_threads_is_left_alone(
    tree: str | Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = pytest.importorskip("heads.paths_numba", reason="needs the optional extra 'fast'")
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(kernels, "WORK_PER_THREAD", 1)
    head = heads.build("hierarchical-fused", 8, 300, tree=tree)
    most, threads_of_torch = numba.get_num_threads(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for threads in {1, numba.config.NUMBA_NUM_THREADS}:
            numba.set_num_threads(threads)
            head(torch.randn(4, 8), torch.arange(4)).loss.backward()
            assert numba.get_num_threads() == threads
    finally:
        numba.set_num_threads(most)
        torch.set_num_threads(threads_of_torch)


def test_nothing_moves_in_evaluation_or_without_gradients_or_when_frozen() -> None:
    head = heads.build("hierarchical-fused", 24, 300, learning_rate=0.5)
    before = head.nodes.weight.detach().clone()
    features, target = torch.randn(4, 24, requires_grad=True), torch.arange(4)
    with torch.no_grad():
        head(features, target)
    head.eval()(features, target).loss.backward()
    head.train().requires_grad_(False)
    head(features, target).loss.backward()
    assert torch.equal(head.nodes.weight, before)


@pytest.mark.parametrize(
    "tree",
    [balanced(300, 5), huffman(1 / torch.arange(1, 301)), balanced(40, 40)],
    ids=["wide", "huffman", "flat"],
)
@pytest.mark.parametrize("pieces", [1, 3])
def test_any_trees_fused_backward_is_an_sgd_step(tree: Tree, pieces: int) -> None:
    torch.manual_seed(0)
    options = {"tree": tree, "pieces": pieces}
    head = heads.build("hierarchical-fused", 8, tree.num_classes, learning_rate=0.7, **options)
    plain = heads.build("hierarchical", 8, tree.num_classes, **options)
    plain.load_state_dict(head.state_dict())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.7)
    for _ in range(3):
        features, target = torch.randn(20, 8), torch.randint(tree.num_classes, (20,))
        optimizer.zero_grad()
        plain(features, target).loss.backward()
        optimizer.step()
        head(features, target).loss.backward()
    for ours, expected in zip(head.parameters(), plain.parameters(), strict=True):
        assert ours.grad is None
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["hierarchical", "hierarchical-fused", "two-level"])
def test_a_batch_is_freed_without_the_garbage_collector(name: str) -> None:
    head = heads.build(name, 8, 3000)
    # Compiling, if need be, leaves tracebacks behind, whose frames hold what they returned.
    head(torch.randn(4, 8, requires_grad=True), torch.arange(4)).output.sum().backward()
    gc.collect()
    gc.disable()
    try:
        output = head(torch.randn(4, 8, requires_grad=True), torch.arange(4)).output
        gone = weakref.ref(output)
        output.sum().backward()
        del output
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["hierarchical", "hierarchical-fused", "two-level"])
def test_a_loss_that_lives_on_keeps_nothing_of_its_walk(name: str) -> None:
    head = heads.build(name, 8, 3000)
    loss = head(torch.randn(4, 8, requires_grad=True), torch.arange(4)).loss
    walk = weakref.ref(loss.grad_fn.walk)
    loss.backward(retain_graph=True)
    assert walk() is not None
    loss.backward()
    assert walk() is None
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize("tree", ["balanced", balanced(300, 5)], ids=["heap", "table"])
def test_two_losses_of_one_backward_are_both_those_of_the_rows_before(
    tree: str | Tree, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernels:
        monkeypatch.setattr(paths, "optional", lambda module: None)
    torch.manual_seed(0)
    head = heads.build("hierarchical-fused", 8, 300, tree=tree, learning_rate=5.0)
    exact = copy.deepcopy(head).double()
    features, target = torch.randn(2, 20, 8), torch.randint(300, (2, 20))
    ours, reference = features.clone().requires_grad_(), features.double().requires_grad_()
    for module, given in ((head, ours), (exact, reference)):
        (module(given[0], target[0]).loss + module(given[1], target[1]).loss).backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad.double(), reference.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("tree", ["balanced", balanced(300, 5)], ids=["heap", "table"])
def test_half_frozen_the_rest_is_the_optimizers(tree: str | Tree, frozen: str) -> None:
    head = heads.build("hierarchical-fused", 8, 300, tree=tree, learning_rate=0.5)
    parameters = {name.split(".")[-1]: p for name, p in head.named_parameters()}
    parameters.pop(frozen).requires_grad_(False)
    before = copy.deepcopy(head.state_dict())
    head(torch.randn(4, 8), torch.arange(4)).loss.backward()
    torch.testing.assert_close(head.state_dict(), before, rtol=0, atol=0)
    (rest,) = parameters.values()
    assert rest.grad is not None


@pytest.mark.parametrize("name", ["hierarchical", "hierarchical-fused"])
@pytest.mark.parametrize("num_classes", [100, 300])
def test_a_weight_may_lie_transposed(name: str, num_classes: int) -> None:
    torch.manual_seed(0)
    head = heads.build(name, 8, num_classes)
    other = copy.deepcopy(head)
    other.nodes.weight = nn.Parameter(head.nodes.weight.detach().t().contiguous().t())
    assert paths.gathers(other.nodes.weight)
    features, target = torch.randn(20, 8), torch.randint(num_classes, (20,))
    for module in (head, other):
        module(features, target).loss.backward()
    for ours, expected in zip(other.parameters(), head.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)
        if expected.grad is not None:
            assert ours.grad is not None
            torch.testing.assert_close(ours.grad.to_dense(), expected.grad.to_dense())


def test_an_order_is_a_tree_and_only_one_can_be_had() -> None:
    with pytest.raises(ValueError, match="order and tree exclude each other"):
        heads.build("hierarchical-fused", 8, 3, order=[0, 2, 1], tree="huffman", counts=[1, 2, 3])
