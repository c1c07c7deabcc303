"""The benchmark of the method: what is planted is found, and its tables add up."""

import ast
import os
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import heads
from bench.versus import plant, power
from tests.bench.versus.imagined import GRID, measured

ROOT = Path(__file__).parents[3]


def test_pairs_drawn_again_find_large_slowdowns_and_no_absent_ones():
    chance = np.random.default_rng(3)
    pool = measured(chance, pairs=60)
    none, large = (power.redrawn(pool, 30, "c", by, 0.01, chance, 100) for by in (0.0, 0.1))
    assert sum(none) <= 0.05
    assert large[0] >= 0.95


def test_the_table_counts_what_was_found_and_what_was_wrong():
    chance = np.random.default_rng(4)
    changes = [[("c", "slower")], [("a", "faster")], []]
    runs = [
        power.Run(planted, measured(chance), one) for planted in (False, True) for one in changes
    ]
    lines = power.report(runs, "c", 0.05, 0.01, draws=2).splitlines()
    rows = [[text.strip() for text in line.strip("|").split("|")] for line in lines[2:4]]
    assert rows == [
        ["3, no change", "-", "67% [21%, 94%]"],
        ["3, c slower by 5.0%", "33% [6%, 79%]", "33% [6%, 79%]"],
    ]


def test_imagined_pairs_are_off_by_as_much_as_asked_for():
    pool = power.imagined(GRID, 0.02, np.random.default_rng(5))
    np.testing.assert_allclose([logs.std() for logs in pool.values()], 0.02, rtol=0.1)


def test_more_noise_finds_less(capsys, monkeypatch):
    monkeypatch.setattr(power, "simulation", partial(power.simulation, draws=200))
    assert power.main(["--noise", "0.01,0.4", "--minutes", "1"]) == 0
    quiet, noisy = (line.split("|") for line in capsys.readouterr().out.splitlines()[2:])
    assert float(quiet[3].strip(" %")) > 95
    assert float(noisy[3].strip(" %")) < 5


def test_a_plant_is_among_the_heads(capsys):
    with pytest.raises(SystemExit):
        power.main(["--slow", "sampled"])
    assert "--slow: 'sampled' is none of --heads softmax" in capsys.readouterr().err


class Spent:
    """A processor's time: what is done advances it, and looking at it does, a little."""

    def __init__(self):
        self.seconds = 0.0

    def spend(self, seconds):
        self.seconds += seconds

    def process_time(self):
        self.spend(1e-4)
        return self.seconds


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_a_planted_slowdown_is_one_in_training_and_in_prediction(monkeypatch, share):
    spent = Spent()
    monkeypatch.setattr(plant, "time", spent)

    class Made:
        def parameters(self):
            return []

        def forward(self, input, target):
            spent.spend(1)
            return SimpleNamespace(loss=SimpleNamespace(backward=lambda: spent.spend(2)))

        def predict(self, input):
            spent.spend(1)

    def taken(name, call):
        made = plant.slowed(lambda head: Made(), "slow", share)(name)
        call(made)  # the first one finds out how much of a step the forward is
        begin = spent.seconds
        call(made)
        return spent.seconds - begin

    batch = SimpleNamespace(grad=None)
    for name, factor in (("slow", 1 + share), ("other", 1)):
        train = taken(name, lambda made: made.forward(batch, batch).loss.backward())
        predict = taken(name, lambda made: made.predict(batch))
        assert (train, predict) == pytest.approx((3 * factor, factor), rel=2e-3)


def test_a_slowdown_is_planted_in_one_head_of_one_side(tmp_path, warm):
    shutil.copytree(ROOT / "heads", tmp_path / "heads")
    power.sow(tmp_path, "hierarchical", 1.0)
    asked = "import heads; print([heads.build(n, 8, 16).forward.__name__ for n in heads.names()])"
    process = warm.start("-c", asked, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""})
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    names = ast.literal_eval(said)
    slowed = [head for head, name in zip(heads.names(), names, strict=True) if name != "forward"]
    assert slowed == ["hierarchical"]
