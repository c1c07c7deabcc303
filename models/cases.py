"""The cases that heads are measured and trained in: a model, its data, its variants.

Another one is a module, and a line in `CASES`: see `docs/adding.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models import data, text, tinyvgg, variants, word_variants, words
from models.classifier import Classifier
from models.config import TrainingConfig
from models.dataset import Dataset
from models.variants import Variant


@dataclass(frozen=True)
class Wanted:
    """What is to be trained on.

    Attributes:
        folder: as given; None for what the case has by itself.
        seed: of what is drawn.
        train: examples to train on: images, or words; None for all of them.
        vocabulary: classes at most, where they are words; None for as many as usual.
        missing: why the data cannot be had, where that is known already.
    """

    folder: Path | None = None
    seed: int = 0
    train: int | None = None
    vocabulary: int | None = None
    missing: str = ""


@dataclass(frozen=True)
class Case:
    """A model and what it is trained on.

    Attributes:
        title: of the model, for people.
        features: width of its head's input in cells.
        batch: of a training step, in predictions, where one has to do: for traces.
        classes: likewise.
        variants: heads under a recipe, by name.
        recipe: fields of `TrainingConfig`, for heads that are no variant.
        build: a model from its configuration, the number of classes, how often each occurs (or
            None) and the head's options.
        inputs: noise to measure with, from a batch size (predictions) and the number of classes.
        load: the data.
        prediction_seconds: that a prediction takes in a training step, on a small CPU, roughly.
        predictions: of a pass over all there usually is to train on.
        ready: what is done to a model before it is trained.
    """

    title: str
    features: int
    batch: int
    classes: int
    variants: Mapping[str, Variant]
    recipe: Mapping[str, Any]
    build: Callable[[TrainingConfig, int, Tensor | None, Mapping[str, Any]], Classifier]
    inputs: Callable[[int, int], Tensor]
    load: Callable[[Wanted], Dataset]
    prediction_seconds: float
    predictions: int
    ready: Callable[[Classifier, TrainingConfig], None] = lambda model, config: None


def _tinyvgg(
    config: TrainingConfig,
    num_classes: int,
    counts: Tensor | None,
    options: Mapping[str, Any],
) -> Classifier:
    return tinyvgg.build(
        config.head,
        num_classes,
        channels=config.channels,
        padding=config.padding,
        on=config.on,
        class_counts=counts,
        **options,
    )


def _drawn(model: Classifier, config: TrainingConfig) -> None:
    """Draw TinyVGG's weights as configured, and lay them out as the images are."""
    if config.initialisation == "kaiming":
        tinyvgg.initialise(model.body)
    for parameter in model.body.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _images(wanted: Wanted) -> Dataset:
    # No more is generated than is trained on.
    few = data.PER_CLASS if wanted.train is None else math.ceil(wanted.train / 100)
    per_class = min(data.PER_CLASS, few)
    if wanted.missing:
        found = data.stand_in(wanted.missing, per_class)
    else:
        found = data.load(wanted.folder, wanted.seed, per_class)
    return found.shortened(wanted.train, wanted.seed)


def _words(
    config: TrainingConfig,
    num_classes: int,
    counts: Tensor | None,
    options: Mapping[str, Any],
) -> Classifier:
    return words.build(
        config.head,
        num_classes,
        width=config.width,
        tied=config.tied,
        # On a GPU, to find out which rows there are would make the host wait.
        row_sparse=config.device == "cpu",
        class_counts=counts,
        **options,
    )


def _text(wanted: Wanted) -> Dataset:
    return text.load(wanted.folder, wanted.vocabulary or text.VOCABULARY).shortened(wanted.train)


CASES: Mapping[str, Case] = {
    "tinyvgg": Case(
        "TinyVGG", tinyvgg.TinyVGG().out_features, 32, 100, variants.VARIANTS, {},
        _tinyvgg, tinyvgg.noise, _images, 2e-4, 50_000, _drawn,
    ),
    "words": Case(
        "a recurrent language model", words.WIDTH, 1_024, text.VOCABULARY, word_variants.VARIANTS,
        word_variants.RECIPE, _words, words.noise, _text, 1.5e-4, 3_000_000,
    ),
}  # fmt: skip
"""By the name that `--model` takes."""


def names() -> tuple[str, ...]:
    """Every model."""
    return tuple(CASES)


def config(model: str, name: str, **overrides: Any) -> TrainingConfig:
    """The settings of a model's variant; see `variants.config`."""
    case = CASES[model]
    return variants.config(name, case.variants, case.recipe, **overrides)


def build(
    config: TrainingConfig,
    num_classes: int,
    counts: Tensor | None = None,
    options: Mapping[str, Any] | None = None,
) -> Classifier:
    """The model of `config`, drawn from torch's global generator, on torch's default device.

    Args:
        config: what to build.
        num_classes: number of classes.
        counts: how often each class occurs, for heads that make use of it; None to tell none.
        options: of the head, in the place of the configuration's.
    """
    given = config.head_options if options is None else options
    return CASES[config.model].build(config, num_classes, counts, given)
