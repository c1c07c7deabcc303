"""The machine's limits: rates of known work, in the order that physics allows."""

from __future__ import annotations

import pytest
import torch

from bench.machine import clock, limits


@pytest.fixture
def second_per_reading(monkeypatch):
    """A clock on which whatever lies between two readings takes a second."""
    readings = iter(range(10**6))
    monkeypatch.setattr(clock, "timer_of", lambda device: lambda: float(next(readings)))


@pytest.mark.usefixtures("second_per_reading")
def test_a_copy_counts_what_is_read_and_what_is_written():
    assert limits.copy_rates("cpu", 4_096) == [2 * 4_096] * limits.ROUNDS


@pytest.mark.usefixtures("second_per_reading")
def test_a_product_counts_a_multiply_add_per_row_column_and_depth():
    # A second is long enough for the smallest product.
    assert limits.multiply_rates("cpu") == [limits.SMALLEST_PRODUCT**3] * limits.ROUNDS


def test_a_short_call_is_repeated_until_a_round_is_long_enough(monkeypatch):
    now, called = [0.0], []
    monkeypatch.setattr(clock, "timer_of", lambda device: lambda: now[0])

    def call():
        now[0] += limits.ROUND_SECONDS / 4
        called.append(1)

    assert limits._rounds(call, "cpu") == pytest.approx([limits.ROUND_SECONDS / 4] * limits.ROUNDS)
    assert len(called) == 2 + 4 * limits.ROUNDS


@pytest.mark.usefixtures("second_per_reading")
def test_facts_are_flat_and_hold_a_median_between_its_extremes():
    found = limits.measure("cpu", {"l2_cache_bytes": 2**20, "l3_cache_bytes": 2**25, "cpu": "any"})
    names = (
        "copy_bytes_per_second",
        "cache_copy_bytes_per_second",
        "peak_multiply_adds_per_second",
    )
    assert set(found) == {name + end for name in names for end in ("", "_low", "_high")}
    assert found["copy_bytes_per_second"] == 2 * limits.BEYOND_CACHE * 2**25
    assert found["cache_copy_bytes_per_second"] == 2**19


@pytest.mark.usefixtures("second_per_reading")
def test_every_dtype_of_products_has_a_peak_of_its_own(monkeypatch):
    made = []
    mm = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *of, out: (made.append(of[0].dtype), mm(*of, out=out)))
    monkeypatch.setattr(limits, "SMALLEST_PRODUCT", 8)
    found = limits.measure("cpu", {}, ["bfloat16", "autocast-bfloat16", "float32"])
    peaks = {name for name in found if name.startswith("peak") and name.endswith("second")}
    both = {"peak_multiply_adds_per_second", "peak_bfloat16_multiply_adds_per_second"}
    assert peaks == both
    assert {*made} == {torch.float32, torch.bfloat16}
    assert made.count(torch.float32) == made.count(torch.bfloat16)


@pytest.mark.usefixtures("second_per_reading")
def test_what_a_peak_was_measured_with_is_no_setting_of_what_follows(monkeypatch):
    monkeypatch.setattr(limits, "SMALLEST_PRODUCT", 8)
    limits.measure("cpu", {}, ["tf32"])
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.usefixtures("second_per_reading")
def test_without_known_caches_nothing_is_measured_inside_them():
    found = limits.measure("cpu", {})
    assert found["copy_bytes_per_second"] == 2 * limits.SMALLEST_ARRAY
    assert "cache_copy_bytes_per_second" not in found


@pytest.mark.cuda
def test_a_gpu_moves_and_multiplies_faster_than_a_gigabyte_and_a_gigaflop():
    found = limits.measure("cuda", {"gpu_l2_cache_bytes": 2**25})
    assert found["copy_bytes_per_second"] > 10**10
    assert found["peak_multiply_adds_per_second"] > 10**11
