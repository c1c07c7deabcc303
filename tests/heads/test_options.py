"""Values of a user's own: taken as they are, or refused in one line that names the option."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import heads
from heads.gumbel import Annealing
from heads.tree_softmax import TreeSoftmax
from heads.trees import balanced

NO_INTEGER: tuple[Any, ...] = (2.5, 3.0, math.nan, math.inf, True, "4", None, [3], torch.ones(3))
NO_NUMBER: tuple[Any, ...] = (math.nan, math.inf, -1.0, True, "0.1", None, [0.1], 10**400)
NAN_AT_LAST = [1.0] * 9 + [math.nan]
EXAMPLES = (torch.randn(40, 8), torch.arange(40) % 10)


def refused(name: str, option: str, value: Any, **others: Any) -> None:
    with pytest.raises(ValueError, match=option) as error:
        heads.build(name, 8, 10, **{option: value}, **others)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", NO_INTEGER, ids=repr)
@pytest.mark.parametrize("name", heads.names())
def test_sizes_are_integers(name: str, value: Any) -> None:
    for sizes, which in (((value, 10), "in_features"), ((8, value), "num_classes")):
        with pytest.raises(ValueError, match=f"{which} must be an integer") as error:
            heads.build(name, *sizes)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="k must be an integer"):
        heads.build(name, 8, 10).topk(torch.zeros(1, 8), value)


@pytest.mark.parametrize("value", [*NO_INTEGER, 0, -1], ids=repr)
@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("sampled", "num_sampled"),
        ("gumbel", "draws"),
        ("hierarchical", "branching"),
        ("hierarchical", "pieces"),
    ],
)
def test_counts_of_things_are_integers_of_at_least_one(name: str, option: str, value: Any) -> None:
    refused(name, option, value)


@pytest.mark.parametrize("value", [1, 11, *NO_INTEGER], ids=repr)
@pytest.mark.parametrize(
    "others",
    [
        {"tree": "balanced"},
        {"tree": torch.randperm(10)},
        {"tree": "huffman", "counts": range(10)},
        {"tree": "learned", "examples": EXAMPLES},
        {"tree": "clustered", "examples": EXAMPLES},
    ],
    ids=["balanced", "order", "huffman", "learned", "clustered"],
)
def test_branching_is_refused_whatever_the_tree(others: dict[str, Any], value: Any) -> None:
    refused("hierarchical", "branching", value, **others)


@pytest.mark.parametrize("value", [*NO_NUMBER, 0], ids=repr)
def test_a_temperature_is_a_number_above_zero(value: Any) -> None:
    refused("gumbel", "tau", value)
    for arguments in ((value, 1.0, 10), (1.0, value, 10)):
        with pytest.raises(ValueError, match="must be above 0"):
            Annealing(*arguments)


@pytest.mark.parametrize("value", [math.nan, 0.0, -1.0, "1"])
def test_so_is_what_a_schedule_answers(value: Any) -> None:
    head = heads.build("gumbel", 8, 10, tau=lambda step: value)
    with pytest.raises(ValueError, match="tau must be above 0 and finite"):
        head(torch.zeros(1, 8), torch.tensor([0]))


@pytest.mark.parametrize("value", NO_INTEGER, ids=repr)
def test_an_annealing_takes_a_whole_number_of_steps(value: Any) -> None:
    with pytest.raises(ValueError, match="steps must be an integer"):
        Annealing(1.0, 0.1, value)


@pytest.mark.parametrize("value", ["no", 1, 0, None])
def test_a_flag_is_true_or_false(value: Any) -> None:
    refused("gumbel", "hard", value)


@pytest.mark.parametrize("value", ["cosine", 1, None, ["gumbel"], ["uniform"]], ids=repr)
def test_a_choice_is_one_of_those_offered(value: Any) -> None:
    refused("gumbel", "noise", value)
    refused("gumbel", "loss", value)
    refused("sampled", "distribution", value)


@pytest.mark.parametrize("value", NO_NUMBER, ids=repr)
def test_a_learning_rate_is_a_number_now_and_later(value: Any) -> None:
    refused("hierarchical-fused", "learning_rate", value)
    head = heads.build("hierarchical-fused", 8, 10)
    with pytest.raises(ValueError, match="learning_rate must be at least 0"):
        head.learning_rate = value
    assert head.learning_rate == 0.01


@pytest.mark.parametrize(
    "value",
    [
        *(NAN_AT_LAST, [1.0] * 9 + [math.inf], [1.0] * 9 + [-1.0]),
        *([1.0] * 9, [1.0] * 11, [[1.0] * 10], ["1"] * 10, [True] * 10, 1.0, "1234567890"),
        *(torch.tensor(NAN_AT_LAST), np.array(NAN_AT_LAST), torch.ones(10, dtype=torch.complex64)),
    ],
    ids=str,
)
def test_counts_are_finite_numbers_for_every_class(value: Any) -> None:
    refused("adaptive", "counts", value)
    refused("hierarchical", "counts", value, tree="huffman")
    with pytest.raises(ValueError, match="counts must be 10 numbers"):
        balanced(10).expected_depth(value)


@pytest.mark.parametrize(
    "value",
    [
        *([*range(9), 8], list(range(9)), [*range(9), 10], [*range(9), 9.5], [*range(9), math.nan]),
        *([str(i) for i in range(10)], torch.arange(10.0), torch.arange(10).view(2, 5), 3, None),
    ],
    ids=str,
)
def test_an_order_is_a_permutation(value: Any) -> None:
    with pytest.raises(ValueError, match=r"permutation of the classes 0\.\.9"):
        heads.build("hierarchical", 8, 10, tree=value)
    if value is not None:
        for name in ("hierarchical-dense", "hierarchical-fused"):
            if name in heads.names():
                refused(name, "order", value)


def test_bools_are_no_order_of_two_classes() -> None:
    with pytest.raises(ValueError, match="permutation"):
        heads.build("hierarchical", 8, 2, tree=[False, True])


@pytest.mark.parametrize(
    ("in_features", "cutoffs", "most"),
    [(16, [100, 200, 400], 2), (4, [10, 20], 1), (63, [10, 20, 30], 2), (64, [10, 20, 30, 40], 3)],
)
def test_a_cluster_without_a_feature_is_refused(
    in_features: int, cutoffs: list[int], most: int
) -> None:
    with pytest.raises(ValueError, match=f"cutoffs must be at most {most} with {in_features}"):
        heads.build("adaptive", in_features, 1000, cutoffs=cutoffs)
    head = heads.build("adaptive", in_features, 1000, cutoffs=cutoffs[:most])
    head(torch.randn(500, in_features), torch.arange(0, 1000, 2)).loss.backward()
    for parameter in head.parameters():
        assert parameter.numel()
        assert parameter.grad is not None
        assert parameter.grad.any()


@pytest.mark.parametrize(
    "value",
    [[], [2.5], [math.nan], [True], ["3"], "37", 3, [0], [10], [5, 3], [3, 3], [3, None]],
    ids=repr,
)
def test_cutoffs_are_ascending_classes(value: Any) -> None:
    refused("adaptive", "cutoffs", value)


@pytest.mark.parametrize(
    "value",
    [
        *(EXAMPLES[0], (EXAMPLES[0],), 3, (EXAMPLES[0].tolist(), EXAMPLES[1].tolist())),
        *((EXAMPLES[0], EXAMPLES[1] + 1), (EXAMPLES[0], EXAMPLES[1] - 1)),
        *((EXAMPLES[0] * math.nan, EXAMPLES[1]), (EXAMPLES[0], EXAMPLES[1].float())),
    ],
    ids=[*("features", "one", "int", "lists", "too-large", "negative", "nan", "float")],
)
@pytest.mark.parametrize("tree", ["learned", "clustered"])
def test_examples_are_features_and_classes(tree: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"examples|features|targets") as error:
        heads.build("hierarchical", 8, 10, tree=tree, examples=value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["balanced", None, [1, 2]])
def test_a_tree_softmax_wants_a_tree(value: Any) -> None:
    with pytest.raises(ValueError, match="tree must be a Tree"):
        TreeSoftmax(8, 10, value)


def test_numpys_and_torchs_integers_are_integers() -> None:
    for integer in (np.int64(10), np.int32(10), torch.tensor(10)):
        head = heads.build("two-level", integer, integer)
        assert (head.in_features, head.num_classes) == (10, 10)
        assert type(head.num_classes) is int
