"""Blocks, turns and the inside of a network: the same call, with other things between."""

import math

import pytest

from bench import nearness
from reports.results import Cell


def test_an_interval_is_students_on_logarithms():
    low, ratio, high = nearness.interval([math.log(x) for x in (1.9, 2.0, 2.1)])
    logs = [math.log(x) for x in (1.9, 2.0, 2.1)]
    center = sum(logs) / 3
    half = 4.302653 * (sum((x - center) ** 2 for x in logs) / 2 / 3) ** 0.5
    assert (low, ratio, high) == pytest.approx(
        (math.exp(center - half), math.exp(center), math.exp(center + half)), rel=1e-6
    )


def test_the_call_is_the_same_in_all_modes_and_in_model_a_body_is_before_it():
    timed = nearness.steps(Cell("in-model", "softmax", "train", 10, 4, 250))
    assert set(timed) == set(nearness.MODES)
    assert len({one.call for one in timed.values()}) == 1
    assert [mode for mode, one in timed.items() if one.before] == ["in-model"]
    for one in timed.values():
        one.once()


def test_a_table_of_ratios_comes_out(capsys):
    asked = ("--classes", "8", "--batch", "4", "--rounds", "2", "--seconds", "0.002")
    nearness.main([*asked, "--threads", "1"])
    shown = capsys.readouterr().out
    assert "ratios to softmax" in shown
    assert "hierarchical" in shown
    assert all(mode in shown for mode in nearness.MODES)


def test_a_head_that_is_not_there_is_a_line(capsys):
    with pytest.raises(SystemExit):
        nearness.main(["--heads", "nope"])
    assert "no head called 'nope'" in capsys.readouterr().err
