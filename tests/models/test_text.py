"""Text: dealt out by document without leak, cut to a vocabulary, seen in windows."""

import gzip
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import text
from models.dataset import DataError

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty documents of some hundred words, each with some of its own."""
    made = tmp_path_factory.mktemp("text")
    for place in range(40):
        words = [NUMBERS[(place * step) % 7] for step in range(90)]
        (made / f"{place}.txt").write_text(" ".join([*words, *["mine", str(place)] * 5]))
    return made


@pytest.fixture(scope="module")
def read(folder):
    return text.load(folder, 12)


@given(st.lists(st.text("ab \n", max_size=12), max_size=80))
def test_no_document_is_in_two_parts(documents):
    dealt, different, _ = text._deal(documents)
    known = {tuple(text.WORD.findall(document)) for document in documents} - {()}
    found = []
    for words in dealt.values():
        ends = [place for place, word in enumerate(words) if word == text.END]
        starts = [0, *(end + 1 for end in ends)]
        found += [tuple(words[a:b]) for a, b in zip(starts, ends, strict=False)]
    assert sorted(found) == sorted(known)
    assert len(found) == different


def test_every_twentieth_document_is_tested_on_and_another_followed():
    dealt, _, _ = text._deal(f"document {number}" for number in range(100))
    assert {part: words.count(text.END) for part, words in dealt.items()} == {
        "train": 90, "validation": 5, "test": 5,
    }  # fmt: skip


def test_classes_are_numbered_by_descending_frequency_in_the_training_text(read):
    counts = torch.bincount(read.train.words, minlength=read.num_classes)
    assert read.class_counts.tolist() == counts.tolist() == sorted(counts.tolist(), reverse=True)
    assert read.num_classes == 12
    assert {text.UNKNOWN, text.END, "mine"} <= set(read.words)


def test_what_is_left_out_of_the_vocabulary_is_unknown(folder):
    whole, cut = text.load(folder, 10_000), text.load(folder, 6)
    kept = [cut.words.index(word) if word in cut.words else -1 for word in whole.words]
    unknown = cut.words.index(text.UNKNOWN)
    expected = [kept[word] if kept[word] >= 0 else unknown for word in whole.train.words.tolist()]
    assert cut.train.words.tolist() == expected
    assert cut.num_classes == 6
    assert whole.class_counts[whole.words.index(text.UNKNOWN)] == 0


def test_words_read_and_words_predicted_are_one_apart(read):
    inputs, targets = read.train.batch(torch.tensor([3, 0]))
    length = read.train.length
    assert inputs.flatten().tolist() == torch.cat(
        [read.train.words[3 * length : 4 * length], read.train.words[:length]]
    ).tolist()  # fmt: skip
    assert torch.equal(inputs[:, 1:], targets.view(2, length)[:, :-1])


def test_batches_go_through_all_targets_in_their_order(read):
    parts = [targets for _, targets in read.test.batches(100)]
    assert torch.equal(torch.cat(parts), read.test.targets)


def test_the_text_does_not_depend_on_where_it_lies(folder, read, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert text.load(tmp_path / "elsewhere", 12).fingerprint() == read.fingerprint()


def test_a_file_is_its_paragraphs_packed_or_not(folder, tmp_path):
    together = "\n \n".join(path.read_text() for path in sorted(folder.iterdir()))
    (tmp_path / "all.txt").write_text(together)
    (tmp_path / "all.dict.dz").write_bytes(gzip.compress(together.encode()))
    plain, packed = (text.load(tmp_path / name, 12) for name in ("all.txt", "all.dict.dz"))
    assert plain.fingerprint() == packed.fingerprint()
    assert plain.notes["documents"] == text.load(folder, 12).notes["documents"]


def test_a_shorter_text_keeps_its_classes(read):
    short = read.shortened(1_000)
    assert len(short.train.targets) <= 1_000 < len(read.train.targets)
    assert short.words == read.words
    assert read.shortened(10**9) is read


def test_held_out_never_gives_the_test_text(read):
    assert read.held_out().test is read.validation


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, r"too little text: its documents \(0\)"),
        (
            {"a.txt": b"a few words"},
            r"its documents \(1\) leave no 33 words for train and",
        ),
        ({"a.bin": b"\xff\xfe\x00"}, "too little text"),
    ],
)
def test_too_little_is_one_line(content, said, tmp_path):
    for name, some in content.items():
        (tmp_path / name).write_bytes(some)
    with pytest.raises(DataError, match=said) as caught:
        text.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"\xff\xfe\x00", "is no text in UTF-8"),
        ("a.gz", b"not packed", "is no text in UTF-8, packed by gzip or not"),
        (
            "a.gz",
            gzip.compress(b"cut short" * 99, mtime=0)[:20],
            "is no text in UTF-8, packed by gzip",
        ),
        ("missing", None, "No such file or directory; give a text file or a folder"),
    ],
)
def test_a_file_that_is_no_text_is_one_line(name, content, said, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        text.load(tmp_path / name)
    assert "\n" not in str(caught.value)
