"""Images in a folder per class, as torchvision's `ImageFolder` wants them, read into memory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from models import _torchvision
from models.tinyvgg import IMAGE_SIZE

TEST_FOLDERS = ("test", "val")


class FolderError(Exception):
    """The folder cannot be used; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class Pictures:
    """Images and their classes.

    Attributes:
        pixels: (N, 32, 32, 3), uint8.
        targets: class of each image, (N,), int64.
    """

    pixels: Tensor
    targets: Tensor


@dataclass(frozen=True)
class ClassFolders:
    """What was read.

    Attributes:
        classes: names of the folders, sorted; at least two.
        train: the images of `train/`, or all of them.
        test: the images of `test/` or `val/`; None where there is no such split.
    """

    classes: tuple[str, ...]
    train: Pictures
    test: Pictures | None


def holds_images(folder: Path) -> bool:
    """Whether `folder` is meant as images in a folder per class: it, or a child, holds an image."""
    if not folder.is_dir():
        return False
    return (folder / "train").is_dir() or any(
        _is_image(file) for pattern in ("*", "*/*") for file in folder.glob(pattern)
    )


def read(folder: Path) -> ClassFolders:
    """All images under `folder`: `<class>/`, or `train/<class>/` and `test/<class>/` (or `val/`).

    Each image is scaled, and cropped around its middle, to 32 x 32 pixels of three colours.

    Raises:
        FolderError: no images, fewer than two classes, an image that cannot be read, or a class
            among the test images that is not among the training images.
    """
    if not (folder / "train").is_dir():
        classes, train = _split(folder)
        return ClassFolders(classes, train, None)
    classes, train = _split(folder / "train")
    for name in TEST_FOLDERS:
        if (folder / name).is_dir():
            return ClassFolders(classes, train, _split(folder / name, classes)[1])
    return ClassFolders(classes, train, None)


def _split(folder: Path, known: Sequence[str] = ()) -> tuple[tuple[str, ...], Pictures]:
    """Classes and images of one split; the classes are the `known` ones, where there are any."""
    files = sorted(file for file in folder.glob("*/**/*") if _is_image(file))
    if not files:
        raise FolderError(
            f"{folder} holds no images; expected a folder per class with images in it "
            f"({', '.join(_extensions())})"
        )
    labels = [file.relative_to(folder).parts[0] for file in files]
    classes = tuple(known or sorted(set(labels)))
    if len(classes) < 2:
        raise FolderError(
            f"{folder} holds images of one class alone ({classes[0]}); expected at least two "
            "folders, one per class"
        )
    if unknown := sorted(set(labels) - set(classes)):
        raise FolderError(f"{folder / unknown[0]} is a class without training images; add some")
    with ThreadPoolExecutor() as readers:
        pixels = np.stack(list(readers.map(_read, files)))
    places = {name: place for place, name in enumerate(classes)}
    targets = torch.tensor([places[label] for label in labels])
    return classes, Pictures(torch.from_numpy(pixels), targets)


def _read(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        with Image.open(file) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (IMAGE_SIZE, IMAGE_SIZE))
            return np.asarray(fitted)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FolderError(
            f"image {file} cannot be read ({error}); repair it or take it away"
        ) from error


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in _extensions() and file.is_file()


def _extensions() -> tuple[str, ...]:
    extensions: tuple[str, ...] = _torchvision.datasets().folder.IMG_EXTENSIONS
    return extensions
