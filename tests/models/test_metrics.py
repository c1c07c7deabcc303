import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from models.metrics import measure
from reports.findings.trained import macro_f1


@st.composite
def predictions(draw: st.DrawFn) -> tuple[list[int], list[list[int]], int]:
    """Targets, ranked predictions and the number of classes, some of which may never occur."""
    num_classes = draw(st.integers(2, 8))
    count = draw(st.integers(1, 30))
    targets = draw(st.lists(st.integers(0, num_classes - 1), min_size=count, max_size=count))
    ranking = st.permutations(range(num_classes)).map(lambda order: order[:5])
    ranked = draw(st.lists(ranking, min_size=count, max_size=count))
    return targets, ranked, num_classes


def ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


@given(predictions())
def test_metrics_equal_counting_by_hand(case: tuple[list[int], list[list[int]], int]) -> None:
    targets, ranked, num_classes = case
    found = measure(torch.tensor(targets), torch.tensor(ranked), num_classes)
    pairs = [(target, ranks[0]) for target, ranks in zip(targets, ranked, strict=True)]

    precision, recall, f1 = [], [], []
    for label in range(num_classes):
        right = pairs.count((label, label))
        predicted = sum(guess == label for _, guess in pairs)
        actual = sum(target == label for target, _ in pairs)
        precision.append(ratio(right, predicted))
        recall.append(ratio(right, actual))
        f1.append(ratio(2 * right, predicted + actual))

    assert found.accuracy == pytest.approx(ratio(sum(t == p for t, p in pairs), len(pairs)))
    within_five = sum(target in ranks for target, ranks in zip(targets, ranked, strict=True))
    assert found.top5 == pytest.approx(within_five / len(pairs))
    assert found.per_class["precision"] == pytest.approx(precision)
    assert found.per_class["recall"] == pytest.approx(recall)
    assert found.per_class["f1"] == pytest.approx(f1)
    tested = set(targets)
    for average, each in ((found.precision, precision), (found.recall, recall), (found.f1, f1)):
        assert average == pytest.approx(sum(each[label] for label in tested) / len(tested))
    assert found.confusion.tolist() == [
        [pairs.count((true, guess)) for guess in range(num_classes)] for true in range(num_classes)
    ]


@given(predictions())
def test_macro_averages_are_scikit_learns_over_the_classes_in_the_test_set(
    case: tuple[list[int], list[list[int]], int],
) -> None:
    targets, ranked, num_classes = case
    found = measure(torch.tensor(targets), torch.tensor(ranked), num_classes)
    expected = precision_recall_fscore_support(
        targets,
        [ranks[0] for ranks in ranked],
        labels=sorted(set(targets)),
        average="macro",
        zero_division=0,
    )
    assert (found.precision, found.recall, found.f1) == pytest.approx(expected[:3])
    assert macro_f1(np.array(found.confusion)) == pytest.approx(found.f1)


def test_a_class_that_is_never_predicted_counts_as_zero() -> None:
    found = measure(torch.tensor([0, 1]), torch.tensor([[0], [0]]), num_classes=2)
    assert found.precision == pytest.approx((1 / 2 + 0) / 2)
    assert found.recall == pytest.approx((1 + 0) / 2)


def test_a_class_without_test_images_counts_only_where_others_are_taken_for_it() -> None:
    found = measure(torch.tensor([0, 0, 1]), torch.tensor([[0], [2], [1]]), num_classes=4)
    assert (found.precision, found.recall) == pytest.approx((1, (1 / 2 + 1) / 2))
    assert found.f1 == pytest.approx((2 / 3 + 1) / 2)
    assert sum(found.confusion[3]) == sum(found.confusion[2]) == found.per_class["f1"][2] == 0


@pytest.mark.parametrize("num_classes", [2, 5])
def test_top5_of_at_most_five_classes_is_one(num_classes: int) -> None:
    ranked = torch.arange(num_classes).flip(0).unsqueeze(0)
    assert measure(torch.tensor([0]), ranked, num_classes).top5 == 1


def test_top5_looks_at_five_ranks_only() -> None:
    assert measure(torch.tensor([5]), torch.arange(6).unsqueeze(0), num_classes=6).top5 == 0


def test_metrics_are_plain_json() -> None:
    found = measure(torch.tensor([0, 1]), torch.tensor([[0, 1], [0, 1]]), num_classes=2)
    assert json.loads(json.dumps(found.dump())) == found.dump()
