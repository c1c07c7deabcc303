"""The search: who goes on is who was best, and nothing is trained twice."""

import io
import json
import random
import re
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench.train import tune
from bench.train.space import draw, space
from bench.train.tune import Book, Trial, halve, rungs
from models import variants
from models.data import stand_in
from models.training import train
from reports import terminal


@given(candidates=st.integers(1, 500), epochs=st.integers(1, 500), least=st.integers(1, 20))
def test_rounds_thin_out_candidates_as_they_grow_longer(candidates, epochs, least):
    rounds = rungs(candidates, epochs, least)
    assert rounds[0][1] >= min(least, epochs)
    assert rounds[0][0] == candidates
    assert rounds[-1][1] == epochs
    for (many, short), (few, longer) in pairwise(rounds):
        assert few == many // 3 >= 1
        assert 1 <= short == longer // 3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 30))
def test_the_best_of_a_noiseless_search_ends_first_and_everybody_is_listed_once(skills, epochs):
    candidates = [{"number": number} for number in range(len(skills))]

    def evaluate(chosen, epochs):
        scores = [round(1e6 * skills[settings["number"]]) for settings in chosen]
        return [Trial(s, epochs, score, 10**6) for s, score in zip(chosen, scores, strict=True)]

    ranked = halve(candidates, rungs(len(candidates), epochs), evaluate)
    assert ranked[0].accuracy == pytest.approx(max(skills), abs=1e-6)
    assert sorted(trial.settings["number"] for trial in ranked) == list(range(len(skills)))
    assert [t.epochs for t in ranked] == sorted((t.epochs for t in ranked), reverse=True)


def test_a_failed_trial_is_the_worst():
    trials = [Trial({}, 1, reason="no"), Trial({}, 1, right=0, images=10)]
    assert max(trials, key=lambda trial: trial.accuracy) is trials[1]


@pytest.mark.parametrize("name", ["softmax-tuned", "gumbel-tuned", "hierarchical-tuned"])
def test_every_draw_is_a_training_that_can_be_asked_for(name):
    base = variants.config(name)
    chance = random.Random(1)
    for _ in range(50):
        settings = draw(space(base.head), base, chance)
        config = variants.config(name, **settings)
        assert json.loads(json.dumps(settings))["learning_rate"] == config.learning_rate


def test_what_is_not_searched_stays_the_variants_own():
    base = variants.config("hierarchical-tuned")
    over = {name: space(base.head)[name] for name in ("weight_decay", "branching")}
    assert draw(over, base, random.Random(0)).keys() == {"weight_decay", "head_options"}


def test_draws_follow_from_the_seed():
    base = variants.config("gumbel-tuned")
    drawn = [draw(space(base.head), base, random.Random(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_training_is_found_again_also_beside_a_torn_line(tmp_path):
    path = tmp_path / "folder" / "search.jsonl"
    Book(path).add({"head": "softmax", "seed": 0}, {"right": 3})
    with path.open("a") as file:
        file.write('{"training": {"he')
    assert Book(path).get({"seed": 0, "head": "softmax"}) == {"right": 3}
    assert Book(path).get({"seed": 1, "head": "softmax"}) is None


def test_a_trial_counts_the_right_images_of_a_training():
    dataset = stand_in("a test", per_class=2)
    threads = torch.get_num_threads()
    config = variants.config("softmax", epochs=1, threads=1)
    found = tune.carry_out(config, print, dataset=dataset)
    torch.set_num_threads(threads)
    assert found["right"] / found["images"] == train(config, dataset).final.accuracy
    assert found["images"] == len(dataset.test)


def test_a_head_that_cannot_be_built_fails_its_trial_with_the_reason():
    dataset = stand_in("a test", per_class=1)
    config = variants.config("hierarchical", head_options={"branching": 1}, threads=1)
    assert "branching" in tune.carry_out(config, print, dataset=dataset)["reason"]


TRIALS = [Trial({"flips": True}, 9, 50, 100, 1.5), Trial({}, 1, reason="no")]


def test_the_table_names_interval_or_reason():
    assert tune.rows(TRIALS) == [
        ("9", "50.0%", "40.4%-59.6%", "1.5", "flips True"),
        ("1", "-", "no", "-", "the variant's own"),
    ]


@pytest.mark.parametrize("width", [10, 20, 30, 40, 60, 80, 200])
def test_the_table_names_all_settings_in_any_terminal(width):
    console = Console(width=width, file=io.StringIO(), record=True)
    terminal.show(console, tune.COLUMNS, tune.rows(TRIALS))
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    last = "".join(re.split("[│┃]", line)[-2] for line in text.splitlines() if line[0] in "│┃")
    assert re.sub(r"\s", "", last) == "settingsflipsTruethevariant'sown"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--variant", "nope"], "unknown variant 'nope'"),
        (["--over", "tau"], "no setting 'tau' for softmax; of: optimizer"),
        (["--held-out", "1.5"], "--held-out: expected a number between 0 and 1, got '1.5'"),
        (["--held-out", "nan"], "--held-out: expected a number between 0 and 1, got 'nan'"),
        (["--epochs", "0"], "--epochs: expected a whole number from 1 to 10000, got '0'"),
        (["--candidates", "1e9"], "--candidates: expected a whole number from 1 to 10000"),
        (["--threads", "999999999999"], "--threads: expected a whole number from 1 to"),
        (["--seed", "18446744073709551616"], "--seed: expected a whole number from 0 to"),
        (["--over", ""], "--over: no setting '' for softmax"),
    ],
)
def test_a_wrong_option_is_answered_in_one_line(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as ended:
        tune.main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1
