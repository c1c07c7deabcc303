"""gensim's hierarchical softmax (Cython), trained as word2vec on a corpus of random words."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import torch

from bench.peers.trainer import EPOCH_SAMPLES, Trainer
from reports.results import Cell

SENTENCE = 1000
"""Words handed over at once; far below gensim's limit, far above what a call costs."""


class Gensim(Trainer):
    """word2vec with continuous bags of words: a word is predicted from the mean of its neighbours.

    A sample is a word of the corpus. The features are the mean of the vectors of the one or two
    words beside it; both receive the gradient.

    Args:
        cell: see `Trainer`.
        epoch_samples: see `Trainer`.
        learning_rate: constant. Small, so that any length of training is stable.
        seed: of the word vectors and of the corpus.
    """

    def __init__(
        self,
        cell: Cell,
        epoch_samples: int = EPOCH_SAMPLES,
        learning_rate: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(cell, epoch_samples)
        self.model: Any = import_module("gensim.models").Word2Vec(
            vector_size=cell.features,
            window=1,
            sg=0,
            hs=1,
            negative=0,
            min_count=1,
            sample=0,
            alpha=learning_rate,
            min_alpha=learning_rate,
            workers=cell.threads,
            seed=seed,
        )
        words = [str(label) for label in range(cell.classes)]
        self.model.build_vocab_from_freq(dict.fromkeys(words, self.epoch_samples // cell.classes))
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randperm(self.epoch_samples, generator=generator) % cell.classes
        text = [words[label] for label in labels.tolist()]
        self.sentences = [text[at : at + SENTENCE] for at in range(0, len(text), SENTENCE)]

    def train(self, epochs: int) -> float:
        """Train on: wall seconds of `Word2Vec.train` on sentences in memory."""
        begin = time.perf_counter()
        self.model.train(self.sentences, total_examples=len(self.sentences), epochs=epochs)
        return time.perf_counter() - begin
