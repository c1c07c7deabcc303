from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import data
from models.data import DataError

Fill = Callable[[Mapping[str, int]], Path]
CENTRE = 16


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Makes images in the folders given, as many as given; each folder's of one shade of red."""

    def make(counts: Mapping[str, int]) -> Path:
        for place, (name, count) in enumerate(counts.items()):
            (tmp_path / name).mkdir(parents=True)
            for number in range(count):
                shade = (20 * place + 10, number % 3, 7)
                Image.new("RGB", (60 + number, 40), shade).save(tmp_path / name / f"{number}.png")
        return tmp_path

    return make


def pixels(split: data.Split, dataset: data.Dataset) -> torch.Tensor:
    """The pixels in 0..255 that the images were normalised from, (N, 3, 32, 32)."""
    mean, deviation = (
        torch.tensor(value).view(3, 1, 1) for value in (dataset.mean, dataset.deviation)
    )
    return split.images * deviation + mean


@pytest.mark.parametrize("test", ["test", "val"])
def test_splits_are_read_from_their_folders(fill: Fill, test: str) -> None:
    folder = fill({"train/b": 3, "train/a": 2, f"{test}/a": 1, f"{test}/b": 4})
    dataset = data.load(folder)
    assert dataset.classes == ("a", "b")
    assert dataset.train.targets.tolist() == [0, 0, 1, 1, 1]
    assert dataset.test.targets.tolist() == [0, 1, 1, 1, 1]
    assert (dataset.superclasses, dataset.superclass_of) == ((), ())
    assert not dataset.stand_in
    reds = pixels(dataset.test, dataset)[:, 0, CENTRE, CENTRE].round().tolist()
    assert reds == [50, 70, 70, 70, 70]


def test_images_are_scaled_and_cropped_around_their_middle(tmp_path: Path) -> None:
    wide = np.zeros((40, 120, 3), dtype=np.uint8)
    wide[:, 40:80] = 200  # the middle third is all that a square of full height can hold
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.fromarray(wide).save(tmp_path / name / f"{number}.png")
    dataset = data.load(tmp_path)
    assert dataset.train.images.shape == (8, 3, 32, 32)
    found = pixels(dataset.train, dataset)
    assert found[:, :, :, 2:-2].min() > 199


def test_without_a_test_split_a_fifth_of_each_class_becomes_one(fill: Fill) -> None:
    folder = fill({"a": 10, "b": 20, "c": 30})
    first, again = data.load(folder), data.load(folder)
    assert first.test.targets.bincount().tolist() == [2, 4, 6]
    assert first.train.targets.bincount().tolist() == [8, 16, 24]
    assert torch.equal(again.test.images, first.test.images)
    other = data.load_folder(folder, seed=1)
    assert not torch.equal(other.train.images, first.train.images)


def test_grey_and_transparent_images_become_colour(fill: Fill) -> None:
    folder = fill({"a": 5, "b": 5})
    Image.new("L", (40, 40), 90).save(folder / "a" / "0.png")
    Image.new("RGBA", (40, 40), (90, 90, 90, 0)).save(folder / "a" / "1.png")
    dataset = data.load(folder)
    assert len(dataset.train) + len(dataset.test) == 10


def test_other_files_are_passed_over(fill: Fill) -> None:
    folder = fill({"a": 5, "b": 5})
    (folder / "a" / "readme.txt").write_text("not an image")
    assert len(data.load(folder).train) == 8


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train/a": 0}, "train holds no images; expected a folder per class"),
        ({"a": 3}, r"images of one class alone \(a\); expected at least two"),
        (
            {"train/a": 1, "train/b": 1, "test/a": 1, "test/c": 1},
            "test/c is a class without training images",
        ),
    ],
)
def test_unusable_folders_are_refused(fill: Fill, counts: dict[str, int], message: str) -> None:
    folder = fill(counts)
    with pytest.raises(DataError, match=message) as error:
        data.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n torn"])
def test_an_unreadable_image_is_named(fill: Fill, content: bytes) -> None:
    folder = fill({"a": 2, "b": 2})
    (folder / "b" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"image .*b/1\.png cannot be read.*take it away") as error:
        data.load(folder)
    assert "\n" not in str(error.value)
