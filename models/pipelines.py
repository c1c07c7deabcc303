"""Ways to feed and to make a training step: the published study's, and the one used here.

Both train the same model on the same images with the same optimizer; only their speed differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from models import _torchvision, tinyvgg
from models.config import Autocast, TrainingConfig
from models.data import Dataset
from models.optimizers import build_optimizer
from models.steps import Captured, Eager, capturable, draw_epoch, training_step
from models.training import build_model

if TYPE_CHECKING:
    import numpy as np

Step = Callable[[], object]
"""Makes one training step, its batch included, each time it is called; never runs out."""


def build(name: str, dataset: Dataset, config: TrainingConfig) -> Step:
    """A training on `dataset` that one of the pipelines feeds.

    Args:
        name: one of `names()`.
        dataset: what to train on.
        config: what to train. "ours" also chooses the dtype: see `fastest_autocast`.

    Raises:
        ValueError: there is no such pipeline (the message lists them).
    """
    if name not in _PIPELINES:
        raise ValueError(f"unknown pipeline {name!r}; pipelines are: {', '.join(_PIPELINES)}")
    return _PIPELINES[name](dataset, config)


def names() -> tuple[str, ...]:
    """Every pipeline that `build` knows."""
    return tuple(_PIPELINES)


def fastest_autocast(device: str) -> Autocast:
    """bfloat16 where it is a native type of the device, else float32."""
    if device.startswith("cuda"):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return "bfloat16" if native else "float32"


def published_batches(dataset: Dataset, config: TrainingConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches as tutorials make them: a `DataLoader` over PIL images, one by one, without end."""
    generator = torch.Generator().manual_seed(config.seed)
    loader = DataLoader(
        _Pictures(dataset), batch_size=config.batch_size, shuffle=True, generator=generator
    )
    while True:
        for images, targets in loader:
            yield images.to(config.device), targets.to(config.device)


def _published(dataset: Dataset, config: TrainingConfig) -> Step:
    """Eager float32 on contiguous images, as tutorials do."""
    torch.manual_seed(config.seed)
    model = tinyvgg.build(
        config.head,
        dataset.num_classes,
        channels=config.channels,
        padding=config.padding,
        on=config.on,
        **config.head_options,
    ).to(config.device)
    optimizer = build_optimizer(model, config)
    batches = published_batches(dataset, config)
    return lambda: training_step(model, optimizer, *next(batches))


def _ours(dataset: Dataset, config: TrainingConfig) -> Step:
    """Images in memory, normalised once, in channels-last; the fastest dtype; captured on CUDA."""
    config = replace(config, autocast=fastest_autocast(config.device))
    torch.manual_seed(config.seed)
    model = build_model(config, dataset.num_classes)
    captured = config.graphs and capturable(model)
    optimizer = build_optimizer(model, config, capturable=captured)
    split = dataset.train.to(torch.device(config.device))
    steps = (Captured if captured else Eager)(model, optimizer, split, config)
    order = torch.Generator().manual_seed(config.seed)

    def losses() -> Iterator[Tensor]:
        while True:
            yield from steps.epoch(draw_epoch(len(split), config, order))

    endless = losses()
    return lambda: next(endless)


_PIPELINES: Mapping[str, Callable[[Dataset, TrainingConfig], Step]] = {
    "published-style": _published,
    "ours": _ours,
}


class _Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """The training images as torchvision's data sets hand them out: pixels, to PIL, to a tensor."""

    def __init__(self, dataset: Dataset) -> None:
        transforms = _torchvision.transforms()
        colours = (-1, 1, 1)
        mean, deviation = torch.tensor(dataset.mean), torch.tensor(dataset.deviation)
        pixels = dataset.train.images.cpu() * deviation.view(colours) + mean.view(colours)
        self.pixels: np.ndarray[Any, Any] = (
            pixels.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        )
        self.targets: list[int] = dataset.train.targets.tolist()
        self.transform = transforms.Compose(
            [
                transforms.ToTensor(),
                transforms.Normalize((mean / 255).tolist(), (deviation / 255).tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image: Tensor = self.transform(Image.fromarray(self.pixels[index]))
        return image, self.targets[index]
