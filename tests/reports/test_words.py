"""What the report says of next-word prediction, on trainings whose figures are known."""

import math
from datetime import UTC, datetime

import pytest

from reports import units
from reports.findings import claims
from reports.findings.findings import find
from reports.findings.side_by_side import LetteredRun
from reports.findings.word_claims import (
    at_same_time,
    inverse,
    judge_faster,
    judge_same,
    together,
)
from reports.findings.words import Words, arrival, over_seeds, sentences, times
from reports.page import html, stills
from reports.page.sections.side_by_side import words as words_beside
from reports.results import Epoch, Metrics, Training, load
from reports.results.folder import create
from reports.stats.estimates import Interval

WORDS, ROUNDS = 9_000, 3


def training(variant, seed, losses, seconds=10.0, final=None, bias=None, classes=20_000):
    """A training of three rounds, each of so many seconds; losses are those of validation text."""
    epochs = tuple(
        Epoch(place + 1, loss, loss, seconds, 1.0, 0.2, 0.4, 0.1, 0.1, 0.1)
        for place, loss in enumerate(losses)
    )
    last = losses[-1] if final is None else final
    metrics = Metrics(
        0.2, 0.4, 0.1, 0.1, 0.1, None, None, predictions=500, loss=last, normaliser_bias=bias
    )
    return Training(
        head=variant,
        variant=variant,
        seed=seed,
        status="measured",
        reason="",
        started="2026-11-28T00:00:00+00:00",
        seconds=40.0,
        dataset={
            "name": "a test", "predicts": "words", "train_words": WORDS, "train_images": 300,
            "num_classes": classes,
        },
        config={"rounds": ROUNDS, "batch_size": 10, "head_options": {}, "model": "words"},
        epochs=epochs,
        final=metrics,
    )  # fmt: skip


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    run = create(tmp_path_factory.mktemp("results"), "words", datetime.now(UTC))
    run.write_facts({"schema": 2, "run": run.path.name, "started": "2026-11-28", "finished": "x"})
    for seed in range(3):
        more = seed / 100
        for one in (
            training("softmax", seed, [6 + more, 5 + more, 4 + more]),
            training("hierarchical", seed, [6.1 + more, 5.5 + more, 5 + more], seconds=1.0),
            training("hierarchical-dense", seed, [6.1 + more, 5.5 + more, 5 + more], seconds=4.0),
            training("huffman", seed, [5 + more, 4.5 + more, 3.5 + more], seconds=1.0),
            training("adaptive", seed, [5 + more, 4.5 + more, 4 + more], seconds=2.0),
            training("two-level", seed, [6 + more, 5.2 + more, 4.8 + more], seconds=5.0),
            training("sampled-unigram", seed, [6 + more, 5 + more, 4.2 + more], bias=0.03),
        ):
            run.write_training(f"{one.variant}-seed{seed}", one)
    return find(load(run.path))


@pytest.mark.parametrize(
    ("goal", "expected"), [(7.0, 10.0), (6.0, 10.0), (5.5, 15.0), (4.25, 27.5), (4.0, 30.0)]
)
def test_the_goal_is_reached_on_a_straight_line_between_rounds(goal, expected):
    assert arrival(training("a", 0, [6, 5, 4]), goal) == pytest.approx(expected)


def test_what_stays_above_never_arrives():
    assert arrival(training("a", 0, [6, 5, 4]), 3.9) is None


def test_a_line_of_the_table(findings):
    row = Words(findings).row("huffman")
    assert row.perplexity.estimate == pytest.approx(math.exp(3.51))
    assert row.against.estimate == pytest.approx(math.exp(-0.5))
    assert row.words_per_second.estimate == pytest.approx(WORDS / 3)
    assert row.to_yardstick.estimate == pytest.approx(2.5)
    assert row.speedup.estimate == pytest.approx(12)
    assert (row.arrived, row.ahead) == (3, True)


def test_the_table_begins_with_the_lowest_perplexity_and_marks_the_front(findings):
    rows = Words(findings).rows
    assert rows[0].variant == "huffman"
    assert {row.variant for row in rows if row.ahead} == {"huffman"}
    assert Words(findings).row("hierarchical").to_yardstick is None


def test_seeds_are_paired():
    found = over_seeds([2.0, 2.0, 2.0])
    assert (found.low, found.estimate, found.high) == pytest.approx((2, 2, 2))
    assert math.isinf(over_seeds([2.0]).high)


def test_the_sentences_name_who_is_first_and_what_trees_cost(findings):
    said = " ".join(sentences(Words(findings)))
    assert "With 20,000 classes, softmax ends at a perplexity of" in said
    assert "First to reach softmax's last validation perplexity is huffman" in said
    late = "sampled-unigram, two-level, hierarchical, hierarchical-dense"
    assert f"Not from every seed on as many words: {late}." in said
    assert f"{units.share(1.5)} of what the tree costs given back" in said
    assert "O(log n) survives Adam" in said
    assert "sampled-unigram takes test words to be 0.030 nats more probable" in said


def test_the_claims_are_those_on_words(findings):
    answers = {claim.name: verdict.answer for claim, verdict in claims.check(findings)}
    assert answers["adaptive-words"] == "supported"
    assert answers["sampled-words"] == "contradicted"
    assert "softmax-accuracy" not in answers


def test_ranks_are_compared_after_the_same_time(findings):
    # After 15 seconds softmax is half way between 6 and 5, and two-level at its end.
    ratio = at_same_time(Words(findings), "two-level", "softmax")
    assert ratio.estimate == pytest.approx(math.exp(4.8 - 5.5))


@pytest.mark.parametrize(
    ("low", "high", "same", "faster"),
    [
        (0.9, 1.04, "supported", "inconclusive"),
        (1.06, 1.2, "contradicted", "supported"),
        (1.01, 1.2, "inconclusive", "supported"),
        (0.5, 0.9, "supported", "contradicted"),
    ],
)
def test_verdicts_need_the_whole_interval(low, high, same, faster):
    ratio = Interval(low, (low + high) / 2, high)
    assert (judge_same(ratio), judge_faster(ratio)) == (same, faster)


def test_a_single_seed_decides_nothing():
    alone = over_seeds([0.5])
    assert {judge_same(alone), judge_faster(alone), judge_faster(inverse(alone))} == {
        "inconclusive"
    }
    assert str(times(alone)) == "0.500"


def test_one_contradiction_is_enough():
    assert together(["supported", "contradicted"]) == "contradicted"
    assert together(["supported", "inconclusive"]) == "inconclusive"


def test_the_page_shows_them(findings):
    page = html.render(findings)
    assert "Next-word prediction" in page
    assert "Adaptive softmax trains faster than the full softmax" in page


def test_runs_side_by_side_are_compared_by_vocabulary_and_drawn_in_one_figure(findings, tmp_path):
    run = create(tmp_path, "larger", datetime.now(UTC))
    run.write_facts({"schema": 2, "run": run.path.name, "started": "2026-11-28", "finished": "x"})
    for seed in range(3):
        for variant, losses in (("softmax", [6, 5, 4]), ("huffman", [6, 5, 4.5])):
            run.write_training(
                f"{variant}-seed{seed}", training(variant, seed, losses, 2.0, classes=90_000)
            )
    runs = [find(load(run.path)), findings]
    page = html.render_side_by_side(runs, ["a.html", "b.html"], "both")
    section = page[page.index('id="words"') :]
    small, large = section.index("20,000 words"), section.index("90,000 words")
    assert small < large
    assert "0 of 3 seeds" in section
    axes = stills.beside(runs).axes
    assert [one.get_title("left").split(" words")[0] for one in axes] == ["20,000", "90,000"]
    assert [len(one.lines) for one in axes] == [8, 3]  # a line each, and where softmax ends
    assert words_beside.context([LetteredRun("A", "a.html", runs[0])], {}) is None
    lettered = [LetteredRun(letter, "", run) for letter, run in zip("AB", runs, strict=True)]
    found = words_beside.context(lettered, {})
    cells = dict(found["table"])["huffman"]
    assert [str(against).split()[0] for against, _ in cells] == ["0.6065", "1.649"]  # e^-0.5, e^0.5
    assert "-perplexity" in stills.stills(findings)
