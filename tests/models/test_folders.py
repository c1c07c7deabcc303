import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from models import data, images
from models.dataset import DataError

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


def add(file: Path, colour: Any = (200, 0, 0), mode: str = "RGB", **options: Any) -> Path:
    """An image of one colour in a file of its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (40, 40), colour).save(file, **options)
    return file


def only(dataset: data.Dataset) -> torch.Tensor:
    """The middle pixel, in 0..255, of each image of class "a", in no order: (N, 3)."""
    splits = (dataset.train, dataset.test)
    found = torch.cat([pixels(split, dataset)[split.targets == 0] for split in splits])
    return found[:, :, CENTRE, CENTRE].round()


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as error:
        data.load(folder)
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()
    return str(error.value)


# --- which folder means what ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "unclear"),
    [
        ({"train/a": 2, "train/b": 2, "cat": 2}, "train/ beside cat/"),
        ({"train": 2, "cat": 2, "dog": 2}, "train/ beside cat/"),
        ({"test": 2, "cat": 2}, "test/ beside cat/"),
        ({"val/x": 2, "cat": 2}, "val/ beside cat/"),
        ({"Validation": 2, "cat": 2}, "Validation/ beside cat/"),
        ({"test/a": 2, "test/b": 2}, "test/"),
        ({"test/a": 2, "val/a": 2}, "test/, val/"),
        ({"train/a": 2, "train/b": 2, "Train/a": 1, "Train/b": 1}, "Train/ and train/"),
        ({"train/a": 2, "train/b": 2, "val/a": 1, "validation/b": 1}, "val/ and validation/"),
        ({"a/train": 2, "a/test": 1, "b/train": 2, "b/test": 1}, "a/test/"),
        ({"train/a/test": 2, "train/b": 2}, "train/a/test/"),
        ({"train/train/a": 2, "train/test/a": 2}, "train/test/, train/train/"),
        ({"training_set/a": 2, "test_set/a": 2}, "test_set/, training_set/"),
        ({"train2017": 2, "val2017": 2}, "train2017/, val2017/"),
    ],
)
def test_folders_that_could_be_splits_or_classes_are_refused(
    fill: Fill, counts: dict[str, int], unclear: str
) -> None:
    assert f"holds {unclear}: splits or classes?" in refusal(fill(counts))


@pytest.mark.parametrize("test", ["validation", "valid", "VAL", "Test", "testing"])
def test_splits_are_known_by_their_usual_names(fill: Fill, test: str) -> None:
    dataset = data.load(fill({"Training/a": 2, "Training/b": 3, f"{test}/a": 1, f"{test}/b": 1}))
    assert (len(dataset.train), len(dataset.test)) == (5, 2)
    assert dataset.notes["split"] == f"Training/ to train on, {test}/ to test on"


def test_a_class_is_free_to_have_a_word_of_a_split_in_its_name(fill: Fill) -> None:
    dataset = data.load(fill({"train_station": 5, "kitchen": 5, "test tube": 5}))
    assert dataset.classes == ("kitchen", "test tube", "train_station")


def test_a_class_of_a_split_may_be_called_train(fill: Fill) -> None:
    dataset = data.load(fill({"train/train": 2, "train/bus": 2, "test/train": 1, "test/bus": 1}))
    assert dataset.classes == ("bus", "train")


def test_validation_images_beside_test_images_are_named(fill: Fill) -> None:
    parts = {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 2, "test/a": 1, "test/b": 1}
    dataset = data.load(fill(parts))
    assert len(dataset.test) == 2
    assert "for validation, as there is test/: 3 (val/a/0.png" in dataset.notes["left_out"]


def test_a_folder_without_images_beside_splits_is_named(fill: Fill) -> None:
    folder = fill({"train/a": 2, "train/b": 2, "annotations": 0})
    assert data.load(folder).notes["left_out"] == "folders without images: 1 (annotations)"


def test_training_images_alone_are_split_and_that_is_said(fill: Fill) -> None:
    dataset = data.load(fill({"train/a": 5, "train/b": 10}))
    assert dataset.test.targets.bincount().tolist() == [1, 2]
    assert (
        dataset.notes["split"] == "none in the folder; 20 % of each class drawn to test on, seed 0"
    )


def test_a_class_of_one_image_is_trained_on_and_named(fill: Fill) -> None:
    dataset = data.load(fill({"a": 1, "b": 2, "c": 3}))
    assert dataset.train.targets.tolist() == [0, 1, 2, 2]
    assert dataset.facts()["no_test_images"].startswith("1 of 3 classes (a)")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train/a": 0}, "train holds no images; expected a folder per class"),
        ({"train/a": 2, "train/b": 2, "test/a": 0}, "test holds no images"),
        ({"train": 2, "test": 2}, "train holds images outside of class folders"),
        ({"a": 3}, "images of one class alone (a); expected at least two"),
        ({"photos/a": 3, "photos/b": 3}, "if those in it are the classes, give"),
        ({"a": 3, "b": 3, "c": 0}, "c is a class without images; add some, or take it away"),
        ({"train/a": 1, "train/b": 1, "train/c": 0, "test/a": 1}, "c is a class without images"),
        (
            {"train/a": 1, "train/b": 1, "test/a": 1, "test/c": 1},
            "test/c is a class without training images",
        ),
        ({"a": 1, "b": 1}, "one image per class, so that none is left to test on"),
    ],
)
def test_unusable_folders_are_refused(fill: Fill, counts: dict[str, int], message: str) -> None:
    assert message in refusal(fill(counts))


def test_what_is_known_of_the_images_is_said_before_training(fill: Fill) -> None:
    folder = fill({"a": 10, "b/x": 5})
    (folder / "b" / "readme.txt").touch()
    assert data.load(folder).account() == [
        f"Data: images in {folder.name}, 2 classes, 12 training and 3 test images",
        f"  read: 15 images of 2 classes in {folder}, 5 of them in folders inside their class's",
        "  split: none in the folder; 20 % of each class drawn to test on, seed 0",
        "  left out: not images: 1 (b/readme.txt)",
        "  top 5: always 100 %, as there are only 2 classes",
    ]


def test_a_folder_called_cifar_100_is_not_mistaken_for_it(fill: Fill) -> None:
    folder = fill({"CIFAR-100/a": 5, "CIFAR-100/b": 5}) / "CIFAR-100"
    assert data.load(folder).name == "images in CIFAR-100"


# --- which files are read ---------------------------------------------------------------------


def test_other_files_are_passed_over_and_named(fill: Fill) -> None:
    folder = fill({"a": 5, "b": 5})
    (folder / "a" / "readme.txt").write_text("not an image")
    (folder / "a" / ".DS_Store").write_bytes(b"")
    (folder / "a" / "._0.png").write_bytes(b"Mac")
    add(folder / ".thumbnails" / "0.png")
    add(folder / "loose.png")
    os.mkfifo(folder / "b" / "pipe.png")
    dataset = data.load(folder)
    assert len(dataset.train) == 8
    for said in (
        "not images: 1 (a/readme.txt)",
        "hidden: 3 (.thumbnails, a/.DS_Store, a/._0.png)",
        "outside of class folders: 1 (loose.png)",
        "neither files nor folders: 1 (b/pipe.png)",
    ):
        assert said in dataset.notes["left_out"]


def test_links_and_folders_inside_a_class_are_followed_once(fill: Fill, tmp_path: Path) -> None:
    folder = fill({"in/a": 2, "in/b": 2, "elsewhere": 5}) / "in"
    (folder / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "b" / "one.png").symlink_to(add(tmp_path / "one.png"))
    (folder / "b" / "itself").symlink_to(folder / "b")
    (folder / "b" / "above").symlink_to(tmp_path)
    (folder / "b" / "copy.png").hardlink_to(folder / "b" / "0.png")
    (folder / "c").symlink_to(add(tmp_path / "linked class" / "0.png").parent)
    dataset = data.load(folder)
    assert dataset.classes == ("a", "b", "c")
    assert len(dataset.train) + len(dataset.test) == 7 + 3 + 1
    assert (
        "links to a folder that was read: 3 (a/linked, b/above, b/itself)"
        in (dataset.notes["left_out"])
    )
    assert "links to an image that was read: 1 (b/copy.png)" in dataset.notes["left_out"]


@pytest.mark.parametrize(("first", "second"), [("a/0.png", "b/9.png"), ("train/a", "test/a")])
def test_one_image_in_two_places_is_refused(fill: Fill, first: str, second: str) -> None:
    folder = fill(
        {"train/a": 2, "train/b": 2, "test/b": 1} if "train" in first else {"a": 2, "b": 2}
    )
    (folder / second).symlink_to(folder / first)
    assert "are one file; an image can be in one class and one split alone" in refusal(folder)


@pytest.mark.parametrize("link", ["a/9.png", "b/nowhere", "c"])
def test_a_link_that_leads_nowhere_is_refused(fill: Fill, link: str) -> None:
    folder = fill({"a": 2, "b": 2})
    (folder / link).symlink_to(folder / "gone")
    assert f"{link} is a link that leads nowhere" in refusal(folder)


@pytest.mark.parametrize("name", ["a", "a/deep"])
def test_a_folder_that_cannot_be_read_is_named(
    fill: Fill, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = fill({"a/deep": 2, "b": 2})
    listed = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path == folder / name:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert f"{name} cannot be read (Permission denied)" in refusal(folder)


def test_names_that_cannot_be_printed_are_escaped(fill: Fill) -> None:
    folder = fill({"a\nb": 2, os.fsdecode(b"caf\xe9"): 2})
    assert data.load(folder).classes == ("a\\nb", "caf\\udce9")
    (folder / "a\nb" / "0.png").write_bytes(b"")
    assert "a\\nb/0.png cannot be read" in refusal(folder)


# --- what an image becomes --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["0.PNG", "0.JPG", "0.jfif", "0.gif", "0.webp", "0.Tiff", "0.bmp", "0.ppm", "0.ico"]
)
def test_formats_are_known_by_their_bytes(fill: Fill, name: str) -> None:
    folder = fill({"a": 0, "b": 3})
    add(folder / "a" / name)
    (folder / "a" / "without a suffix").write_bytes(add(folder / "x.png").read_bytes())
    found = only(data.load(folder))
    assert len(found) == 2
    assert torch.allclose(found, torch.tensor([200.0, 0, 0]), atol=3)


@pytest.mark.parametrize("name", ["0.heic", "0.svg", "0.jxl", "0.eps"])
def test_an_image_of_an_unknown_format_is_named(fill: Fill, name: str) -> None:
    folder = fill({"a": 2, "b": 2})
    (folder / "a" / name).write_bytes(b"<svg/>")
    assert f"a/{name} cannot be read (of no known format)" in refusal(folder)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_exif_data_says(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    upright = np.zeros((64, 64, 3), dtype=np.uint8)
    upright[:32, :32], upright[:32, 32:], upright[32:, :32] = 250, 160, 80
    # As a camera held so stores it: what undoes each orientation, by the EXIF standard.
    stored = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: x.swapaxes(0, 1)[::-1],
        7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
        8: lambda x: x.swapaxes(0, 1)[:, ::-1],
    }[orientation](upright)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"0.{suffix}", exif=exif)
    picture = images.read(tmp_path / f"0.{suffix}")
    assert picture is not None
    assert picture.changes == (() if orientation == 1 else ("turned as EXIF says",))
    corners = picture.pixels[[4, 4, 28, 28], [4, 28, 4, 28], 1]
    assert np.abs(corners.astype(int) - [250, 160, 80, 0]).max() < 8


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected", "changes"),
    [
        ("L", 90, "png", (90, 90, 90), ()),
        ("1", 1, "png", (255, 255, 255), ()),
        ("LA", (90, 255), "png", (90, 90, 90), ()),
        ("RGBA", (10, 20, 30, 255), "png", (10, 20, 30), ()),
        ("RGBA", (10, 20, 30, 0), "png", (255, 255, 255), ("transparent on white",)),
        ("RGBA", (0, 0, 0, 51), "webp", (204, 204, 204), ("transparent on white",)),
        ("CMYK", (0, 255, 255, 0), "tif", (255, 0, 0), ("CMYK to RGB",)),
        ("I;16", 0x8080, "png", (128, 128, 128), ("16 bits to 8",)),
        ("I;16", 0x8080, "tif", (128, 128, 128), ("16 bits to 8",)),
    ],
)
def test_every_mode_keeps_its_meaning(
    tmp_path: Path, mode: str, colour: object, suffix: str, expected: object, changes: object
) -> None:
    lossless = {"lossless": True} if suffix == "webp" else {}
    picture = images.read(add(tmp_path / f"0.{suffix}", colour, mode, **lossless))
    assert picture is not None
    assert picture.changes == changes
    assert np.abs(picture.pixels.astype(int) - expected).max() <= 1


def test_a_transparent_palette_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=1)
    opaque, clear = (images.read(tmp_path / f"{name}.png") for name in ("opaque", "clear"))
    assert opaque is not None
    assert clear is not None
    assert opaque.pixels[CENTRE, CENTRE].tolist() == [200, 0, 0]
    assert clear.pixels[CENTRE, CENTRE].tolist() == [255, 255, 255]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_several_frames_the_first_is_read_and_that_is_counted(fill: Fill, suffix: str) -> None:
    folder = fill({"a": 0, "b": 3})
    second = Image.new("RGB", (40, 40), (0, 0, 200))
    add(folder / "a" / f"0.{suffix}", save_all=True, append_images=[second])
    dataset = data.load(folder)
    assert torch.allclose(only(dataset), torch.tensor([200.0, 0, 0]), atol=5)
    assert dataset.notes["converted"] == f"first of several frames: 1 (a/0.{suffix})"


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_without_a_known_white_are_refused(fill: Fill, mode: str) -> None:
    folder = fill({"a": 2, "b": 2})
    add(folder / "a" / "0.tif", 70_000, mode)
    assert f"a/0.tif cannot be read (nothing says which of its {mode} values" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n torn"])
def test_an_unreadable_image_is_named(fill: Fill, content: bytes) -> None:
    folder = fill({"a": 2, "b": 2})
    (folder / "b" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"image .*b/1\.png cannot be read.*take it away") as error:
        data.load(folder)
    assert "\n" not in str(error.value)
