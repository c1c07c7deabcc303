"""A small language model for next-word prediction, whose head is most of it."""

from __future__ import annotations

from math import gcd
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import heads
from heads import Head
from models.classifier import Body, Classifier
from models.text import WINDOW

WIDTH = 128
"""Of embedding, recurrent layer and head's input."""


class Recurrent(Body):
    """An embedding and one gated recurrent layer: words in, features of each next word out.

    Every window begins without memory.

    Args:
        num_words: classes that are read.
        width: of the embedding and of the layer's state.
        row_sparse: whether the embedding's gradient holds the words that were read alone, so that
            a step does not walk all rows.

    Shape:
        - input: (B, T), int64
        - output: (B T, width), a row for each word, of what was read up to it

    Raises:
        ValueError: `width` below 1.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
    Machine Translation", EMNLP 2014.
    """

    def __init__(self, num_words: int, width: int = WIDTH, *, row_sparse: bool = True) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.embedding = nn.Embedding(num_words, width, sparse=row_sparse)
        # As a linear layer draws its rows, so that a head which shares them begins as ever.
        nn.init.uniform_(self.embedding.weight, -(width**-0.5), width**-0.5)
        self.layer = nn.GRU(width, width, batch_first=True)
        self.out_features = width

    def forward(self, words: Tensor) -> Tensor:
        """Features of each next word: (B, T) -> (B T, width)."""
        features: Tensor = self.layer(self.embedding(words))[0]
        return features.flatten(0, 1)


class LanguageModel(Classifier):
    """A classifier whose classes are words: tests look at the probabilities of all of them."""

    test_batch: ClassVar[tuple[int, int]] = 1024, 4096

    def tested(self, images: Tensor, target: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Mean loss, (), and the k most probable classes, best first, (N, k).

        From one pass over all classes, as most heads would make one for each of the two.
        """
        scores = self.log_prob(images)
        loss = -scores.gather(1, target.unsqueeze(1)).mean()
        return loss, scores.topk(k, dim=1).indices


def build(
    head: str,
    num_classes: int,
    *,
    width: int = WIDTH,
    tied: bool = False,
    row_sparse: bool = True,
    class_counts: Tensor | None = None,
    **head_options: Any,
) -> LanguageModel:
    """A recurrent language model with the head of that name.

    The body is initialised before anything else, so that under one seed every head starts from the
    same body.

    Args:
        head: a name of `heads.names()`.
        num_classes: number of words, at least 2.
        width: of all layers.
        tied: whether the head's rows are those of the embedding (Press and Wolf, "Using the Output
            Embedding to Improve Language Models", EACL 2017).
        row_sparse: whether the embedding's gradient is; see `Recurrent`.
        class_counts: how often each word occurs, for heads that make use of it.
        head_options: passed on to `heads.build`.

    Raises:
        ValueError: an argument is out of its range, or `tied` with a head that has no row for each
            word.
    """
    body = Recurrent(num_classes, width, row_sparse=row_sparse)
    made = heads.build(head, width, num_classes, class_counts=class_counts, **head_options)
    if tied:
        _tie(body, made, head)
    return LanguageModel(body, made)


def _tie(body: Recurrent, head: Head, name: str) -> None:
    """Make the head's weight the embedding's."""
    rows = getattr(head, "linear", None)
    if not isinstance(rows, nn.Linear) or rows.weight.shape != body.embedding.weight.shape:
        raise ValueError(
            f"head {name!r} has no row for each word that an embedding could share; tied weights "
            "are for softmax, softmax-chunked, gumbel and sampled"
        )
    body.embedding.weight = rows.weight
    # Both gradients are added up: one that is dense makes the sum dense.
    body.embedding.sparse = getattr(head, "row_sparse", False)


def noise(batch: int, num_classes: int) -> Tensor:
    """Words without meaning, of which so many next ones are predicted: (B, T) with B T = batch."""
    window = gcd(batch, WINDOW)
    return torch.randint(num_classes, (batch // window, window))
