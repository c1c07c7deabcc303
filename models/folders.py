"""Images in a folder per class, read into memory; what is not read or not clear is said.

A folder is taken for splits only if a folder called `train` lies directly in it and whatever else
there holds images is called `test` or `val` (or as in `SPLITS`). If none is called so, each folder
is a class. Everything in between could mean either and is refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from models import images
from models.images import ImageError, Picture

SPLITS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}
"""What a folder's name, in lower case, says of it: reserved names, no class can have them."""


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
        train: the images to train on, or all of them.
        test: the images to test on; None where there is no such split.
        notes: what was read, left out and converted, in words, under a short name each.
    """

    classes: tuple[str, ...]
    train: Pictures
    test: Pictures | None
    notes: Mapping[str, str]


def printable(text: object) -> str:
    """`text` on one line, with an escape for whatever cannot be shown or written as UTF-8."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text)
    )


def hold_images(folder: Path) -> bool:
    """Whether there is an image in a folder in `folder`, however deep.

    Raises:
        FolderError: as `read`.
    """
    return _Reading(folder).any_image()


def read(folder: Path) -> ClassFolders:
    """All images in `folder`: `<class>/`, or `train/<class>/` and `test/<class>/` (or `val/`).

    A class is whatever lies in its folder, however deep, links followed. Each image is read as
    `images.read` does.

    Raises:
        FolderError: no images; fewer than two classes; a class without images to train on; an
            image that cannot be read; one file in two places; or folders that could be splits as
            well as classes.
    """
    return _Reading(folder).read()


SHOWN = 3
"""Files that are named of each kind; the others are counted."""


def some(names: Sequence[object]) -> str:
    """The first of `names`, printable."""
    first = ", ".join(map(printable, names[:SHOWN]))
    return first if len(names) <= SHOWN else f"{first}, ..."


class _Tally:
    """What was met -> the files, in this order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, list[Path]] = {}

    def add(self, what: str, file: Path) -> None:
        self._files.setdefault(what, []).append(file)

    def __str__(self) -> str:
        return "; ".join(
            f"{what}: {len(files):,} ({some([file.relative_to(self._folder) for file in files])})"
            for what, files in self._files.items()
        )


class _Reading:
    """One look at a folder: what is in it, and an account of what was made of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left_out, self._changed = _Tally(folder), _Tally(folder)
        self._deep = 0
        self._read: dict[tuple[int, int], tuple[Path, Path]] = {}
        """Device and inode of an image -> the folder of the class it was found in, and the file."""

    def any_image(self) -> bool:
        return any(map(self._holds_images, self._folders(self._folder).values()))

    def read(self) -> ClassFolders:
        inside = self._folders(self._folder)
        parts = self._parts(inside)
        if "train" not in parts:
            classes, train = self._pictures(self._folder, inside)
            return self._found(classes, train, None, "")
        classes, train = self._split(parts["train"])
        tested = parts.get("test") or parts.get("val")
        if tested is None:
            return self._found(classes, train, None, "")
        if "test" in parts and "val" in parts:
            for file in self._files(parts["val"]):
                if images.is_image(file):
                    self._left_out.add(f"for validation, as there is {tested.name}/", file)
        _, test = self._split(tested, known=classes)
        split = f"{parts['train'].name}/ to train on, {tested.name}/ to test on"
        return self._found(classes, train, test, split)

    def _found(
        self, classes: Sequence[str], train: Pictures, test: Pictures | None, split: str
    ) -> ClassFolders:
        count = len(self._read)
        deep = f", {self._deep:,} of them in folders inside their class's" if self._deep else ""
        notes = {
            "read": f"{count:,} images of {len(classes):,} classes in {self._folder}{deep}",
            "split": split,
            "left_out": str(self._left_out),
            "converted": str(self._changed),
        }
        return ClassFolders(
            tuple(map(printable, classes)), train, test, {k: v for k, v in notes.items() if v}
        )

    def _parts(self, inside: Mapping[str, Path]) -> dict[str, Path]:
        """The folder of each split, by what it is for; empty where every folder is a class.

        Raises:
            FolderError: the names do not say which of the two.
        """
        named: dict[str, Path] = {}
        others = []
        for name, folder in inside.items():
            meant = SPLITS.get(name.casefold())
            if meant is None:
                others.append(name)
            elif meant in named:
                self._refuse_unclear(f"{named[meant].name}/ and {name}/")
            else:
                named[meant] = folder
        if not named:
            words = [set(re.split(r"[\W\d_]+", name.casefold())) & SPLITS.keys() for name in inside]
            if all(words) and len({SPLITS[word] for found in words for word in found}) > 1:
                self._refuse_unclear(", ".join(f"{name}/" for name in inside))
            return {}
        for name in others:
            if self._holds_images(inside[name]):
                found = ", ".join(f"{part.name}/" for part in named.values())
                self._refuse_unclear(f"{found} beside {name}/")
            self._left_out.add("folders without images", inside[name])
        if "train" not in named:
            self._refuse_unclear(", ".join(f"{part.name}/" for part in named.values()))
        return named

    def _refuse_unclear(self, what: str) -> NoReturn:
        raise FolderError(
            f"{printable(self._folder)} holds {printable(what)}: splits or classes? For splits, "
            "have train/<class>/ and test/<class>/ and nothing else; what is no split needs "
            "another name"
        )

    def _split(self, place: Path, known: Sequence[str] = ()) -> tuple[Sequence[str], Pictures]:
        inside = self._folders(place)
        if inside and all(name.casefold() in SPLITS for name in inside):
            self._refuse_unclear(", ".join(f"{place.name}/{name}/" for name in inside))
        return self._pictures(place, inside, known)

    def _pictures(
        self, place: Path, inside: Mapping[str, Path], known: Sequence[str] = ()
    ) -> tuple[Sequence[str], Pictures]:
        """Classes and images of the folders `inside` a place; the `known` classes, if there are."""
        if unknown := [name for name in inside if known and name not in known]:
            raise FolderError(
                f"{printable(inside[unknown[0]])} is a class without training images; add some, "
                "or take it away"
            )
        files = [(name, file) for name, folder in inside.items() for file in self._files(folder)]
        pixels, labels = [], []
        with ThreadPoolExecutor() as readers, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about oddities that do not stop it
            pictures = readers.map(_picture, (file for _, file in files))
            for (name, file), picture in zip(files, pictures, strict=True):
                if picture is None:
                    self._left_out.add("not images", file)
                elif self._is_new(file, inside[name]):
                    pixels.append(picture.pixels)
                    labels.append(name)
                    self._deep += file.parent != inside[name]
                    for change in picture.changes:
                        self._changed.add(change, file)
        shown = printable(place)
        if not pixels:
            loose = any(file.is_file() and images.is_image(file) for file in self._visible(place))
            raise FolderError(
                f"{shown} holds {'images outside of class folders' if loose else 'no images'}; "
                "expected a folder per class with images in it, or train/ and test/ with one per "
                "class in each"
            )
        if empty := [folder for name, folder in inside.items() if not known and name not in labels]:
            raise FolderError(
                f"{printable(empty[0])} is a class without images; add some, or take it away"
            )
        classes = known or sorted(inside)
        if len(classes) < 2:
            only = inside[classes[0]]
            deeper = any(path.is_dir() for path in self._visible(only))
            raise FolderError(
                f"{shown} holds images of one class alone ({printable(only.name)}); expected at "
                "least two folders, one per class"
                + (f"; if those in it are the classes, give {printable(only)}" if deeper else "")
            )
        places = {name: place for place, name in enumerate(classes)}
        targets = torch.tensor([places[label] for label in labels])
        return classes, Pictures(torch.from_numpy(np.stack(pixels)), targets)

    def _is_new(self, file: Path, folder: Path) -> bool:
        """Whether this image was not read before, under another name.

        Raises:
            FolderError: it was, as one of another class or split.
        """
        identity = _identity(file)
        where, before = self._read.setdefault(identity, (folder, file))
        if where != folder:
            raise FolderError(
                f"{printable(before)} and {printable(file)} are one file; an image can be in one "
                "class and one split alone: take one of them away"
            )
        if before != file:
            self._left_out.add("links to an image that was read", file)
        return before == file

    def _holds_images(self, folder: Path) -> bool:
        return any(map(images.is_image, self._files(folder)))

    def _folders(self, folder: Path) -> dict[str, Path]:
        """The folders in a folder by their names, sorted."""
        inside = {}
        for path in self._visible(folder):
            if path.is_dir():
                inside[path.name] = path
            else:
                self._left_out.add("outside of class folders", path)
        return inside

    def _files(self, folder: Path) -> Iterator[Path]:
        """The files of a class, however deep, in the order of their paths; each folder once.

        Raises:
            FolderError: a folder inside a class is called as a split.
        """
        # A link may lead back to a folder above it, from where all others can be reached.
        above = (self._folder.resolve(), *self._folder.resolve().parents, folder.parent)
        seen = {_identity(place) for place in above}
        waiting = [folder]
        while waiting:
            path = waiting.pop()
            if path.is_file():
                yield path
            elif not path.is_dir():
                self._left_out.add("neither files nor folders", path)
            elif (identity := _identity(path)) in seen:
                self._left_out.add("links to a folder that was read", path)
            elif path != folder and path.name.casefold() in SPLITS:
                self._refuse_unclear(f"{path.relative_to(self._folder)}/")
            else:
                seen.add(identity)
                waiting.extend(reversed(self._visible(path)))

    def _visible(self, folder: Path) -> list[Path]:
        """What lies in a folder and is not hidden, sorted.

        Raises:
            FolderError: the folder cannot be read, or a link in it leads nowhere.
        """
        try:
            paths = sorted(folder.iterdir())
            for path in paths:
                if path.name.startswith("."):
                    self._left_out.add("hidden", path)
                elif path.is_symlink() and not path.exists():
                    raise FolderError(
                        f"{printable(path)} is a link that leads nowhere; repair it or take it away"
                    )
        except OSError as error:
            raise FolderError(
                f"{printable(folder)} cannot be read ({error.strerror}); make it readable"
            ) from error
        return [path for path in paths if not path.name.startswith(".")]


def _picture(file: Path) -> Picture | None:
    try:
        return images.read(file)
    except ImageError as error:
        raise FolderError(f"image {printable(file)} {printable(error)}") from error


def _identity(path: Path) -> tuple[int, int]:
    """What all links to a file or folder have in common."""
    found = path.stat()
    return found.st_dev, found.st_ino
