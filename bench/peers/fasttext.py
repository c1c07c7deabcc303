"""fastText's hierarchical softmax (C++), trained as a text classifier on words without meaning."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import torch
from torch import Tensor

from bench.peers.trainer import EPOCH_SAMPLES, Trainer
from reports.results import Cell

TICK = 0.1
"""Seconds between two looks of fastText whether its threads are done; one thread needs none."""

TOKENS = 3
"""Of a line: a word, a label, and the end of the line, which fastText counts as a word too."""

LABEL, END_OF_LINE = "L", "</s>"
"""What a label begins with, by our choice; and what fastText calls the end of a line."""


class FastText(Trainer):
    """fastText in supervised mode: the mean of a line's word vectors, a Huffman tree, plain SGD.

    A line holds one of `batch` words and a label. The features are the mean of the word's vector
    and of that of the line's end; both receive the gradient.

    Args:
        cell: see `Trainer`.
        epoch_samples: see `Trainer`.
        learning_rate: at the start; it falls to 0. Small, so that any length of training is stable.
        seed: of the word vectors and of the order of labels.
    """

    def __init__(
        self,
        cell: Cell,
        epoch_samples: int = EPOCH_SAMPLES,
        learning_rate: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(cell, epoch_samples)
        self._library = import_module("fasttext")
        self._folder = TemporaryDirectory()
        self._learning_rate = learning_rate
        self.model: Any = None
        self.words = [f"w{index}" for index in range(cell.batch)]
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randperm(self.epoch_samples, generator=generator) % cell.classes
        self.vectors = torch.empty(cell.batch + 1, cell.features)
        self.vectors.uniform_(-1 / cell.features, 1 / cell.features, generator=generator)
        self._lines = self._write("lines.txt", _lines(self.words, self.labels))
        # fastText's own first vectors are left in part without a value when it has few threads.
        self._first = self._write("first.txt", _vectors([*self.words, END_OF_LINE], self.vectors))

    def train(self, epochs: int) -> float:
        """Train anew: seconds of the training alone, by fastText's own count of words a second.

        Its clock begins when the vocabulary is read and the tree is built, and goes on until it
        sees that its threads are done.
        """
        threads = self.cell.threads
        with _standard_error() as said:
            self.model = self._library.train_supervised(
                self._lines,
                loss="hs",
                dim=self.cell.features,
                epoch=epochs,
                lr=self._learning_rate,
                thread=threads,
                label=LABEL,
                pretrainedVectors=self._first,
                verbose=1,
            )
        *_, words_per_second = re.findall(r"words/sec/thread:\s*(\d+)", said[0])
        seconds = epochs * self.epoch_samples * TOKENS / (int(words_per_second) * threads)
        return seconds - TICK / 2 if threads > 1 else seconds

    def predict(self, rounds: int) -> float:
        """Search the tree for the best label of a few words, each as a text."""
        if self.model is None:
            self.train(1)
        texts = (self.words * self.predict_samples)[: self.predict_samples]
        begin = time.perf_counter()
        for _ in range(rounds):
            self.model.predict(texts)
        return time.perf_counter() - begin

    def _write(self, name: str, lines: Iterator[str]) -> str:
        path = Path(self._folder.name) / name
        with path.open("w", encoding="utf-8") as file:
            file.writelines(lines)
        return str(path)


def _lines(words: list[str], labels: Tensor) -> Iterator[str]:
    for index, label in enumerate(labels.tolist()):
        yield f"{words[index % len(words)]} {LABEL}{label}\n"


def _vectors(words: list[str], vectors: Tensor) -> Iterator[str]:
    yield f"{len(words)} {vectors.size(1)}\n"
    for word, vector in zip(words, vectors.tolist(), strict=True):
        yield f"{word} {' '.join(f'{value:.9g}' for value in vector)}\n"


@contextmanager
def _standard_error() -> Iterator[list[str]]:
    """What C++ writes to standard error meanwhile, at the end: a list of one string."""
    said: list[str] = []
    with TemporaryFile() as file:
        shown = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
