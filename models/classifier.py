"""A model: a body that turns inputs into features, and an output head on them."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from heads.base import Head, HeadOutput


class Body(nn.Module):
    """What turns inputs into features.

    Attributes:
        out_features: of each prediction.
    """

    out_features: int


class Classifier(nn.Module):
    """A body, an optional linear layer, and any output head: inputs in, classes out.

    Offers what a head offers (`forward`, `log_prob`, `predict`, `topk`), for inputs. What is said
    here of images holds for whatever the body takes.

    Args:
        body: turns inputs into `body.out_features` features, a row for each prediction.
        head: the output head; its `in_features` is the width of what it sits on.
        linear: the layer between them, for a head that sits on logits.

    Raises:
        ValueError: the head's `in_features` is not the width of what it sits on.
    """

    head: Head

    test_batch: ClassVar[tuple[int, int]] = 100, 2000
    """Predictions of a test pass at a time: on a CPU, small enough for the activations to stay in
    its caches, and for heads of many classes; else large enough to keep an accelerator busy."""

    def __init__(self, body: Body, head: Head, linear: nn.Linear | None = None) -> None:
        super().__init__()
        width = body.out_features if linear is None else linear.out_features
        if head.in_features != width:
            raise ValueError(f"the head must have in_features={width}, got {head.in_features}")
        self.body = body
        self.linear = nn.Identity() if linear is None else linear
        self.head = head

    def embed(self, images: Tensor) -> Tensor:
        """What the head sees of each image: (N, 3, 32, 32) -> (N, head.in_features)."""
        embedded: Tensor = self.linear(self.body(images))
        return embedded

    def forward(self, images: Tensor, target: Tensor) -> HeadOutput:
        """Log-probability of each target and the mean loss: -> (N,), ()."""
        output: HeadOutput = self.head(self.embed(images), target)
        return output

    def tested(self, images: Tensor, target: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Mean loss, (), and the k most probable classes, best first, (N, k)."""
        return self(images, target).loss, self.topk(images, k)[1]

    def log_prob(self, images: Tensor) -> Tensor:
        """Log-probability of every class: -> (N, num_classes)."""
        return self.head.log_prob(self.embed(images))

    def predict(self, images: Tensor) -> Tensor:
        """The most probable class: -> (N,)."""
        return self.head.predict(self.embed(images))

    def topk(self, images: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k most probable classes, best first: -> log-probabilities, classes (N, k)."""
        return self.head.topk(self.embed(images), k)
