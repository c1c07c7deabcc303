"""Images in memory, ready to index: CIFAR-100, generated ones in its place, or a user's own."""

from __future__ import annotations

import http.client
import os
import pickle
import socket
import ssl
import tempfile
import urllib.error
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models import _torchvision, folders
from models.dataset import DataError
from models.folders import printable, some

FOLDER = Path("data")
"""Where the data lies, and is downloaded to, if nothing else is said."""

_NETWORK_SECONDS = 20.0
"""Without an answer for so long there is no network; torchvision itself would wait for ever."""

_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
)

CIFAR100 = "CIFAR-100"
"""What the data set itself is called; nothing else is."""

TEST_SHARE = 0.2
"""Of the images in class folders that come without a test split."""

PER_CLASS = 500
"""Training images of each class, in CIFAR-100 as in its stand-in."""


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

    def batches(self, predictions: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in their order, so many at a time."""
        yield from zip(self.images.split(predictions), self.targets.split(predictions), strict=True)

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
        notes: what else is known of where the images come from, in words under a short name each:
            what was read, left out, converted, drawn.
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
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def class_counts(self) -> None:
        """Heads are not told, as a benchmark's classes are meant to be equally frequent."""
        return

    @property
    def followed(self) -> Split:
        """The test images, on which nothing is chosen."""
        return self.test

    @property
    def scored_classes(self) -> int:
        """All of them."""
        return self.num_classes

    def fingerprint(self) -> str:
        """A checksum of images and targets."""
        crc = 0
        for split in (self.train, self.test):
            for tensor in (split.images, split.targets):
                crc = zlib.crc32(tensor.cpu().contiguous().numpy().data, crc)
        return f"{crc:08x}"

    def facts(self) -> dict[str, Any]:
        """What the results folder keeps of it; JSON's own types only."""
        return {
            "name": self.name,
            "stand_in": self.stand_in,
            "reason": self.reason,
            "train_images": len(self.train),
            "test_images": len(self.test),
            **self.notes,
            **self._gaps(),
            "classes": list(self.classes),
            "superclasses": list(self.superclasses),
            "superclass_of": list(self.superclass_of),
        }

    def account(self) -> list[str]:
        """Lines that say what is trained on, before it is."""
        return [
            f"Data: {self.name}, {self.num_classes:,} classes, {len(self.train):,} training and "
            f"{len(self.test):,} test images",
            *(
                f"  {name.replace('_', ' ')}: {text}"
                for name, text in {**self.notes, **self._gaps()}.items()
            ),
        ]

    def _gaps(self) -> dict[str, str]:
        """What the figures of a training cannot mean on these images."""
        gaps = {}
        if untaught := self._missing(self.train):
            gaps["no_training_images"] = f"{untaught}: nothing is learned of them"
        if untested := self._missing(self.test):
            gaps["no_test_images"] = f"{untested}: macro averages are over the other classes"
        if self.num_classes <= 5:
            gaps["top_5"] = f"always 100 %, as there are only {self.num_classes} classes"
        return gaps

    def _missing(self, split: Split) -> str:
        """The classes without an image in `split`, in words; empty where there are none."""
        counts = split.targets.bincount(minlength=self.num_classes).tolist()
        names = [name for name, count in zip(self.classes, counts, strict=True) if not count]
        return f"{len(names):,} of {self.num_classes:,} classes ({some(names)})" if names else ""

    def to(self, device: torch.device) -> Dataset:
        """The same data set on `device`."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    def subset(self, train_images: int, test_images: int, seed: int = 0) -> Dataset:
        """That many images of each split, drawn at random, every class in its proportion.

        Raises:
            ValueError: a split has fewer images than asked for.
        """
        whole = {"training": (train_images, self.train), "test": (test_images, self.test)}
        drawn = [
            f"{count:,} of {len(split):,} {what} images"
            for what, (count, split) in whole.items()
            if count < len(split)
        ]
        notes = dict(self.notes)
        if drawn:
            notes["drawn"] = f"{' and '.join(drawn)}, every class in its proportion, seed {seed}"
        return replace(
            self,
            train=_draw(self.train, train_images, seed)[0],
            test=_draw(self.test, test_images, seed)[0],
            notes=notes,
        )

    def shortened(self, train: int | None, seed: int = 0) -> Dataset:
        """With so many training images at most; all of them where None."""
        if train is None:
            return self
        return self.subset(min(train, len(self.train)), len(self.test), seed)

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


def root(option: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The data folder that was given: the option, else `CIFAR100_ROOT`; None if neither was.

    Raises:
        DataError: the option is empty, or names the home of a user that does not exist.
    """
    if option == "":
        raise DataError("--data is empty; expected a folder of CIFAR-100 or of class folders")
    given = option or environ.get("CIFAR100_ROOT")
    try:
        return Path(given).expanduser() if given else None
    except RuntimeError as error:
        raise DataError(f"data folder {given}: {error}; give a folder that exists") from error


def load(folder: Path | None = None, seed: int = 0, per_class: int = PER_CLASS) -> Dataset:
    """The images in `folder`: CIFAR-100's files, or any images in a folder per class.

    Where it is missing or empty, CIFAR-100 is downloaded into it. A folder that was given is used
    or refused; only where none was and there is no network, the stand-in takes its place. The
    images are normalised: each colour to mean 0 and deviation 1 over the training images.

    Args:
        folder: as given; None for `FOLDER`.
        seed: of the choice of test images, see `load_folder`.
        per_class: training images of each class of the stand-in, where it is needed.

    Raises:
        DataError: a file is damaged, the folder can be neither read nor written, it holds something
            else, or nothing and there is no network; or as `load_folder`.
    """
    given, folder = folder is not None, folder or FOLDER
    try:
        existed, folder = folder.exists(), _around(folder)
        if _holds_other_images(folder, given):
            return load_folder(folder, seed)
        if not all(file.is_file() for file in _files(folder)):
            _refuse_damaged(folder)
            _download(folder)
        return _read(folder)
    except _UnavailableError as error:
        reason = f"CIFAR-100 is not in {folder} and could not be downloaded: {error}"
        if given:
            if not existed:
                with suppress(OSError):
                    folder.rmdir()
            raise DataError(
                f"{printable(reason)}; give a folder that holds cifar-100-python/ or a folder of "
                "images per class"
            ) from error
        return stand_in(reason, per_class)
    except folders.FolderError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(
            f"data folder {printable(folder)}: {error.strerror or error}; "
            "choose one that can be read and written with --data or CIFAR100_ROOT"
        ) from error


def load_folder(folder: Path, seed: int = 0) -> Dataset:
    """Images in a folder per class, scaled to 32 x 32 pixels; see `folders.read`.

    Args:
        folder: has `train/` and `test/` (or `val/`), each with a folder per class; or the classes'
            folders themselves, and a fifth of each class becomes the test split: at least one
            image of two or more.
        seed: of that choice.

    Raises:
        DataError: the folder cannot be used; the message says why.
    """
    try:
        found = folders.read(folder)
    except folders.FolderError as error:
        raise DataError(str(error)) from error
    train, test, notes = found.train, found.test, found.notes
    if test is None:
        tested = _share_of_each(train.targets, TEST_SHARE, seed)
        if not len(tested):
            raise DataError(
                f"{printable(folder)} holds one image per class, so that none is left to test on; "
                "expected at least two"
            )
        test = folders.Pictures(train.pixels[tested], train.targets[tested])
        kept = torch.ones(len(train.targets), dtype=torch.bool)
        kept[tested] = False
        train = folders.Pictures(train.pixels[kept], train.targets[kept])
        share = f"{100 * TEST_SHARE:.0f} %"
        split = f"none in the folder; {share} of each class drawn to test on, seed {seed}"
        notes = {"read": notes["read"], "split": split, **notes}
    return _dataset(
        # Not the bare name: a folder may be called as a data set that others published about.
        name=f"images in {printable(folder.resolve().name or folder)}",
        classes=found.classes,
        superclasses=(),
        superclass_of=(),
        train=(train.pixels, train.targets),
        test=(test.pixels, test.targets),
        notes=notes,
    )


def stand_in(reason: str, per_class: int = PER_CLASS, seed: int = 0) -> Dataset:
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


def _around(folder: Path) -> Path:
    """The folder that CIFAR-100's own one lies in, where that was given itself."""
    cifar = _torchvision.datasets().CIFAR100
    names = {file.name for file in _files(folder)}
    inside = folder.absolute().name == cifar.base_folder
    return folder.parent if inside and all((folder / name).is_file() for name in names) else folder


def _holds_other_images(folder: Path, given: bool) -> bool:
    """Whether `folder` is to be read as images in class folders rather than as CIFAR-100.

    Raises:
        DataError: it is a file, or was given and is another version of CIFAR.
        FolderError: its folders cannot be read.
    """
    if folder.is_file():
        raise DataError(
            f"{printable(folder)} is a file; expected a folder of CIFAR-100 or of class folders: "
            "unpack it, if it is an archive"
        )
    cifar = _torchvision.datasets().CIFAR100
    if not folder.is_dir() or any(
        (folder / name).exists() for name in (cifar.base_folder, cifar.filename)
    ):
        return False
    if not given:
        return folders.hold_images(folder)
    visible = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if others := [name for name in visible if name.startswith("cifar-1")]:
        raise DataError(
            f"{printable(folder / others[0])} is not the Python version of CIFAR-100; "
            f"expected {cifar.base_folder}/, or a folder of images per class"
        )
    return bool(visible)


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
            archive = folder / cifar.filename
            kept = f"; {cifar.filename} in it is damaged" if archive.exists() else ""
            raise _UnavailableError(f"{error}{kept}") from error
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
        name=CIFAR100,
        classes=train.classes,
        superclasses=superclasses["coarse_label_names"],
        superclass_of=[superclass_of[index] for index in range(len(train.classes))],
        train=(torch.from_numpy(train.data), torch.tensor(train.targets)),
        test=(torch.from_numpy(test.data), torch.tensor(test.targets)),
        notes=_beside(folder),
    )


def _beside(folder: Path) -> dict[str, str]:
    """What lies beside CIFAR-100's files, as it is not read."""
    cifar = _torchvision.datasets().CIFAR100
    own = (cifar.base_folder, cifar.filename)
    others = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in own and not path.name.startswith(".")
    )
    if not others:
        return {}
    return {"left_out": f"{len(others):,} beside {cifar.base_folder}/ ({some(others)})"}


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
    notes: Mapping[str, str] | None = None,
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
        notes=notes or {},
    )


def _share_of_each(targets: Tensor, share: float, seed: int) -> Tensor:
    """Indices of a share of each class, at random; of two images or more at least one, not all."""
    dealt = _deal(targets, seed)
    parts = []
    for label in targets.unique():
        of_label = dealt[targets[dealt] == label]
        least = min(1, len(of_label) - 1)
        parts.append(of_label[: max(least, round(share * len(of_label)) if least else 0)])
    return torch.cat(parts)


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
