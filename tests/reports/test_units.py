"""Numbers are shown with the digits that are promised, in a unit that fits what is shown."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import units
from reports.stats.estimates import Interval

positive = st.floats(1e-9, 1e6)


def read(text: str, table: units.Units) -> tuple[str, float]:
    """The number as it is written, and its value."""
    number, _, unit = text.partition(" ")
    scale = {name: scale for scale, name in table}
    return number, float(number.replace(",", "")) * scale[unit]


def significant(number: str) -> int:
    return len(number.replace(",", "").replace(".", "").lstrip("-0"))


@given(st.floats(1e-12, 99.9), st.integers(1, 6))
def test_as_many_digits_as_promised_and_no_error_beyond_them(value: float, promised: int) -> None:
    shown = units.digits(value, promised)
    assert significant(shown) == max(promised, len(shown.partition(".")[0].lstrip("0")))
    # Half a unit in the last place, of what is shown.
    last = 10.0 ** (math.floor(math.log10(float(shown))) + 1 - promised)
    assert abs(float(shown) - value) <= 0.5 * last * (1 + 1e-9)


@given(positive)
def test_a_time_has_three_digits_in_the_largest_unit_that_leaves_it_at_one(value: float) -> None:
    number, read_back = read(units.seconds(value), units.SECONDS)
    assert read_back == pytest.approx(value, rel=0.005001)
    assert float(number.replace(",", "")) >= 1
    if value < 999:
        assert significant(number) == 3
        assert float(number) < 1000


@given(positive, st.floats(1e-4, 0.8))
def test_an_estimate_with_and_without_its_interval_is_shown_in_one_unit(
    value: float, arm: float
) -> None:
    with_interval = units.show(Interval(value * (1 - arm), value, value * (1 + arm)), units.SECONDS)
    number, read_back = read(with_interval.estimate, units.SECONDS)
    assert read_back == pytest.approx(value, rel=0.06 * arm + 1e-12, abs=0.51e-9)
    if 1e-9 < value < 999:
        assert 1 <= float(number) < 1000
    low, high = re.findall(r"[\d.]+", with_interval.bracket)
    places = {len(text.partition(".")[2]) for text in (number, low, high)}
    assert len(places) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (999.94e-6, "1.00 ms"),
        (999.4e-6, "999 µs"),
        (9.996e-3, "10.0 ms"),
        (0.99996, "1.00 s"),
        (1234.5, "1,230 s"),
        (math.inf, "—"),
    ],
)
def test_a_time_is_rounded_before_its_unit_is_chosen(value: float, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("interval", "table", "text"),
    [
        (Interval(57.91e-6, 58.42e-6, 58.93e-6), units.SECONDS, "58.42 µs [57.91, 58.93]"),
        (Interval(0.0579, 0.0624, 0.0693), units.SECONDS, "62.4 ms [57.9, 69.3]"),
        (Interval(1.9, 2.5, 3.1), units.SECONDS, "2.50 s [1.90, 3.10]"),
        (Interval(969e-6, 999.96e-6, 1031e-6), units.SECONDS, "1.000 ms [0.969, 1.031]"),
        (Interval(1.9004, 2.0, 2.0996), units.SECONDS, "2.00 s [1.90, 2.10]"),
        (Interval(3 * 2**20, 3 * 2**20, 3 * 2**20), units.BYTES, "3 MiB"),
        (Interval(0.9, 1.0, 1.1), units.PLAIN, "1.00 [0.90, 1.10]"),
        (Interval(-1e-9, 0.0, 1e-9), units.PLAIN, "0"),
        (Interval(0.0, 0.2, math.inf), units.SECONDS, "200 ms (no interval)"),
        (Interval(float("nan"), 2.0, float("nan")), units.PLAIN, "2 (no interval)"),
    ],
)
def test_no_more_digits_than_the_interval_supports(
    interval: Interval, table: units.Units, text: str
) -> None:
    assert str(units.show(interval, table)) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1023, "1023 B"), (1023.6, "1.00 KiB"), (2**20 - 1, "1.00 MiB")]
)
def test_bytes_are_rounded_before_their_unit_is_chosen(value: float, text: str) -> None:
    assert units.num_bytes(value) == text


def test_a_share_that_nothing_bounds_has_no_interval():
    assert str(units.share_interval(Interval(0.2, 0.25, 0.3))) == "25.0\u00a0% [20.0, 30.0]"
    assert str(units.share_interval(Interval(0.0, 0.25, math.inf))) == "25.0\u00a0% (no interval)"
