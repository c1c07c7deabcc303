"""What the training loop needs of a data set, whatever it is of: images, words, yours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self

import torch
from torch import Tensor


class DataError(Exception):
    """The data cannot be used; the message is one line that says why and what to do."""


class Split(Protocol):
    """Examples and their classes, on one device; an example may have several of these.

    Attributes:
        targets: the class of every prediction, (M,) int64.
    """

    @property
    def targets(self) -> Tensor:
        """Class of every prediction, in the order of the examples: (M,)."""

    def __len__(self) -> int:
        """How many examples there are."""

    def batch(self, index: Tensor, flipped: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the examples at `index`: (B,) -> (B, ...), (B times M / N,)."""

    def batches(self, predictions: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of it in its order, about so many predictions at a time."""

    def to(self, device: torch.device) -> Self:
        """The same split on `device`."""


class Dataset(Protocol):
    """A training and a test split, and what is known of them."""

    @property
    def name(self) -> str:
        """What the data set is called."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def class_counts(self) -> Tensor | None:
        """How often each class occurs in the training split, (n,); None if heads are not told."""

    @property
    def train(self) -> Split:
        """What is trained on."""

    @property
    def test(self) -> Split:
        """What the end result is tested on."""

    @property
    def followed(self) -> Split:
        """What is tested on the way: the test split, or text that only serves this."""

    @property
    def scored_classes(self) -> int:
        """Macro averages are over the first so many classes."""

    @property
    def stand_in(self) -> bool:
        """Whether it is generated, so that no accuracy means anything."""

    @property
    def reason(self) -> str:
        """Why it is generated; empty where it is not."""

    def facts(self) -> dict[str, Any]:
        """What the results folder keeps of it; JSON's own types only."""

    def account(self) -> list[str]:
        """Lines that say what is trained on, before it is."""

    def to(self, device: torch.device) -> Self:
        """The same data set on `device`."""

    def fingerprint(self) -> str:
        """A checksum of all examples and their classes."""

    def shortened(self, train: int | None, seed: int = 0) -> Self:
        """With so many training images, or words, at most; all of them where None."""

    def held_out(self, share: float = 0.1, seed: int = 0) -> Self:
        """The training split alone, some of it to test on: for choices that must not see the test.

        Raises:
            ValueError: `share` leaves a split without examples.
        """
