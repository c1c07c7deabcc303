"""Every value has a range; what lies outside, or is no number here, is told in one line."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import advise, compare, simulation
from reports.arguments import number, several, whole

NO_WHOLE_NUMBER = (
    "", " ", "-", "1e3", "1_000", "1,000", "0x10", "1.0", "nan", "inf",
    "\uff11\uff12", "\u0663", "²",
    "--1", "1 2", "9" * 5_000, "-1", "0", "18446744073709551616", "\ud800", "\x1b[31m", "1\n2",
)  # fmt: skip


@given(st.integers(-(10**25), 10**25))
def test_whole_numbers_are_those_of_the_range(value):
    read = whole(-5, 2**31)
    if -5 <= value <= 2**31:
        assert read(str(value)) == read(f" {value} ") == value
    else:
        with pytest.raises(ArgumentTypeError, match="from -5 to 2147483648"):
            read(str(value))


@pytest.mark.parametrize("given_text", NO_WHOLE_NUMBER)
def test_what_is_no_whole_number_of_the_range_is_told_in_a_short_line(given_text):
    with pytest.raises(ArgumentTypeError) as refused:
        whole(1, 9)(given_text)
    told = str(refused.value)
    assert told.startswith("expected a whole number from 1 to 9, got '")
    assert told.isprintable()
    assert len(told) < 100


@pytest.mark.parametrize(("text", "value"), [("0.25", 0.25), (".5", 0.5), ("5e-1", 0.5), ("1", 1)])
def test_a_number_is_read(text, value):
    assert number(0, 1)(text) == value


@pytest.mark.parametrize(
    "text",
    ["nan", "inf", "-inf", "1e999", "-1", "1.01", "1_0", "\uff10.5", "", "-0.1", "1e", "."],
)
def test_what_is_no_number_of_the_range_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="expected a number from 0 to 1, got"):
        number(0, 1)(text)


@pytest.mark.parametrize("text", ["0", "1", "0.99999999999999999999"])
def test_the_ends_of_a_range_can_be_left_out(text):
    with pytest.raises(ArgumentTypeError, match="expected a number between 0 and 1, got"):
        number(0, 1, inside=True)(text)


def test_a_list_keeps_its_order_and_counts_each_value_once():
    assert several(whole(1, 9))(" 3,1, 3 ") == (3, 1)


@pytest.mark.parametrize("text", ["", ",", "1,", ",1", "1,,2", "1;2", "1 2"])
def test_a_list_with_a_gap_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="expected a whole number"):
        several(whole(1, 9))(text)


def test_a_list_ends_somewhere():
    with pytest.raises(ArgumentTypeError, match="at most 64 values, got 65"):
        several(whole(1, 99))(",".join(map(str, range(1, 66))))


@pytest.mark.parametrize(
    ("main", "arguments", "said"),
    [
        (compare.main, ["a", "b", "--threshold", "nan"], "--threshold: expected a number from 0"),
        (compare.main, ["a", "b", "--threshold", "-1"], "--threshold"),
        (compare.main, ["a", "b", "--threshold", "inf"], "--threshold"),
        (advise.main, ["--classes", "9" * 30], "--classes: expected a whole number from 1 to"),
        (advise.main, ["--classes", "\uff11\uff10"], "--classes"),
        (advise.main, ["--classes", "10", "--batch", "0"], "--batch"),
        (advise.main, ["--classes", "10", "--features", "1e3"], "--features"),
        (advise.main, ["--classes", "10", "--memory", "9" * 400], "--memory: expected bytes"),
        (advise.main, ["--classes", "10", "--memory", "0.1B"], "from 1 to 2^60"),
        (advise.main, ["--classes", "10", "\x1b[31m"], "unrecognized arguments: \\x1b[31m"),
    ],
)
def test_a_command_answers_with_the_option_and_its_range_in_one_line(main, arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert said in told


@pytest.mark.parametrize("arguments", [["--curves", "0"], ["--curves", "1e9"], ["--seed", "-1"]])
def test_the_simulation_has_ranges_too(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["simulation", *arguments])
    with pytest.raises(SystemExit) as ended:
        simulation.main()
    assert ended.value.code == 2
    assert f"{arguments[0]}: expected a whole number from" in capsys.readouterr().err
