"""Labels are parsed into counts, and targets follow them."""

import json
import sys

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from bench.measure import labels

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("given", "spelt"),
    [
        ("uniform", "uniform"),
        ("zipf", "zipf:1"),
        ("zipf:1.50", "zipf:1.5"),
        ("zipf:.5", "zipf:0.5"),
    ],
)
def test_each_labels_have_one_spelling_that_parses_again(given, spelt):
    assert labels.parse(given) == labels.parse(spelt) == labels.name(spelt) == spelt
    assert labels.most_classes(spelt) is None


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_zipfs_counts_are_powers_of_the_rank(exponent):
    found = labels.counts(f"zipf:{exponent:g}", 50)
    np.testing.assert_allclose(found / found[0], 1 / np.arange(1, 51) ** exponent)


@pytest.mark.parametrize("name", ["uniform", "zipf:1", "zipf:2", "file"])
def test_targets_are_drawn_as_often_as_classes_occur(name, tmp_path):
    if name == "file":
        path = tmp_path / "my counts.txt"
        path.write_text("7 0 3 20\n0,5")
        name = labels.name(labels.parse(str(path)))
    torch.manual_seed(0)
    drawn = labels.draw(name, 6, (400, 50), CPU)
    assert drawn.shape == (400, 50)
    assert drawn.dtype == torch.int64
    counts = labels.counts(name, 6).numpy()
    found = np.bincount(drawn.flatten(), minlength=6)
    assert not found[counts == 0].any()
    expected = (20_000 * counts / counts.sum())[counts > 0]
    assert chisquare(found[counts > 0], expected).pvalue > 1e-3


@pytest.mark.parametrize(
    "content", ["5\n4\n4\n0\n", "5, 4, 4, 0", "[5, 4, 4.0, 0]", '{"a": 5, "b": 4, "c": 4, "d": 0}']
)
def test_a_file_of_counts_is_text_or_json_and_stays_the_same_under_its_name(content, tmp_path):
    path = tmp_path / "counts.dat"
    path.write_text(content)
    parsed = labels.parse(str(path))
    assert labels.parse(parsed) == parsed
    name = labels.name(parsed)
    assert name.startswith("counts:counts#")
    assert labels.counts(name, 4).tolist() == [5, 4, 4, 0]
    assert labels.most_classes(parsed) == 4
    with pytest.raises(ValueError, match=r"are of 4 classes, not of 5"):
        labels.counts(name, 5)
    path.write_text("1 2 3 4")
    with pytest.raises(ValueError, match="has other counts than when the run began"):
        labels.parse(parsed)


def test_of_more_counts_than_classes_the_largest_are_taken_as_they_stand(tmp_path):
    path = tmp_path / "many.json"
    path.write_text(json.dumps([1, 9, 2, 8, 3]))
    name = labels.name(labels.parse(str(path)))
    assert labels.counts(name, 3).tolist() == [9, 8, 3]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"1 2 x", "expected numbers, got 'x' as number 3"),
        (b"1 -2", "count 2 must be at least 0 and finite, got -2.0"),
        (b"1 nan", "count 2 must be at least 0 and finite, got nan"),
        (b"1 1e999", "count 2 must be at least 0 and finite, got inf"),
        (b"0 0 0", "all counts are 0"),
        (b"3", "a count for each of at least 2 classes"),
        (b"", "a count for each of at least 2 classes"),
        (b"\xff\xfe", "neither text nor JSON"),
        (b"[1, 2", "damaged JSON"),
        (b'[1, "2"]', "expected numbers, got '2' as number 2"),
        (b"[1, true]", "expected numbers, got 'True' as number 2"),
        (b'{"a": [1]}', "expected numbers, got '[1]' as number 1"),
        (b"[1, 1" + b"0" * 400 + b"]", "a count is too large"),
    ],
)
def test_a_file_that_is_no_counts_is_refused_in_one_line(content, complaint, tmp_path):
    path = tmp_path / "counts.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"counts\.txt") as refused:
        labels.parse(str(path))
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("nowhere", "there is no file 'nowhere'"),
        ("", "cannot read '.'"),
        ("zipf:0", "expected a number from 0.01 to 4, got '0'"),
        ("zipf:x", "expected a number from 0.01 to 4, got 'x'"),
        ("words:", "no words of language ''|needs the optional extra"),
        ("words:klingon", "no words of language 'klingon'|needs the optional extra"),
    ],
)
def test_labels_that_do_not_exist_are_answered_in_one_line(given, complaint):
    with pytest.raises(ValueError, match=complaint) as refused:
        labels.parse(given)
    assert "\n" not in str(refused.value)


def test_words_of_a_language_are_its_frequencies():
    library = pytest.importorskip("wordfreq", reason="needs the optional extra 'words'")
    assert labels.parse("words:en") == "words:en"
    assert labels.most_classes("words:en") > 300_000
    found = labels.counts("words:en", 1000)
    assert found[0].item() == pytest.approx(library.word_frequency("the", "en"), rel=0.02)
    assert (found.diff() <= 0).all()


def test_without_the_extra_words_are_refused_with_its_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    labels._words.cache_clear()
    with pytest.raises(ValueError, match="needs the optional extra 'words'"):
        labels.parse("words:en")
