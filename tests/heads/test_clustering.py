import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from sklearn.covariance import empirical_covariance

from heads.clustering import LARGEST, RIDGE, clustered, whitened_means
from heads.trees import Tree


def examples(classes: int, *, features: int = 6, per_class: int = 8, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, features, generator=generator, dtype=torch.float64)
    targets = torch.arange(classes).repeat(per_class)
    noise = torch.randn(len(targets), features, generator=generator, dtype=torch.float64)
    return centres[targets] + noise / 4, targets


def leaves_below(tree: Tree) -> dict[int, set[int]]:
    parents = tree.parents.tolist()
    below: dict[int, set[int]] = {}
    for leaf in range(tree.num_classes):
        node = leaf
        while node != -1:
            below.setdefault(node, set()).add(leaf)
            node = parents[node]
    return below


@given(classes=st.integers(2, 40), branching=st.integers(2, 8), seed=st.integers(0, 3))
def test_a_tree_of_all_classes_no_wider_than_asked_for(classes, branching, seed):
    tree = clustered(*examples(classes, seed=seed), classes, branching)
    children = torch.bincount(tree.parents[tree.parents >= 0] - classes)
    assert tree.num_classes == classes
    assert children.max() <= branching
    assert children.min() >= 2


def test_a_tree_as_wide_as_there_are_classes_is_flat():
    tree = clustered(*examples(9), 9, branching=9)
    assert tree.parents.tolist() == [9] * 9 + [-1]


def test_groups_that_lie_apart_are_branches():
    group_of = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    generator = torch.Generator().manual_seed(0)
    group_centres = 20 * torch.eye(3, dtype=torch.float64)
    centres = group_centres[group_of] + torch.randn(10, 3, generator=generator).double()
    targets = torch.arange(10).repeat(20)
    features = centres[targets] + 0.3 * torch.randn(200, 3, generator=generator)
    branches = leaves_below(clustered(features, targets, 10)).values()
    for group in range(3):
        assert set((group_of == group).nonzero().flatten().tolist()) in branches


def test_distances_are_mahalanobis_within_classes():
    features, targets = examples(5)
    means = np.stack([features[targets == c].mean(0).numpy() for c in range(5)])
    within = empirical_covariance(features.numpy() - means[targets], assume_centered=True)
    within += RIDGE * np.trace(within) / len(within) * np.eye(len(within))
    expected = pdist(means, "mahalanobis", VI=np.linalg.inv(within))
    found = pdist(whitened_means(features, targets, 5).numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((torch.zeros(3), torch.zeros(3, dtype=torch.int64), 2), "features must be"),
        ((torch.zeros(3, 1), torch.zeros(3), 2), "targets"),
        ((torch.full((3, 1), torch.nan), torch.zeros(3, dtype=torch.int64), 2), "finite"),
        ((torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64), LARGEST + 1), "num_classes"),
        ((torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64), 2, 1), "branching"),
    ],
)
def test_what_cannot_be_clustered_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        clustered(*arguments)
