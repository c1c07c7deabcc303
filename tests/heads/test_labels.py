"""What a head says of labels, against the work that it is seen to do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import heads
from bench.measure import planting
from heads import paths, search, softmax_torch
from heads.trees import huffman

FEATURES, CLASSES, BATCH = 32, 1000, 16
SPREAD = torch.arange(BATCH) * CLASSES // BATCH
ZIPF = 1 / torch.arange(1, CLASSES + 1, dtype=torch.float64)
PHASES: tuple[heads.Phase, ...] = ("forward", "backward", "step", "predict")


class Work(TorchDispatchMode):
    """Counts operators by the shapes that they work on, and by how many rows they pick out."""

    def __init__(self) -> None:
        super().__init__()
        self.done: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        picks = "index" in str(func) or "embedding" in str(func)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.done[str(func), *(_seen(tensor, picks) for tensor in tensors)] += 1
        return func(*args, **(kwargs or {}))


def _seen(tensor: Tensor, picks: bool) -> Any:
    if tensor.is_sparse:
        return "sparse", tensor._nnz()
    rows = picks and tensor.dtype == torch.int64
    return (*tensor.shape, len(tensor.unique()) if rows else None)


def work(name: str, classes: Tensor, phase: heads.Phase) -> Counter[Any]:
    """What is done for targets, or for predictions, of these classes."""
    torch.manual_seed(0)
    head = heads.build(name, FEATURES, CLASSES)
    start = torch.randn(BATCH, FEATURES)
    if phase == "predict":
        features = planting.plant(head, CLASSES, start, classes, 0.9).features
        with torch.no_grad(), Work() as seen:
            head.eval().predict(features)
        return seen.done
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    seen = {name: Work() for name in PHASES}
    torch.manual_seed(1)  # noise and negatives
    with seen["forward"]:
        loss = head(start.requires_grad_(), classes).loss
    with seen["backward"]:
        loss.backward()
    with seen["step"]:
        optimizer.step()
    return seen[phase].done


@pytest.fixture(autouse=True)
def _ways_of_many_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices and searches, which so few classes are spared."""
    monkeypatch.setattr(softmax_torch, "ELEMENTS", 2_000)
    monkeypatch.setattr(paths, "optional", lambda module: None)  # what is compiled is not seen
    monkeypatch.setattr(search, "SEARCH_FROM", 0)
    monkeypatch.setattr(search, "SEARCH_SHARE", 1)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", heads.names())
def test_a_head_does_the_same_for_all_labels_if_it_says_so(name: str, phase: heads.Phase) -> None:
    if (name, phase) == ("hierarchical-fused", "step"):
        pytest.skip("nothing is left to do")
    same = work(name, torch.zeros_like(SPREAD), phase) == work(name, SPREAD, phase)
    assert same != heads.depends_on_labels(name, phase)


@pytest.mark.parametrize("name", heads.names())
def test_training_depends_on_labels_if_any_of_its_parts_does(name: str) -> None:
    parts = [heads.depends_on_labels(name, phase) for phase in PHASES[:-1]]
    assert heads.depends_on_labels(name, "train") == any(parts)


# Predictions by the same code


@pytest.mark.parametrize("name", heads.names())
def test_a_head_predicts_as_the_one_that_it_names(name: str) -> None:
    if not (other := heads.same_as(name, "predict")):
        pytest.skip("it has a prediction of its own")
    assert not heads.same_as(name, "train")
    assert work(name, SPREAD, "predict") == work(other, SPREAD, "predict")
    one, twin = (heads.build(each, FEATURES, CLASSES).eval() for each in (name, other))
    assert type(one).predict is type(twin).predict
    twin.load_state_dict(one.state_dict(), strict=False)
    features = torch.randn(BATCH, FEATURES)
    assert torch.equal(one.predict(features), twin.predict(features))


# Counted work


def batches(repeats: int = 200) -> Tensor:
    """Targets that follow Zipf's law: (repeats, BATCH)."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(ZIPF, repeats * BATCH, replacement=True, generator=generator)
    return drawn.view(repeats, BATCH)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("hierarchical", {}), ("hierarchical", {"tree": torch.arange(CLASSES - 1, -1, -1)})),
        *(
            ("hierarchical", {"tree": "huffman"}),
            ("hierarchical", {"tree": "huffman", "branching": 4}),
        ),
        *(("sampled", {"num_sampled": 100}), ("sampled", {"distribution": "log-uniform"})),
    ],
    ids=str,
)
def test_the_step_is_expected_to_touch_as_many_rows_as_it_does(
    name: str, options: dict[str, Any]
) -> None:
    counts = None if "distribution" in options else ZIPF
    head = heads.build(name, FEATURES, CLASSES, class_counts=counts, **options)
    most = head.cost("step", BATCH).multiply_adds
    head.expect(ZIPF)
    rows = []
    for targets in batches():
        head.zero_grad()
        head(torch.randn(BATCH, FEATURES), targets).loss.backward()
        weight = next(p for p in head.parameters() if p.dim() == 2)
        assert weight.grad is not None
        rows.append(weight.grad._nnz())
    found = sum(rows) / len(rows)
    assert head.cost("step", BATCH).multiply_adds == pytest.approx(found * (FEATURES + 1), rel=0.03)
    assert head.cost("step", BATCH).multiply_adds < most
    head.expect(None)
    assert head.cost("step", BATCH).multiply_adds == most


@pytest.mark.parametrize("ranked", [True, False])
def test_adaptive_is_expected_to_multiply_as_often_as_it_does(ranked: bool) -> None:
    size = 2_000
    counts = ZIPF if ranked else ZIPF.flip(0)
    head = heads.build("adaptive", FEATURES, CLASSES, class_counts=counts)
    head.expect(counts)
    targets = torch.multinomial(counts, size, replacement=True)
    with FlopCounterMode(display=False) as counter:
        head(torch.randn(size, FEATURES), targets)
    multiply_adds = counter.get_total_flops() / 2
    assert head.cost("forward", size).multiply_adds == pytest.approx(multiply_adds, rel=0.05)


def test_adaptive_is_expected_to_update_as_many_parameters_as_get_a_gradient() -> None:
    head = heads.build("adaptive", FEATURES, CLASSES)
    head.expect(steep := ZIPF**3)
    updated = []
    for _ in range(400):
        head.zero_grad()
        targets = torch.multinomial(steep, BATCH, replacement=True)
        head(torch.randn(BATCH, FEATURES), targets).loss.backward()
        updated.append(sum(p.numel() for p in head.parameters() if p.grad is not None))
    found = sum(updated) / len(updated)
    assert head.cost("step", BATCH).multiply_adds == pytest.approx(found, rel=0.03)


def test_a_huffman_trees_path_is_expected_to_be_as_long_as_its_counts_make_it() -> None:
    head = heads.build("hierarchical", FEATURES, CLASSES, class_counts=ZIPF, tree="huffman")
    head.expect(ZIPF)
    depth = huffman(ZIPF).expected_depth(ZIPF)
    found = head.cost("forward", 10_000).multiply_adds / (10_000 * FEATURES)
    assert found == pytest.approx(depth, rel=1e-3)


@pytest.mark.parametrize("counts", [[0.0] * 10, [1.0] * 9, [-1.0] + [1.0] * 9, ["1"] * 10])
def test_labels_that_cannot_be_are_refused(counts: Any) -> None:
    with pytest.raises(ValueError, match="counts must"):
        heads.build("softmax", 8, 10).expect(counts)


# What is made from counts


def test_heads_without_a_use_for_counts_do_without() -> None:
    torch.manual_seed(0)
    for name in heads.names():
        head = heads.build(name, 8, 10, class_counts=range(10, 0, -1))
        assert torch.isfinite(head(torch.randn(4, 8), torch.arange(4)).loss)
    with pytest.raises(ValueError, match="need each other"):
        heads.build("hierarchical", 8, 10, tree="huffman")


def test_negatives_are_drawn_in_proportion_to_counts() -> None:
    counts = torch.tensor([0.0, 5, 1, 0, 4])
    head = heads.build("sampled", 8, 5, num_sampled=20_000, class_counts=counts).half()
    torch.manual_seed(0)
    classes, log_expected = head.draw()
    found = torch.bincount(classes, minlength=5)
    assert found[[0, 3]].tolist() == [0, 0]
    torch.testing.assert_close(found / 20_000, counts / 10, atol=0.02, rtol=0, check_dtype=False)
    torch.testing.assert_close(
        log_expected.double().exp(), 20_000 * counts.double()[classes] / 10, rtol=1e-9, atol=0
    )


def test_with_equal_counts_negatives_are_uniform() -> None:
    torch.manual_seed(0)
    plain = heads.build("sampled", 8, 50).draw()
    torch.manual_seed(0)
    counted = heads.build("sampled", 8, 50, class_counts=[3] * 50).draw()
    assert all(map(torch.equal, plain, counted))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"counts": [0] * 10}, "counts must not all be 0"),
        ({"counts": [1] * 9}, "counts must be 10 numbers"),
        ({"counts": range(10), "distribution": "log-uniform"}, "exclude each other"),
    ],
)
def test_counts_of_negatives_are_checked(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        heads.build("sampled", 8, 10, **options)


# Heads with options, as they are written


@pytest.mark.parametrize(
    ("given", "spelt"),
    [
        ("softmax", "softmax"),
        (" hierarchical ( tree = huffman ) ", "hierarchical(tree=huffman)"),
        ("hierarchical(branching=4,tree=balanced)", "hierarchical(branching=4)"),
        ("hierarchical(branching=2)", "hierarchical"),
        ("hierarchical(branching=4,tree=huffman)", "hierarchical(tree=huffman,branching=4)"),
        ("adaptive(cutoffs=100/500)", "adaptive(cutoffs=100/500)"),
        ("adaptive(cutoffs=100)", "adaptive(cutoffs=100)"),
        ("gumbel(tau=.50,hard=True)", "gumbel(tau=0.5,hard=True)"),
        ("gumbel(tau=1)", "gumbel"),
        ("gumbel(tau=1e20)", "gumbel(tau=1e20)"),
        ("sampled(num_sampled=64)", "sampled(num_sampled=64)"),
    ],
)
def test_each_head_has_one_spelling(given: str, spelt: str) -> None:
    name, options = heads.called(given)
    found = f"{name}({heads.options.spell(options)})" if options else name
    assert found == spelt
    assert heads.called(spelt) == (name, options)
    heads.build(name, 64, 1000, class_counts=ZIPF, **options)


def build(call: str) -> heads.Head:
    name, options = heads.called(call)
    return heads.build(name, 64, 1000, **options)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("hierarchical(", r"expected a name or name\(option=value,...\), got 'hierarchical\('"),
        ("nope(a=1)", "unknown head 'nope'"),
        ("softmax(a=1)", "head 'softmax' has no option 'a'; its options are: none"),
        ("adaptive(counts=1/2)", "has no option 'counts'; its options are: cutoffs"),
        ("hierarchical(tree)", "expected option=value, got 'tree'"),
        ("hierarchical(tree=)", "expected option=value, got 'tree='"),
        ("hierarchical(tree=a,tree=b)", "the option 'tree' is given twice"),
        ("hierarchical(tree=../x)", "order must be a permutation"),
    ],
)
def test_a_head_that_is_not_written_so_is_refused(given: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        build(given)
    assert "\n" not in str(refused.value)
