"""A head that was loaded, copied or moved is the one that was saved, or loading refuses."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

import heads
from heads.trees import balanced, huffman

Make = Callable[[int], heads.Head]


def ordered(name: str, num_classes: int, **options: int) -> Make:
    """A head with an order that follows from a seed; with none for seed 0."""

    def make(seed: int) -> heads.Head:
        torch.manual_seed(seed)
        if not seed:
            return heads.build(name, 8, num_classes, **options)
        if name == "adaptive":
            return heads.build(name, 8, num_classes, counts=torch.rand(num_classes))
        order = torch.randperm(num_classes)
        option = "tree" if name == "hierarchical" else "order"
        return heads.build(name, 8, num_classes, **{option: order}, **options)

    return make


def skewed(seed: int) -> heads.Head:
    """A tree that is not even balanced, but has as many rows whatever the seed."""
    torch.manual_seed(seed)
    tree = huffman(torch.rand(700) ** 4) if seed else balanced(700)
    return heads.build("hierarchical", 8, 700, tree=tree)


ORDERED = [name for name in heads.names() if "hierarchical" in name or name == "adaptive"]
HEADS: dict[str, Make] = {
    **{f"{name}-{n}": ordered(name, n) for name in ORDERED for n in (100, 700)},
    "wide-100": ordered("hierarchical", 100, branching=4),
    "wide-700": ordered("hierarchical", 700, branching=4),
    "skewed": skewed,
}


def answers(head: heads.Head) -> list[Tensor]:
    torch.manual_seed(0)
    features, target = torch.randn(20, 8), torch.randint(head.num_classes, (20,))
    variable = features.clone().requires_grad_()
    output, loss = head.eval()(variable, target)
    gradients = torch.autograd.grad(loss, [variable, *head.parameters()])
    found = [output, head.log_prob(features), *head.topk(features, 3), head.predict(features)]
    return [*found, *(gradient.to_dense() for gradient in gradients)]


def assert_same(ours: heads.Head, saved: heads.Head) -> None:
    for actual, expected in zip(answers(ours), answers(saved), strict=True):
        assert torch.equal(actual, expected)
    output, log_prob = answers(ours)[:2]
    torch.manual_seed(0)
    torch.randn(20, 8)
    target = torch.randint(ours.num_classes, (20,))
    torch.testing.assert_close(output, log_prob.gather(1, target.unsqueeze(1)).squeeze(1))


def saved_and_loaded(head: heads.Head) -> dict[str, Tensor]:
    buffer = io.BytesIO()
    torch.save(head.state_dict(), buffer)
    buffer.seek(0)
    loaded: dict[str, Tensor] = torch.load(buffer)
    return loaded


@pytest.mark.parametrize("seeds", [(1, 2), (1, 0), (0, 1)], ids=["other", "none", "some"])
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_loading_makes_it_the_saved_head(make: Make, strict: bool, seeds: tuple[int, int]) -> None:
    saved, other = (make(seed) for seed in seeds)
    other.load_state_dict(saved_and_loaded(saved), strict=strict)
    assert_same(other, saved)


@pytest.mark.parametrize("assign", [True, False])
@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_so_does_loading_into_a_head_without_memory(make: Make, assign: bool) -> None:
    saved = make(1)
    with torch.device("meta"):
        other = make(0)
    if not assign:
        other = other.to_empty(device="cpu")
    other.load_state_dict(saved.state_dict(), assign=assign)
    assert_same(other, saved)


@pytest.mark.parametrize("seeds", [(1, 2), (1, 0), (0, 1)], ids=["other", "none", "some"])
@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
@pytest.mark.filterwarnings("ignore")  # torch's own, about its own calls
def test_so_does_a_distributed_checkpoint(
    make: Make, seeds: tuple[int, int], tmp_path: Path
) -> None:
    saved, other = (make(seed) for seed in seeds)
    dcp.save({"head": saved}, checkpoint_id=tmp_path, no_dist=True)
    dcp.load({"head": other}, checkpoint_id=tmp_path, no_dist=True)
    assert_same(other, saved)


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "save", "to"])
@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_a_copy_is_the_head(make: Make, how: str) -> None:
    saved = make(1)
    if how == "pickle":
        other = pickle.loads(pickle.dumps(saved))
    elif how == "deepcopy":
        other = copy.deepcopy(saved)
    elif how == "save":
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        buffer.seek(0)
        other = torch.load(buffer, weights_only=False)
    else:
        other = copy.deepcopy(saved).double().float()
    assert_same(other, saved)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda head: pickle.loads(pickle.dumps(head))])
@pytest.mark.parametrize("name", ["hierarchical", "two-level", "sampled"])
def test_a_copys_gradients_are_coalesced_like_the_originals(
    name: str, copied: Callable[[heads.Head], heads.Head]
) -> None:
    head = copied(heads.build(name, 8, 5000))
    head(torch.randn(6, 8), torch.arange(6)).loss.backward()
    gradients = [parameter.grad for parameter in head.parameters()]
    assert all(gradient is not None and gradient.is_coalesced() for gradient in gradients)


def test_a_tree_with_another_number_of_rows_is_refused_and_nothing_changes() -> None:
    saved = heads.build("hierarchical", 8, 300, branching=4)
    other = heads.build("hierarchical", 8, 300, branching=7)
    before = answers(other)
    with pytest.raises(ValueError, match=r"has \d+ rows where this head's has \d+") as error:
        other.load_state_dict(saved.state_dict())
    assert "\n" not in str(error.value)
    assert all(torch.equal(a, b) for a, b in zip(answers(other), before, strict=True))


def test_the_order_of_other_classes_is_refused_and_nothing_changes() -> None:
    saved = heads.build("hierarchical", 8, 30, tree=torch.randperm(30))
    other = heads.build("hierarchical", 8, 31)
    before = answers(other)
    with pytest.raises(ValueError, match=r"permutation of the classes 0\.\.30"):
        other.load_state_dict(saved.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(answers(other), before, strict=True))


def test_a_head_with_a_dense_gradient_takes_over_the_order_as_well() -> None:
    saved = HEADS["hierarchical-700"](1)
    dense = heads.build("hierarchical-dense", 8, 700)
    dense.load_state_dict(saved.state_dict())
    features = torch.randn(5, 8)
    assert torch.equal(dense.log_prob(features), saved.log_prob(features))
