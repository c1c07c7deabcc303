r"""Text as a stream of words: read, parted into documents, split without leak, cut to a vocabulary.

A *word* is a run of letters, digits and underscores (`\w+`), as it is written; all else parts
words. Documents are dealt out to training, validation and test by checksums of their content, so
that it does not depend on where they lie, and no document is in two of them.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import sys
import sysconfig
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.dataset import DataError
from models.folders import printable

WORD = re.compile(r"\w+")

UNKNOWN, END = "<unk>", "<end>"
"""Classes that are no words: a rare word, and the end of a document."""

VOCABULARY = 20_000
"""Classes at most, where nothing else is said."""

WINDOW = 32
"""Words that are predicted from one another; the model remembers nothing from before them."""

PARTS = ("test", "validation", *("train",) * 18)
"""Where twenty documents go, in the order of their checksums: at random, but always the same."""

FOLLOWED, TESTED, FEWEST = 50, 10, 1_000
"""Where only some words are trained on, these parts of as many are followed and tested on; at
least so many."""

SCORED = 100
"""Macro averages are over so many of the most frequent classes: most others are never tested."""

MOST_BYTES = 2**31
"""Of a text; more would not fit beside its words into the memory of a small machine."""

STANDARD_LIBRARY = "source of Python's standard library"
NO_LIBRARY = ("site-packages", "dist-packages", "__pycache__", "lib-dynload")
"""Folders beside the standard library that are not part of it."""

GZIPPED = (".gz", ".dz")
"""Suffixes of files that are unpacked: dictionaries of Debian's packages `dict-*` among them."""


@dataclass(frozen=True)
class Windows:
    """A stream of words in windows of equal length: each word is predicted from those before it.

    Attributes:
        words: classes of the stream, (L + 1,) int64: all but the last are read, all but the first
            predicted.
        length: words of a window; those at the end that fill none are left out.
    """

    words: Tensor
    length: int = WINDOW

    def __len__(self) -> int:
        return (len(self.words) - 1) // self.length

    @property
    def targets(self) -> Tensor:
        """Every word that is predicted: (len x length,)."""
        return self.words[1 : 1 + len(self) * self.length]

    def batch(self, index: Tensor, flipped: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Words read and words predicted in the windows at `index`: (B,) -> (B, T), (B T,)."""
        places = torch.arange(self.length, device=index.device)
        places = index.unsqueeze(1) * self.length + places
        return self.words[places], self.words[places + 1].flatten()

    def batches(self, predictions: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All windows in their order, about so many words at a time."""
        windows = torch.arange(len(self), device=self.words.device)
        for index in windows.split(max(1, predictions // self.length)):
            yield self.batch(index)

    def first(self, words: int) -> Windows:
        """Its beginning, of so many words."""
        return replace(self, words=self.words[: words + 1])

    def to(self, device: torch.device) -> Windows:
        """The same windows on `device`."""
        return replace(self, words=self.words.to(device))


@dataclass(frozen=True)
class Text:
    """A text for next-word prediction.

    Attributes:
        name: what it is called.
        words: of each class, the most frequent first; `UNKNOWN` and `END` are among them.
        class_counts: how often each class occurs in the training text, (n,) int64, descending.
        train: the training text.
        validation: followed while training, and what settings are chosen on.
        test: the test text.
        notes: what else is known of it, in words under a short name each.
    """

    name: str
    words: tuple[str, ...]
    class_counts: Tensor
    train: Windows
    validation: Windows
    test: Windows
    notes: Mapping[str, str] = field(default_factory=dict)

    stand_in = False
    reason = ""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.words)

    @property
    def followed(self) -> Windows:
        """The validation text."""
        return self.validation

    @property
    def scored_classes(self) -> int:
        """The most frequent ones."""
        return min(SCORED, self.num_classes)

    def facts(self) -> dict[str, Any]:
        """What the results folder keeps of it; the words themselves would outweigh all else."""
        return {
            "name": self.name,
            "stand_in": False,
            "reason": "",
            "predicts": "words",
            "train_images": len(self.train),
            "test_images": len(self.test),
            "train_words": len(self.train.targets),
            "validation_words": len(self.validation.targets),
            "test_words": len(self.test.targets),
            "window": self.train.length,
            "num_classes": self.num_classes,
            "unknown_share": self._share(UNKNOWN),
            "unigram_loss": self._unigram_loss(),
            **self.notes,
        }

    def account(self) -> list[str]:
        """Lines that say what is trained on, before it is."""
        return [
            f"Data: {self.name}, {self.num_classes:,} classes, {len(self.train.targets):,} training"
            f", {len(self.validation.targets):,} validation and {len(self.test.targets):,} test "
            f"words; {self._share(UNKNOWN):.1%} of the test words are unknown",
            *(f"  {name.replace('_', ' ')}: {text}" for name, text in self.notes.items()),
        ]

    def _share(self, word: str) -> float:
        """Of the test words."""
        if word not in self.words:
            return 0.0
        return float((self.test.targets == self.words.index(word)).double().mean())

    def _unigram_loss(self) -> float:
        """Mean loss on the test text of the words' frequencies alone: what a model has to beat."""
        share = (self.class_counts.double() + 1) / (self.class_counts.double() + 1).sum()
        return float(-share.log()[self.test.targets.cpu()].mean())

    def fingerprint(self) -> str:
        """A checksum of all words."""
        crc = 0
        for windows in (self.train, self.validation, self.test):
            crc = zlib.crc32(windows.words.cpu().numpy().data, crc)
        return f"{crc:08x}"

    def to(self, device: torch.device) -> Text:
        """The same text on `device`; the counts stay, as only building a head asks for them."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device),
            test=self.test.to(device),
        )

    def held_out(self, share: float = 0.1, seed: int = 0) -> Text:
        """The validation text in the place of the test text, which is never looked at."""
        return replace(self, test=self.validation)

    def shortened(self, train: int | None, seed: int = 0) -> Text:
        """With so many training words at most, and less of the other parts, in proportion.

        The classes stay, and so do their counts: a vocabulary is made of all there is to read.
        """
        if train is None or train >= len(self.train.targets):
            return self
        followed, tested = (max(FEWEST, train // part) for part in (FOLLOWED, TESTED))
        drawn = f"the first {train:,} training words, {followed:,} to follow, {tested:,} to test on"
        return replace(
            self,
            train=self.train.first(train),
            validation=self.validation.first(followed),
            test=self.test.first(tested),
            notes={**self.notes, "drawn": drawn},
        )


def load(given: Path | None = None, vocabulary: int = VOCABULARY) -> Text:
    """The text in a file or folder, else the source of Python's standard library.

    Args:
        given: a text file, packed by gzip or not, whose documents are its paragraphs, parted by
            empty lines; or a folder, whose documents are the text files in it.
        vocabulary: classes at most, at least 2: `UNKNOWN` and `END`, and the most frequent words
            of the training text; of words alike, those first in the alphabet.

    Raises:
        DataError: it cannot be read, or is too little to train and test on.
    """
    try:
        documents, notes = _documents(given)
        dealt, found, digest = _deal(documents)
    except OSError as error:
        raise DataError(
            f"{printable(given or 'the standard library')}: {error.strerror or error}; give a text "
            "file or a folder of text files that can be read, with --data"
        ) from None
    short = [part for part, words in dealt.items() if len(words) <= WINDOW]
    if short:
        raise DataError(
            f"{printable(given or 'the standard library')} holds too little text: its documents "
            f"({found:,}) leave no {WINDOW + 1} words for {' and '.join(short)}; give more, in "
            "more documents, with --data"
        )
    counts = Counter(dealt["train"])
    ends = counts.pop(END)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = dict(ranked[: max(0, vocabulary - 2)])
    kept[END] = ends
    kept[UNKNOWN] = sum(counts.values()) + ends - sum(kept.values())
    ordered = sorted(kept.items(), key=lambda item: (-item[1], item[0]))
    number = {word: place for place, (word, _) in enumerate(ordered)}
    unknown = number[UNKNOWN]
    streams = {
        part: Windows(torch.tensor([number.get(word, unknown) for word in words]))
        for part, words in dealt.items()
    }
    notes["types"] = f"{len(counts):,} different words in the training text"
    notes["documents"] = f"{found:,} different ones, dealt out by their content: 90 % to train on"
    notes["sha256"] = digest
    return Text(
        name=notes.pop("name"),
        words=tuple(word for word, _ in ordered),
        class_counts=torch.tensor([count for _, count in ordered]),
        notes=notes,
        **streams,
    )


def _documents(given: Path | None) -> tuple[Iterable[str], dict[str, str]]:
    """The documents of a text, in a fixed order, and its name and licence."""
    if given is None:
        version = ".".join(map(str, sys.version_info[:3]))
        notes = {
            "name": f"{STANDARD_LIBRARY} {version}",
            "licence": "Python Software Foundation License Version 2",
        }
        return _files(Path(sysconfig.get_path("stdlib")), ("*.py",)), notes
    name, licence = f"text in {printable(given.resolve().name or given)}", "that of your text"
    if given.is_dir():
        return _files(given, ("*",)), {"name": name, "licence": licence}
    paragraphs = re.split(r"\n\s*\n", _read(given))
    return paragraphs, {"name": name, "licence": licence}


def _files(folder: Path, patterns: Sequence[str]) -> Iterator[str]:
    """Texts of the files under `folder`; those that are no text are left out."""
    for path in sorted(path for pattern in patterns for path in folder.rglob(pattern)):
        within = path.relative_to(folder).parts
        if path.is_file() and not any(part in NO_LIBRARY or part[0] == "." for part in within):
            try:
                yield _read(path)
            except DataError:
                continue


def _read(path: Path) -> str:
    """A file of text.

    Raises:
        DataError: it is none.
    """
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{printable(path)} is larger than {MOST_BYTES:,} bytes; give a part of it")
    content = path.read_bytes()
    try:
        if path.suffix in GZIPPED:
            content = gzip.decompress(content)
        return content.decode("utf-8")
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(
            f"{printable(path)} is no text in UTF-8, packed by gzip or not; give one that is"
        ) from None


def _deal(documents: Iterable[str]) -> tuple[dict[str, list[str]], int, str]:
    """The words of each part, how many different documents there are, and their SHA-256.

    The same text twice is one document: else it could be trained and tested on.
    """
    found: dict[bytes, list[str]] = {}
    for document in documents:
        words = WORD.findall(document)
        if words:
            found.setdefault(hashlib.sha256(" ".join(words).encode()).digest(), words)
    part_of = {digest: PARTS[place % len(PARTS)] for place, digest in enumerate(sorted(found))}
    dealt: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for digest, words in found.items():
        dealt[part_of[digest]] += [*words, END]
    return dealt, len(found), hashlib.sha256(b"".join(found)).hexdigest()
