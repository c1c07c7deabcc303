"""TinyVGG: the small convolutional body of the published study."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

import heads
from models.classifier import Body, Classifier

IMAGE_SIZE = 32
PUBLISHED_LOGITS = 100

On = Literal["features", "logits"]


class TinyVGG(Body):
    """Two blocks of conv-ReLU-conv-ReLU-maxpool: images in, a flat vector of features out.

    The pooling comes before the second ReLU, which then has a quarter of the work: the same
    function with the same gradient, as both only ever pass on the largest of a window.

    The published study uses 10 channels, 3x3 kernels and no padding, which leaves 10 x 5 x 5 = 250
    features of a 32 x 32 image; with padding 1 it is 10 x 8 x 8 = 640.

    Args:
        channels: width of every convolution.
        padding: zeros around the input of every convolution.

    Shape:
        - input: (N, 3, 32, 32), fastest in `torch.channels_last`
        - output: (N, out_features)

    Raises:
        ValueError: `channels` < 1 or `padding` < 0.

    Source: the architecture of the CNN Explainer (Wang et al., 2020, arXiv:2004.15004).
    """

    def __init__(self, channels: int = 10, padding: int = 0) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        if padding < 0:
            raise ValueError(f"padding must be at least 0, got {padding}")
        layers: list[nn.Module] = []
        size, width = IMAGE_SIZE, 3
        for _ in range(2):
            layers += [
                nn.Conv2d(width, channels, kernel_size=3, padding=padding),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels, kernel_size=3, padding=padding),
                nn.MaxPool2d(kernel_size=2),
                nn.ReLU(inplace=True),
            ]
            size, width = (size + 4 * padding - 4) // 2, channels
        self.layers = nn.Sequential(*layers)
        self.out_features = channels * size * size

    def forward(self, images: Tensor) -> Tensor:
        """Features of each image: (N, 3, 32, 32) -> (N, out_features)."""
        features: Tensor = self.layers(images)
        return features.flatten(1)


def initialise(body: nn.Module) -> None:
    """Draw the convolutions' weights so that ReLUs keep the signal's variance; biases are zero.

    torch's own initialisation makes it shrink from layer to layer, and leaves some of few channels
    dead from the start.

    Source: He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def build(
    head: str,
    num_classes: int,
    *,
    channels: int = 10,
    padding: int = 0,
    on: On = "features",
    **head_options: Any,
) -> Classifier:
    """TinyVGG with the head of that name on its features, or on 100 logits of them.

    The body is initialised before anything else, so that under one seed every head starts from the
    same body.

    Args:
        head: a name of `heads.names()`.
        num_classes: number of classes, at least 2.
        channels: width of the body's convolutions.
        padding: padding of the body's convolutions.
        on: "features" puts the head on the body; "logits" puts a linear layer with 100 outputs
            between them, as the published hierarchical variant has it.
        head_options: passed on to `heads.build`.

    Raises:
        ValueError: an argument is out of its range, or `on` is neither of the two.
    """
    if on not in ("features", "logits"):
        raise ValueError(f'on must be "features" or "logits", got {on!r}')
    body = TinyVGG(channels, padding)
    linear = nn.Linear(body.out_features, PUBLISHED_LOGITS) if on == "logits" else None
    width = body.out_features if linear is None else linear.out_features
    return Classifier(body, heads.build(head, width, num_classes, **head_options), linear)


def noise(batch: int, num_classes: int) -> Tensor:
    """Random images: (batch, 3, 32, 32) in channels-last."""
    images = torch.randn(batch, 3, IMAGE_SIZE, IMAGE_SIZE)
    return images.contiguous(memory_format=torch.channels_last)
