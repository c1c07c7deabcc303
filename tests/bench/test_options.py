"""Options are checked where they enter; a plan survives its way through run.json."""

import json
from argparse import ArgumentTypeError
from dataclasses import replace

import pytest

import heads
from bench import options
from bench.cells import SWEEPS
from models import variants


def given(**values):
    named = dict.fromkeys((*options.OVERRIDES, "threads", "data")) | {
        "sweep": "quick",
        "seed": 0,
        "device": "cpu",
        "jobs": 1,
    }
    return (named | values).__getitem__


@pytest.mark.parametrize("name", SWEEPS)
def test_without_options_the_plan_is_the_sweep(name):
    assert options.plan(given(sweep=name)).sweep == SWEEPS[name]


def test_an_option_replaces_its_part_of_the_sweep_and_no_other():
    plan = options.plan(given(classes=(7, 9), epochs=3))
    assert plan.sweep == replace(SWEEPS["quick"], classes=(7, 9), epochs=3)


def test_chosen_heads_are_measured_and_trained_and_the_first_is_the_a_a_pair():
    sweep = options.plan(given(heads=("adaptive", "softmax"))).sweep
    assert sweep.heads == sweep.trained == ("adaptive", "softmax")
    assert sweep.a_a == "adaptive"


def test_variants_are_trained_beside_the_measured_heads():
    plan = options.plan(given(heads=("adaptive",), trained=("softmax-tuned", "gumbel")))
    assert plan.sweep.heads == ("adaptive",)
    assert [c.variant for c in plan.trainings()] == ["softmax-tuned", "gumbel"]


def test_none_trains_nothing():
    assert options._variants("none") == ()
    assert options.plan(given(trained=())).trainings() == []
    assert options.plan(given(epochs=0)).trainings() == []


def test_every_variant_is_trained_from_every_seed_and_seeds_come_one_after_the_other():
    plan = options.plan(given(trained=("softmax", "gumbel"), seed=3, seeds=2))
    assert [(c.seed, c.variant) for c in plan.trainings()] == [
        (3, "softmax"),
        (3, "gumbel"),
        (4, "softmax"),
        (4, "gumbel"),
    ]


def test_options_of_a_training_replace_the_variants_own_and_no_others():
    chosen = {"epochs": 2, "channels": 5, "patience": 1}
    (config,) = options.plan(given(trained=("softmax-tuned",), **chosen)).trainings()
    own = variants.config("softmax-tuned")
    assert config == replace(own, threads=config.threads, **chosen)


@pytest.mark.parametrize(("threads", "jobs", "each"), [(8, 3, 2), (2, 2, 1), (1, 4, 1)])
def test_trainings_at_once_share_the_threads(threads, jobs, each):
    plan = options.plan(given(trained=("softmax",), threads=threads, jobs=jobs))
    assert [c.threads for c in plan.trainings()] == [each]


def test_a_plan_from_before_an_option_was_known_can_be_resumed():
    content = options.plan(given()).dump()
    del content["jobs"], content["sweep"]["seeds"], content["sweep"]["pipelines"]
    assert options.Plan.load(content).jobs == 1


@pytest.mark.parametrize("name", SWEEPS)
def test_a_plan_survives_the_round_trip_through_json(name):
    plan = options.plan(given(sweep=name, threads=3, data="somewhere"))
    assert options.Plan.load(json.loads(json.dumps(plan.dump()))) == plan


@pytest.mark.parametrize(
    ("parse", "text", "complaint"),
    [
        (options.whole(2), "1", "must be at least 2, got 1"),
        (options.whole(1), "many", "expected a whole number, got 'many'"),
        (options._list_of(options.whole(2)), "4,x", "expected a whole number, got 'x'"),
        (options._variants, "softmax,nope", "unknown variant 'nope'; variants are: softmax"),
        (options._heads, "softmax,nope", "no head called 'nope'; there are: softmax"),
        (options.device, "tpu9000", "must be cpu, cuda or cuda:N, got 'tpu9000'"),
        (options.device, "cuda:99", "cuda:99: torch sees"),
    ],
)
def test_a_bad_value_is_answered_with_what_was_expected(parse, text, complaint):
    with pytest.raises(ArgumentTypeError) as refused:
        parse(text)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_lists_are_sorted_and_free_of_repetition():
    assert options._list_of(options.whole(1))("8,2,8") == (2, 8)
    assert options._heads("gumbel,softmax,gumbel") == ("gumbel", "softmax")


def test_every_head_can_be_chosen():
    assert options._heads(",".join(heads.names())) == heads.names()
