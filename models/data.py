"""Images in memory, ready to index: CIFAR-100, generated ones in its place, or a user's own."""

from __future__ import annotations

import http.client
import os
import pickle
import socket
import ssl
import tempfile
import urllib.error
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models import _torchvision, folders

_NETWORK_SECONDS = 20.0
"""Without an answer for so long there is no network; torchvision itself would wait for ever."""

_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
)


TEST_SHARE = 0.2
"""Of the images in class folders that come without a test split."""


class DataError(Exception):
    """The data cannot be used; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class Split:
    """Images and their classes, on one device.

    Attributes:
        images: normalised pixels, (N, 3, 32, 32) float32 in `torch.channels_last`.
        targets: class of each image, (N,) int64.
    """

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, index: Tensor, flipped: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images and targets at `index`: (B,) -> (B, 3, 32, 32) in channels-last, (B,).

        Args:
            index: which images, (B,).
            flipped: which of them to mirror left to right, (B,) bool; None for none.
        """
        # Selecting from a channels-last tensor would return a contiguous one. Seen as rows of
        # (32, 32, 3) the images are contiguous, and a batch is one copy.
        rows = self.images.permute(0, 2, 3, 1).index_select(0, index)
        if flipped is not None:
            rows = torch.where(flipped.view(-1, 1, 1, 1), rows.flip(2), rows)
        return rows.permute(0, 3, 1, 2), self.targets.index_select(0, index)

    def to(self, device: torch.device) -> Split:
        """The same split on `device`."""
        return Split(self.images.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, and what their classes are called.

    Attributes:
        name: what the data set is called.
        classes: name of each class.
        superclasses: name of each superclass.
        superclass_of: index of each class's superclass.
        train: the training images.
        test: the test images.
        stand_in: whether the images are generated, so that no accuracy means anything.
        reason: why they are generated; empty where they are not.
        mean: of each colour of the training images, in 0..255; subtracted from all images.
        deviation: of each colour of the training images; all images are divided by it.
    """

    name: str
    classes: tuple[str, ...]
    superclasses: tuple[str, ...]
    superclass_of: tuple[int, ...]
    train: Split
    test: Split
    stand_in: bool = False
    reason: str = ""
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def to(self, device: torch.device) -> Dataset:
        """The same data set on `device`."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    def subset(self, train_images: int, test_images: int, seed: int = 0) -> Dataset:
        """That many images of each split, drawn at random, every class in its proportion.

        Raises:
            ValueError: a split has fewer images than asked for.
        """
        return replace(
            self,
            train=_draw(self.train, train_images, seed)[0],
            test=_draw(self.test, test_images, seed)[0],
        )

    def held_out(self, share: float = 0.1, seed: int = 0) -> Dataset:
        """The training images alone, some of them as test split: for choices that must not see it.

        The normalisation stays as it is: its six numbers were taken over all training images.

        Args:
            share: of the training images that becomes the test split, in (0, 1); every class in
                its proportion.
            seed: of the choice.

        Raises:
            ValueError: `share` leaves a split without images.
        """
        count = round(share * len(self.train))
        if not 0 < count < len(self.train):
            raise ValueError(
                f"share must leave both parts some of {len(self.train)} images, got {share}"
            )
        test, train = _draw(self.train, count, seed)
        return replace(self, train=train, test=test)


def root(option: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The data folder: the option, else `CIFAR100_ROOT`, else `data`."""
    return Path(option or environ.get("CIFAR100_ROOT") or "data").expanduser()


def load(folder: Path) -> Dataset:
    """The images in `folder`: CIFAR-100's files, or any images in a folder per class.

    Where it has neither, CIFAR-100 is downloaded into it, and without a network the stand-in takes
    its place. The images are normalised: each colour to mean 0 and deviation 1 over the training
    images.

    Raises:
        DataError: a file is damaged, the folder can be neither read nor written, or as
            `load_folder`.
    """
    cifar = folder / _torchvision.datasets().CIFAR100.base_folder
    if not cifar.is_dir() and folders.holds_images(folder):
        return load_folder(folder)
    try:
        if not all(file.is_file() for file in _files(folder)):
            _refuse_damaged(folder)
            _download(folder)
        return _read(folder)
    except _UnavailableError as error:
        return stand_in(f"CIFAR-100 is not in {folder} and could not be downloaded: {error}")
    except OSError as error:
        raise DataError(
            f"data folder {folder}: {error.strerror or error}; "
            "choose one that can be read and written with --data or CIFAR100_ROOT"
        ) from error


def load_folder(folder: Path, seed: int = 0) -> Dataset:
    """Images in a folder per class, scaled to 32 x 32 pixels; see `folders.read`.

    Args:
        folder: has `train/` and `test/` (or `val/`), each with a folder per class; or the classes'
            folders themselves, and a fifth of each class becomes the test split.
        seed: of that choice.

    Raises:
        DataError: the folder cannot be used; the message says why.
    """
    try:
        found = folders.read(folder)
    except folders.FolderError as error:
        raise DataError(str(error)) from error
    train, test = found.train, found.test
    if test is None:
        dealt = _deal(train.targets, seed)
        count = max(1, round(TEST_SHARE * len(dealt)))
        test, train = (
            folders.Pictures(train.pixels[part], train.targets[part])
            for part in (dealt[:count], dealt[count:])
        )
    return _dataset(
        name=folder.resolve().name,
        classes=found.classes,
        superclasses=(),
        superclass_of=(),
        train=(train.pixels, train.targets),
        test=(test.pixels, test.targets),
    )


def stand_in(reason: str, per_class: int = 500, seed: int = 0) -> Dataset:
    """Generated images in the shape of CIFAR-100, for where it is missing: learnable, meaningless.

    Every class is a coarse pattern of its own, every image that pattern under stronger noise, so
    that training can be seen to work.

    Args:
        reason: why CIFAR-100 itself is not used.
        per_class: training images of each class; the test split has a fifth of it.
        seed: of the patterns and the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(100, 3, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, size=(32, 32), mode="bilinear")
    patterns = (128 + 30 * smooth).permute(0, 2, 3, 1).to(torch.int16)

    def split(count: int) -> tuple[Tensor, Tensor]:
        targets = torch.arange(100).repeat(count)
        images = torch.empty(len(targets), 32, 32, 3, dtype=torch.uint8)
        for start in range(0, len(targets), 1000):
            chunk = targets[start : start + 1000]
            pixels = patterns[chunk]
            pixels += torch.empty_like(pixels).random_(-100, 101, generator=generator)
            images[start : start + 1000] = pixels.clamp_(0, 255)
        return images, targets

    return _dataset(
        name="stand-in for CIFAR-100",
        classes=[f"class {index:02d}" for index in range(100)],
        superclasses=[f"group {index:02d}" for index in range(20)],
        superclass_of=[index // 5 for index in range(100)],
        train=split(per_class),
        test=split(max(1, per_class // 5)),
        stand_in=True,
        reason=reason,
    )


class _UnavailableError(Exception):
    """CIFAR-100 cannot be downloaded."""


def _files(folder: Path) -> dict[Path, str]:
    """CIFAR-100's files under `folder` and the md5 that torchvision expects of each."""
    cifar = _torchvision.datasets().CIFAR100
    listed = [*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])]
    return {folder / cifar.base_folder / name: md5 for name, md5 in listed}


def _refuse_damaged(folder: Path) -> None:
    check_integrity = _torchvision.datasets().utils.check_integrity
    for file, md5 in _files(folder).items():
        if file.is_file() and not check_integrity(file, md5):
            raise DataError(
                f"{file} is damaged: its md5 is not {md5}; "
                "delete it and run again to have it downloaded"
            )


def _download(folder: Path) -> None:
    """Put CIFAR-100's files under `folder`, each whole or not at all."""
    datasets = _torchvision.datasets()
    cifar = datasets.CIFAR100
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as extracted, _network_timeout():
        try:
            datasets.utils.download_and_extract_archive(
                cifar.url, folder, extracted, filename=cifar.filename, md5=cifar.tgz_md5
            )
        except _NETWORK_ERRORS as error:
            raise _UnavailableError(str(error)) from error
        except RuntimeError as error:  # torchvision: the md5 of what arrived is another
            raise _UnavailableError("what arrived is not its archive") from error
        for file in _files(folder):
            file.parent.mkdir(exist_ok=True)
            (Path(extracted) / cifar.base_folder / file.name).replace(file)


@contextmanager
def _network_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_NETWORK_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read(folder: Path) -> Dataset:
    cifar = _torchvision.datasets().CIFAR100
    try:
        train, test = cifar(folder, train=True), cifar(folder, train=False)
    except RuntimeError:
        _refuse_damaged(folder)
        raise
    # torchvision checks the files but leaves the superclasses in them.
    superclasses = _unpickle(folder / cifar.base_folder / cifar.meta["filename"])
    coarse = _unpickle(folder / cifar.base_folder / cifar.test_list[0][0])["coarse_labels"]
    superclass_of = dict(zip(test.targets, coarse, strict=True))
    return _dataset(
        name="CIFAR-100",
        classes=train.classes,
        superclasses=superclasses["coarse_label_names"],
        superclass_of=[superclass_of[index] for index in range(len(train.classes))],
        train=(torch.from_numpy(train.data), torch.tensor(train.targets)),
        test=(torch.from_numpy(test.data), torch.tensor(test.targets)),
    )


def _unpickle(file: Path) -> dict[str, Any]:
    """What is in one of CIFAR-100's files; only for those whose md5 has been checked."""
    with file.open("rb") as stream:
        content: dict[str, Any] = pickle.load(stream, encoding="latin1")
    return content


def _dataset(
    *,
    name: str,
    classes: Sequence[str],
    superclasses: Sequence[str],
    superclass_of: Sequence[int],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    stand_in: bool = False,
    reason: str = "",
) -> Dataset:
    """The data set of these pixels, (N, 32, 32, 3) uint8, and targets, (N,) int64."""
    rows = [split.flatten(1).to(torch.float32) for split in (train[0], test[0])]
    deviation, mean = torch.std_mean(rows[0].view(-1, 3), dim=0)
    deviation.clamp_(min=1.0)  # of images of a single colour
    images = []
    for split in rows:
        # Whole rows at a time, in place: broadcasting over runs of 3 colours takes twice as long.
        split.sub_(mean.repeat(32 * 32)).div_(deviation.repeat(32 * 32))
        images.append(split.view(-1, 32, 32, 3).permute(0, 3, 1, 2))
    return Dataset(
        name=name,
        classes=tuple(classes),
        superclasses=tuple(superclasses),
        superclass_of=tuple(superclass_of),
        train=Split(images[0], train[1]),
        test=Split(images[1], test[1]),
        stand_in=stand_in,
        reason=reason,
        mean=tuple(mean.tolist()),
        deviation=tuple(deviation.tolist()),
    )


def _draw(split: Split, count: int, seed: int) -> tuple[Split, Split]:
    """`count` images of `split` at random, every class in its proportion, and the others."""
    if not 1 <= count <= len(split):
        raise ValueError(f"a subset must have 1..{len(split)} images, got {count}")
    dealt = _deal(split.targets, seed)
    return Split(*split.batch(dealt[:count])), Split(*split.batch(dealt[count:]))


def _deal(targets: Tensor, seed: int) -> Tensor:
    """An order of the images, (N,), in which every beginning has its share of every class.

    Of a class of k images, the i-th at random comes after the share (i - 1/2) / k of all images.
    """
    shuffled = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    ranked = targets.cpu()[shuffled]
    place = torch.empty(len(targets), dtype=torch.float64)
    for label in ranked.unique():
        of_label = ranked == label
        size = int(of_label.sum())
        place[of_label] = (torch.arange(size) + 0.5).double() / size
    return shuffled[place.argsort(stable=True)].to(targets.device)
