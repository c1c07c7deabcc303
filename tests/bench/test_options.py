"""Options are checked where they enter; a plan survives its way through run.json."""

import json
from argparse import ArgumentTypeError
from dataclasses import replace

import pytest

import heads
from bench import options
from bench.cells import SWEEPS
from models import variants
from reports.arguments import Parser, whole


def given(**values):
    named = dict.fromkeys(
        (*options.OVERRIDES, "autocast", "threads", "data", "minutes", "cluster")
    ) | {
        "sweep": "quick",
        "seed": 0,
        "device": "cpu",
        "jobs": 1,
        "heap": "default",
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


@pytest.mark.parametrize(
    ("sweep", "asked", "expected"),
    [
        ("default", None, 12.0),
        ("quick", None, None),
        ("quick", "3", 3.0),
        ("default", "0.5", 0.5),
        ("default", "none", None),
    ],
)
def test_a_run_has_the_minutes_asked_for_else_those_of_its_sweep(sweep, asked, expected):
    minutes = asked and options._minutes(asked)
    plan = options.plan(given(sweep=sweep, minutes=minutes))
    assert plan.minutes == expected
    assert options.Plan.load(json.loads(json.dumps(plan.dump()))) == plan


@pytest.mark.parametrize("asked", ["-1", "nan", "x", "", "1e9"])
def test_minutes_that_cannot_be_are_refused(asked):
    with pytest.raises(ArgumentTypeError, match="expected a number"):
        options._minutes(asked)


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
        (options._ascending(whole(2, 9)), "4,x", "expected a whole number from 2 to 9, got 'x'"),
        (options._heads, "softmax,,gumbel", "expected names parted by commas, got an empty one"),
        (options._variants, "softmax,,nope", "expected names parted by commas, got an empty one"),
        (options._heads, "softmax(a=1),gumbel", "head 'softmax' has no option 'a'"),
        (options._heads, "hierarchical(tree=huffman", "expected a name or name(option=value,...)"),
        (options._heads, "fasttext(a=1)", "fasttext is a peer, and has no options"),
        (
            options._heads,
            f"adaptive(cutoffs={'/'.join(map(str, range(1, 60)))})",
            "longer than 120",
        ),
        (options._label, "nowhere", "there is no file 'nowhere'"),
        (options.among(("a", "b")), "a,c", "expected one of a, b, got 'c'"),
        (options._heads, "softmax,nope", "no head called 'nope'; there are: softmax"),
        (options.device, "tpu9000", "must be cpu, cuda or cuda:N, got 'tpu9000'"),
        (options.device, "cuda:99", "cuda:99: torch sees"),
        (options.device, "cuda:-1", "must be cpu, cuda or cuda:N, got 'cuda:-1'"),
        (options.device, "cuda:9999999999999999999", "must be cpu, cuda or cuda:N"),
    ],
)
def test_a_bad_value_is_answered_with_what_was_expected(parse, text, complaint):
    with pytest.raises(ArgumentTypeError) as refused:
        parse(text)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_lists_are_sorted_and_free_of_repetition():
    assert options._ascending(whole(1, 9))("8,2,8") == (2, 8)
    assert options._heads("gumbel,softmax,gumbel") == ("gumbel", "softmax")


def test_every_head_can_be_chosen():
    assert options._heads(",".join(heads.names())) == heads.names()


class Group:
    """What `add_to` asks of pytest's parser, in front of a plain one."""

    def __init__(self):
        self.parser = Parser("bench")
        self.addoption = self.parser.add_argument

    def getgroup(self, *_):
        return self


@pytest.fixture
def refusal(capsys):
    """The line that refuses an option."""
    group = Group()
    options.add_to(group)

    def refuse(flag, value):
        with pytest.raises(SystemExit):
            group.parser.parse_args([f"{flag}={value}"])
        return capsys.readouterr().err

    return refuse


@pytest.mark.parametrize(
    "flag",
    [
        *("--classes", "--batches", "--model-classes", "--features", "--passes", "--epochs"),
        *("--train-images", "--seeds", "--channels", "--patience", "--threads", "--seed", "--jobs"),
    ],
)
@pytest.mark.parametrize(
    "value", ["-1", "999999999999", "9" * 30, "nan", "1e3", "1_0", "\uff11\uff10", "", "1 0"]
)
def test_every_number_has_a_range_that_its_refusal_names(refusal, flag, value):
    told = refusal(flag, value)
    assert f"argument {flag}: expected a whole number from " in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_time", value) for value in ("NaN", "Infinity", "-1", "0", "1E+9")),
        *(("min_time", value) for value in ("NaN", "-0.1", "0", "61")),
        *(("min_rounds", value) for value in (0, 10**9)),
        *(("precision", value) for value in (0.0, 1.0, float("nan"))),
        *(("confidence", value) for value in (0.0, 1.0)),
        *(("calibration_precision", value) for value in (0, -1, 10**20)),
        ("warmup_iterations", -1),
    ],
)
def test_pytest_benchmarks_own_options_have_ranges_too(name, value):
    values = dict.fromkeys(f"benchmark_{one}" for one in options.BENCHMARK)
    flag = f"--benchmark-{name.replace('_', '-')}"
    with pytest.raises(
        pytest.UsageError, match=f"argument {flag}: expected a .*number "
    ) as refused:
        options.check_benchmark((values | {f"benchmark_{name}": value}).__getitem__)
    assert "\n" not in str(refused.value)


def test_what_the_sweeps_ask_of_pytest_benchmark_is_within_its_ranges(pytestconfig):
    options.check_benchmark(pytestconfig.getoption)


def test_options_that_are_fine_alone_can_be_too_much_together():
    with pytest.raises(pytest.UsageError, match=r"make [\d,]+ visits, expected at most 200,000"):
        options.plan(given(passes=1_000, classes=tuple(range(2, 60))))


def test_heads_with_options_are_spelt_in_one_way_and_trained_where_they_can_be():
    asked = options._heads("softmax, hierarchical(tree=huffman), adaptive( cutoffs=10/50 )")
    assert asked == ("softmax", "hierarchical(tree=huffman)", "adaptive(cutoffs=10/50)")
    plan = options.plan(given(heads=asked))
    assert plan.sweep.heads == asked
    assert plan.sweep.trained == ("softmax", "adaptive(cutoffs=10/50)")
    config = plan.trainings()[1]
    assert (config.head, config.head_options) == ("adaptive", {"cutoffs": [10, 50]})
    assert options.Plan.load(json.loads(json.dumps(plan.dump()))) == plan


def test_options_that_suit_no_size_are_refused_and_others_are_not():
    plan = options.plan(given(heads=("hierarchical(branching=300)",)))
    assert plan.sweep.heads == ("hierarchical(branching=300)",)
    with pytest.raises(
        pytest.UsageError, match=r"no hierarchical\(tree=oak\) of .*unknown tree"
    ) as no:
        options.plan(given(heads=("hierarchical(tree=oak)",)))
    assert "\n" not in str(no.value)


def test_labels_that_know_too_few_classes_are_refused(tmp_path):
    path = tmp_path / "counts.txt"
    path.write_text("3 2 1")
    asked = options.several(options._label)(f"uniform,{path}")
    with pytest.raises(pytest.UsageError, match=r"labels counts:counts#\w+ know 3 classes"):
        options.plan(given(labels=asked))
    plan = options.plan(given(labels=asked, classes=(2, 3), model_classes=(3,)))
    content = json.loads(json.dumps(plan.dump()))
    assert options.Plan.load(content) == plan
    path.write_text("1 2 3")
    with pytest.raises(ValueError, match="has other counts than when the run began"):
        options.Plan.load(content)


def test_autocast_is_a_dtype_of_the_cells():
    assert options.plan(given(autocast=("bfloat16",))).sweep.dtypes == ("autocast-bfloat16",)
    both = options.plan(given(dtypes=("float32",), autocast=("bfloat16", "float16")))
    assert both.sweep.dtypes == ("float32", "autocast-bfloat16", "autocast-float16")
    asked = given(sweep=None, seed=None, device=None, jobs=None, autocast=("bfloat16",))
    assert options.contradiction(both, asked).startswith("--dtype autocast-bfloat16 contradicts")
    with pytest.raises(pytest.UsageError, match="tf32 is CUDA's"):
        options.plan(given(dtypes=("tf32",)))


def test_a_plan_with_one_width_as_it_was_once_written_can_be_resumed():
    content = options.plan(given()).dump()
    content["sweep"]["features"] = 64
    for later in ("labels", "states", "dtypes", "optimizers", "product"):
        del content["sweep"][later]
    sweep = options.Plan.load(content).sweep
    assert (sweep.features, sweep.labels, sweep.states) == ((64,), ("uniform",), ("untrained",))


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("labels", ["zipf:x"], "labels: zipf:S: expected a number"),
        ("states", ["asleep"], "states: expected untrained or unsure or sure"),
        ("dtypes", ["int3"], "no dtype called 'int3'"),
        ("optimizers", ["luck"], "no optimizer called 'luck'"),
        ("heads", ["softmax(a=1)"], "has no option 'a'"),
    ],
)
def test_a_damaged_plan_is_answered_with_what_was_expected(field, value, complaint):
    content = json.loads(json.dumps(options.plan(given()).dump()))
    content["sweep"][field] = value
    with pytest.raises(ValueError, match=complaint):
        options.Plan.load(content)
