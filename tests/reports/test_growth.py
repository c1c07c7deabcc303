"""Growth of exact counts is read off their formulas; and what disagreeing evidence means."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from reports.findings.growth import Growth, Order, order, reading
from reports.stats.complexity import classify

SIZES = [2**k for k in range(4, 19, 2)]
FORMULAS: dict[str, tuple[Callable[[int], float], str]] = {
    "constant": (lambda n: 7, "O(1)"),
    "path": (lambda n: 128 * 3 * math.ceil(math.log2(n)), "O(log n)"),
    "matrix product": (lambda n: 128 * 3 * 128 * n, "O(n)"),
    "tree of n - 1 nodes": (lambda n: 128 * (n - 1), "O(n)"),
    "two levels": (lambda n: 128 * 128 * 2 * math.isqrt(n), "O(sqrt n)"),
    "path and dense update": (lambda n: 3 * 128 * 128 * math.log2(n) + 129 * n, "O(n)"),
    "sort": (lambda n: 5 * n * math.log2(n) + 100, "O(n log n)"),
    "all pairs": (lambda n: n * (n - 1) / 2, "O(n^2)"),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_order_of_a_formula(name: str) -> None:
    formula, model = FORMULAS[name]
    found = order(SIZES, [formula(n) for n in SIZES])
    assert found is not None
    assert found.model == model


def test_sizes_that_are_no_powers_of_two_do_not_mislead() -> None:
    sizes = [16, 64, 100, 256, 1_000, 4_096, 10_007, 65_536]
    found = order(sizes, [384 * math.ceil(math.log2(n)) for n in sizes])
    assert found is not None
    assert found.model == "O(log n)"


def test_small_sizes_with_another_algorithm_are_left_out() -> None:
    values = [128 * n if n <= 256 else 384 * math.log2(n) for n in SIZES]
    found = order(SIZES, values)
    assert found is not None
    assert (found.model, found.since) == ("O(log n)", 1024)


def test_change_of_algorithm_is_not_smoothed_over() -> None:
    # Bytes of a tree that scores all of its nodes up to 256 classes, and paths beyond.
    values = [249_644, 400_108, 995_820, 1_805_772, 2_607_564, 3_409_356, 4_211_148, 5_012_940]
    found = order(SIZES, values)
    assert found is not None
    assert (found.model, found.since) == ("O(log n)", 256)


def test_what_is_done_once_more_from_some_size_on_grows_as_before() -> None:
    """A softmax in one slice makes three products; in several, whose logits are not kept, four."""
    sizes = (16, 100, 256, 512, 1024, 4096, 16384, 65536, 262144)
    products = [(3 if n <= 16384 else 4) * n for n in sizes]
    assert order(sizes, products) == Order("O(n)", 0)
    depths = [(3 if n <= 16384 else 4) * (n - 1).bit_length() for n in sizes]
    assert order(sizes, depths) == Order("O(log n)", 0)
    # One size alone could be anything.
    assert order(sizes[:-1], products[:-1]) != Order("O(n)", 0)


def test_largest_of_two_buffers_is_linear() -> None:
    found = order(SIZES, [max(73_792 + 400 * n, 1_024 * n) for n in SIZES])
    assert found is not None
    assert found.model == "O(n)"


def test_linear_buffer_is_seen_behind_a_logarithmic_one() -> None:
    # Peak of a backward pass: buffers of a path up to 1,024 classes, a dense gradient beyond.
    values = [323_588, 452_612, 581_636, 710_660, 2_149_892, 8_439_300, 33_603_076]
    found = order(SIZES[:7], values)
    assert found is not None
    assert found.model == "O(n)"


def test_what_rounding_leaves_is_not_called_n_log_n() -> None:
    values = [9e3 + 1_100 * n * (1 + 0.03 * (-1) ** k) for k, n in enumerate(SIZES)]
    found = order(SIZES, values)
    assert found is not None
    assert found.model == "O(n)"


def test_nothing_at_every_size_does_not_grow() -> None:
    assert order(SIZES, [0.0] * len(SIZES)) == Order("O(1)", 0)


def test_too_few_sizes_have_no_order() -> None:
    assert order([16, 64, 256], [16.0, 64.0, 256.0]) is None
    assert order(SIZES, [None] * len(SIZES)) is None


def growth(phase: str, work: str, moved: str, seconds: Callable[[int], float]) -> Growth:
    return Growth(
        head="some",
        phase=phase,
        multiply_adds=Order(work, 0),
        bytes=Order(moved, 0),
        memory=None,
        time=classify(SIZES, [[seconds(n) * (1 + 0.01 * k) for k in range(5)] for n in SIZES]),
    )


def test_reading_names_the_dense_gradient() -> None:
    said = reading(growth("backward", "O(log n)", "O(n)", lambda n: 1e-4 + 1e-7 * n))
    assert "O(log n), but O(n) bytes have to move, as the gradient holds every row" in said


def test_reading_says_when_all_agree() -> None:
    said = reading(growth("train", "O(n)", "O(n)", lambda n: 1e-4 + 1e-6 * n))
    assert said == "Counts and clock agree."


def test_reading_says_when_the_clock_grows_faster() -> None:
    said = reading(growth("forward", "O(log n)", "O(log n)", lambda n: 1e-4 + 1e-6 * n))
    assert "grows faster (O(n)) than the counted work (O(log n))" in said
