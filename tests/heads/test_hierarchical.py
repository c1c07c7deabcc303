"""The heap's paths, the padded tree's leak, and the gradient that decides O(log n) or O(n)."""

from __future__ import annotations

import math

import pytest
import torch

import heads
from heads.heap import heap_path

variants = pytest.mark.parametrize(
    "name", ["hierarchical", "hierarchical-dense", "hierarchical-padded"]
)


def walked_log_prob(head: heads.Head, features: list[float], target: int, leaves: int) -> float:
    """One class's log-probability, by walking up the heap in plain Python."""
    weight, bias = head.nodes.weight.tolist(), head.nodes.bias.tolist()
    node, total = target + leaves, 0.0
    while node > 1:
        parent = node // 2
        score = bias[parent - 1] + sum(
            w * x for w, x in zip(weight[parent - 1], features, strict=True)
        )
        total -= math.log1p(math.exp(-score if node % 2 else score))
        node = parent
    return total


@variants
@pytest.mark.parametrize("num_classes", [2, 3, 7, 100, 300])
def test_log_prob_is_the_product_of_decisions(name: str, num_classes: int) -> None:
    torch.manual_seed(0)
    head = heads.build(name, 4, num_classes).double()
    leaves = 2 ** math.ceil(math.log2(num_classes)) if "padded" in name else num_classes
    features = torch.randn(3, 4, dtype=torch.float64)
    expected = [
        [walked_log_prob(head, row, target, leaves) for target in range(num_classes)]
        for row in features.tolist()
    ]
    torch.testing.assert_close(head.log_prob(features), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("num_classes", [*range(2, 70), 100, 1000])
def test_padded_tree_leaks_the_share_of_unused_leaves(num_classes: int) -> None:
    head = heads.build("hierarchical-padded", 4, num_classes).double()
    torch.nn.init.zeros_(head.nodes.weight)
    torch.nn.init.zeros_(head.nodes.bias)
    mass = head.log_prob(torch.ones(1, 4, dtype=torch.float64)).exp().sum()
    leaves = 2 ** math.ceil(math.log2(num_classes))
    assert float(mass.detach()) == pytest.approx(num_classes / leaves, abs=1e-12)
    if num_classes == 100:
        assert float(mass.detach()) == pytest.approx(100 / 128)


def test_padded_tree_is_the_published_one() -> None:
    """Class y at node y + 127, parents (i - 1) // 2, counting the root as 0."""
    rows, signs, _, _ = heap_path(torch.arange(100), 128)
    for target in range(100):
        node, published = target + 127, []
        while node > 0:
            node = (node - 1) // 2
            published.append(node)
        assert rows[target].tolist() == published[::-1]
    assert signs.abs().min() == 1


@pytest.mark.parametrize("num_classes", [2, 3, 5, 6, 100, 1023, 1024, 1025])
def test_every_node_decides_both_ways_and_every_path_starts_at_the_root(num_classes: int) -> None:
    rows, signs, _, _ = heap_path(torch.arange(num_classes), num_classes)
    for sign in (-1, 1):
        assert set(rows[signs == sign].tolist()) == set(range(num_classes - 1))
    assert (rows[:, 0] == 0).all()
    assert (signs[:, 0] != 0).all()


@pytest.mark.parametrize("num_classes", [2, 3, 5, 6, 100, 1023, 1024, 1025])
def test_from_left_to_right_the_rows_of_each_level_ascend(num_classes: int) -> None:
    """What lets the gradient be grouped without sorting."""
    rows, _, _, places = heap_path(torch.arange(num_classes), num_classes)
    level_by_level = rows[places.argsort()].t().flatten()
    assert (level_by_level.diff() >= 0).all()


def test_sparse_gradient_holds_the_rows_on_the_paths_and_no_others() -> None:
    head = heads.build("hierarchical", 4, 1000)
    target = torch.tensor([0, 17, 999])
    head(torch.randn(3, 4), target).loss.backward()
    gradient = head.nodes.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    assert gradient.is_coalesced()
    rows, signs, _, _ = heap_path(target, 1000)
    assert gradient.indices()[0].tolist() == sorted(set(rows[signs != 0].tolist()))


@pytest.mark.parametrize("num_classes", [3, 100, 257, 1000])
def test_sparse_and_dense_gradients_train_alike(num_classes: int) -> None:
    torch.manual_seed(0)
    sparse = heads.build("hierarchical", 4, num_classes).double()
    dense = heads.build("hierarchical-dense", 4, num_classes).double()
    dense.load_state_dict(sparse.state_dict())
    for head in (sparse, dense):
        optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
        generator = torch.Generator().manual_seed(1)
        for _ in range(20):
            features = torch.randn(16, 4, dtype=torch.float64, generator=generator)
            target = torch.randint(num_classes, (16,), generator=generator)
            optimizer.zero_grad()
            head(features, target).loss.backward()
            optimizer.step()
    torch.testing.assert_close(sparse.state_dict(), dense.state_dict())


def test_gradients_accumulate_over_batches() -> None:
    """The second backward adds rows to the first's: no longer coalesced, but still right."""
    torch.manual_seed(0)
    head = heads.build("hierarchical", 4, 1000).double()
    features = torch.randn(6, 4, dtype=torch.float64)
    target = torch.randint(1000, (6,))
    for part in (slice(0, 3), slice(3, 6)):
        (head(features[part], target[part]).loss / 2).backward()
    summed = [parameter.grad.to_dense() for parameter in head.parameters()]
    head.zero_grad()
    head(features, target).loss.backward()
    for gradient, parameter in zip(summed, head.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad.to_dense())
