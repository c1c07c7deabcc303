"""The roofline: shares are work over time over the limit, and old runs have no such section."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as some

from reports import results
from reports.findings.findings import find
from reports.findings.joined import Cell
from reports.findings.roofline import Roofline, points, roofline
from reports.findings.roofs import Roofs, roofs
from reports.page.html import render
from reports.stats.estimates import Interval
from tests.reports.synthetic import journal, write_run

LIMITS = {
    **{"copy_bytes_per_second": 2e10, "peak_multiply_adds_per_second": 1e11},
    **{"copy_bytes_per_second_low": 1e10, "copy_bytes_per_second_high": 3e10},
}
UNDER = Roofs(Interval(1e10, 2e10, 3e10), Interval(1e11, 1e11, 1e11))


def cell(seconds, multiply_adds, num_bytes, head="softmax", **more):
    where = ("isolated", head, "train", 1_000, 128, 128, "float32", "cpu", 2, 0)
    return Cell(*where, seconds=seconds, multiply_adds=multiply_adds, bytes=num_bytes, **more)


def test_limits_come_with_their_extremes_or_stand_alone():
    assert roofs(LIMITS) == UNDER


def test_a_peak_is_that_of_the_dtype_in_which_products_are_made():
    faster = {"peak_bfloat16_multiply_adds_per_second": 8e11}
    for dtype in ("bfloat16", "autocast-bfloat16"):
        assert roofs(LIMITS, dtype) is None
        found = roofs(LIMITS | faster, dtype)
        assert found is not None
        assert (found.peak.estimate, found.dtype) == (8e11, "bfloat16")
    assert roofs(LIMITS | faster) == UNDER


@pytest.mark.parametrize("broken", [None, "fast", True, 0, -1.0, float("nan"), float("inf"), []])
def test_a_limit_that_is_no_rate_is_no_limit(broken):
    assert roofs(LIMITS | {"copy_bytes_per_second": broken}) is None
    assert roofs({}) is None


def test_a_product_at_half_the_peak_takes_twice_its_floor():
    (point,) = points([cell(Interval(1.0, 2.0, 4.0), 10**11, 10**9)], UNDER)
    assert point.binds == "arithmetic"
    assert point.floor == 1.0
    assert point.of_peak == Interval(0.25, 0.5, 1.0)
    assert point.times_floor == Interval(1.0, 2.0, 4.0)
    assert point.intensity == 100


def test_a_copy_at_half_the_bandwidth_is_bound_by_memory():
    (point,) = points([cell(Interval(2.0, 2.0, 2.0), 0, 2 * 10**10)], UNDER)
    assert point.binds == "memory"
    assert point.of_bandwidth.estimate == 0.5
    assert point.of_peak.estimate == point.intensity == 0


@given(
    some.floats(1e-9, 1e3),
    some.integers(0, 10**15),
    some.integers(1, 10**13),
)
def test_the_binding_roof_is_the_one_of_which_most_is_used(seconds, work, traffic):
    (point,) = points([cell(Interval(seconds, seconds, seconds), work, traffic)], UNDER)
    most = max(point.of_peak.estimate, point.of_bandwidth.estimate)
    assert point.times_floor.estimate == pytest.approx(1 / most)
    assert (point.binds == "arithmetic") == (point.intensity >= UNDER.ridge)


def test_what_is_not_timed_or_not_counted_has_no_place():
    timed = Interval(1.0, 1.0, 1.0)
    assert points([cell(None, 1, 1), cell(timed, None, None)], UNDER) == ()


def test_a_peer_is_held_against_the_work_of_the_head_whose_function_it_computes():
    ours = cell(Interval(2.0, 2.0, 2.0), 10**11, 10**9)
    peer = cell(Interval(4.0, 4.0, 4.0), None, None, "liger", computes="softmax")
    other = cell(Interval(4.0, 4.0, 4.0), None, None, "fasttext")
    mine, theirs = points([peer, other, ours], UNDER)[::-1]
    assert (mine.head, mine.counted, mine.share.estimate) == ("softmax", "softmax", 0.5)
    assert (theirs.head, theirs.counted, theirs.share.estimate) == ("liger", "softmax", 0.25)
    assert points([peer, other], UNDER) == ()
    assert Roofline(UNDER, 1_000, 128, (theirs,)).sentences == (
        "liger takes 4 times the floor of softmax of 1.00 s, which arithmetic sets.",
    )


def test_sentences_name_the_nearest_first_and_say_why_a_floor_is_passed():
    far = cell(Interval(3.0, 3.0, 3.0), 1, 2 * 10**10)
    cached = cell(Interval(0.4, 0.5, 0.6), 1, 2 * 10**10)
    first, second = Roofline(UNDER, 1_000, 128, points([far, cached], UNDER)).sentences
    assert "cache" in first
    assert second == "softmax takes 3 times its floor of 1.00 s, which memory sets."


def test_a_run_with_limits_is_held_against_them_and_an_old_one_says_that_it_has_none(
    tmp_path, findings, page
):
    heads = ("softmax", "hierarchical")
    run = write_run(tmp_path / "run", journal(heads), trainings=[], machine=LIMITS)
    limited = find(results.load(run))
    found = roofline(limited)
    assert found is not None
    assert {point.head for point in found.points} == set(heads)
    shown = html.unescape(render(limited))
    assert "multiply-adds per second" in shown
    assert all(sentence in shown for sentence in found.sentences)
    assert roofline(findings) is None
    assert "no measured limits" in page
