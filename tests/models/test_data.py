import hashlib
import http.server
import os
import pickle
import tarfile
import threading
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models import _torchvision, data
from models.data import Dataset, Split, stand_in
from models.dataset import DataError


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server that serves `tmp_path`."""
    monkeypatch.setenv("no_proxy", "*")
    handler = partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@dataclass(frozen=True)
class Archive:
    """A download in CIFAR-100's format, 600 training and 200 test images, and what it holds."""

    file: Path
    pixels: np.ndarray[Any, Any]
    targets: list[int]


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def archive(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Archive:
    random = np.random.default_rng(0)
    source = tmp_path / "source" / "cifar-100-python"
    source.mkdir(parents=True)
    contents: dict[str, dict[str, Any]] = {}
    for name, count in (("train", 600), ("test", 200)):
        fine = random.permutation(np.arange(count) % 100).tolist()
        contents[name] = {
            "data": random.integers(0, 256, (count, 3072), dtype=np.uint8),
            "fine_labels": fine,
            "coarse_labels": [label * 7 % 20 for label in fine],
        }
    contents["meta"] = {
        "fine_label_names": [f"fine {index}" for index in range(100)],
        "coarse_label_names": [f"coarse {index}" for index in range(20)],
    }
    for name, content in contents.items():
        (source / name).write_bytes(pickle.dumps(content))
    file = tmp_path / "source" / "archive.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        tar.add(source, arcname=source.name)

    cifar = _torchvision.datasets().CIFAR100
    sums = {name: md5((source / name).read_bytes()) for name in contents}
    monkeypatch.setattr(cifar, "url", f"{server}/source/archive.tar.gz")
    monkeypatch.setattr(cifar, "tgz_md5", md5(file.read_bytes()))
    monkeypatch.setattr(cifar, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(cifar, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": sums["meta"]})
    pixels = contents["train"]["data"].reshape(-1, 3, 32, 32)
    return Archive(file, pixels, contents["train"]["fine_labels"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "somewhere" / "data"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def test_absent_data_is_downloaded_and_kept(archive: Archive, folder: Path) -> None:
    first = data.load(folder)
    archive.file.unlink()
    again = data.load(folder)
    assert torch.equal(first.train.images, again.train.images)
    assert (again.name, again.stand_in, again.reason) == ("CIFAR-100", False, "")


def test_images_are_the_pixels_normalised(archive: Archive, folder: Path) -> None:
    images = data.load(folder).train.images
    expected = archive.pixels.astype(np.float64)
    expected -= expected.mean(axis=(0, 2, 3), keepdims=True)
    expected /= expected.std(axis=(0, 2, 3), keepdims=True)
    torch.testing.assert_close(images.double(), torch.from_numpy(expected), rtol=0, atol=1e-4)


def test_test_images_are_normalised_by_the_training_images(archive: Archive, folder: Path) -> None:
    dataset = data.load(folder)
    assert abs(float(dataset.train.images.mean())) < 1e-5
    assert abs(float(dataset.test.images.mean())) > 1e-5


@pytest.mark.usefixtures("archive")
def test_labels_and_names_are_those_of_the_files(archive: Archive, folder: Path) -> None:
    dataset = data.load(folder)
    assert dataset.train.targets.tolist() == archive.targets
    assert dataset.classes[42] == "fine 42"
    assert dataset.superclasses[3] == "coarse 3"
    assert dataset.superclass_of == tuple(label * 7 % 20 for label in range(100))


@pytest.mark.parametrize("name", ["train", "test", "meta"])
@pytest.mark.usefixtures("archive")
def test_a_damaged_file_is_named(folder: Path, name: str) -> None:
    data.load(folder)
    file = folder / "cifar-100-python" / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{name} is damaged.*delete it") as error:
        data.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("archive")
def test_a_damaged_file_is_not_replaced_by_the_stand_in(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    data.load(folder)
    (folder / "cifar-100-python" / "test").unlink()
    (folder / "cifar-100-python" / "train").write_bytes(b"")
    request.getfixturevalue("no_network")
    with pytest.raises(DataError, match="train is damaged"):
        data.load(folder)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is used where none is given, in a place of the test's own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(data, "stand_in", lambda reason, _: stand_in(reason, per_class=5))
    return Path("data")


@pytest.mark.usefixtures("no_network")
def test_without_data_and_network_there_is_a_marked_stand_in(nowhere: Path) -> None:
    dataset = data.load()
    assert dataset.stand_in
    assert dataset.name != "CIFAR-100"
    assert str(nowhere) in dataset.reason
    assert "no route to host" in dataset.reason
    assert (len(dataset.train), len(dataset.test)) == (500, 100)


def test_a_download_of_something_else_is_not_used(archive: Archive, nowhere: Path) -> None:
    archive.file.write_bytes(b"<html>please log in</html>")
    dataset = data.load()
    assert dataset.stand_in
    assert "what arrived is not its archive" in dataset.reason
    assert not (nowhere / "cifar-100-python").exists()


def refusal(folder: Path) -> str:
    """The one line with which a folder that was given is refused."""
    with pytest.raises(DataError) as error:
        data.load(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("makes", [False, True])
@pytest.mark.usefixtures("no_network")
def test_a_given_folder_without_anything_is_never_replaced_by_the_stand_in(
    folder: Path, makes: bool
) -> None:
    if makes:
        folder.mkdir(parents=True)
        (folder / ".gitkeep").touch()
    assert "no route to host>; give a folder that holds" in refusal(folder)
    assert folder.exists() == makes


@pytest.mark.usefixtures("archive")
def test_a_given_folder_with_something_else_is_not_downloaded_into(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "photos.zip").write_bytes(b"PK")
    assert "holds no images; expected a folder per class" in refusal(folder)
    assert [file.name for file in folder.iterdir()] == ["photos.zip"]


@pytest.mark.usefixtures("archive")
def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").touch()
    assert "photos.zip is a file; expected a folder" in refusal(tmp_path / "photos.zip")


@pytest.mark.parametrize("name", ["cifar-10-batches-py", "cifar-100-binary", "cifar-10-python.tar"])
@pytest.mark.usefixtures("archive")
def test_another_cifar_is_not_taken_for_cifar_100(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True)
    assert f"{name} is not the Python version of CIFAR-100" in refusal(folder)


def test_an_archive_that_lies_there_is_unpacked_and_a_damaged_one_is_named(
    archive: Archive, folder: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("no_network")
    folder.mkdir(parents=True)
    there = folder / _torchvision.datasets().CIFAR100.filename
    there.write_bytes(archive.file.read_bytes()[:-1])
    assert f"{there.name} in it is damaged" in refusal(folder)
    there.write_bytes(archive.file.read_bytes())
    assert data.load(folder).train.targets.tolist() == archive.targets


@pytest.mark.usefixtures("archive")
def test_cifars_own_folder_may_be_given_and_what_lies_beside_it_is_named(folder: Path) -> None:
    first = data.load(folder)
    (folder / "photos").mkdir()
    again = data.load(folder / "cifar-100-python")
    assert torch.equal(first.train.images, again.train.images)
    assert again.facts()["left_out"] == "1 beside cifar-100-python/ (photos)"


def test_images_in_the_usual_folder_are_not_replaced_either(nowhere: Path) -> None:
    (nowhere / "a" / "deep").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(nowhere / "a" / "deep" / "0.png")
    with pytest.raises(DataError, match=r"one class alone \(a\)"):
        data.load()


@pytest.mark.usefixtures("archive")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"data folder .*file/data: Not a directory; .*--data"):
        data.load(tmp_path / "file" / "data")


@pytest.mark.usefixtures("archive")
def test_a_full_disk_is_not_taken_for_a_missing_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    utils = _torchvision.datasets().utils
    monkeypatch.setattr(utils, "download_and_extract_archive", full)
    with pytest.raises(DataError, match="No space left on device"):
        data.load(folder)


def test_data_folder_is_the_option_else_the_environment() -> None:
    environ = {"CIFAR100_ROOT": "from-environment"}
    assert data.root("from-option", environ) == Path("from-option")
    assert data.root(None, environ) == Path("from-environment")
    assert data.root(None, {}) is data.root(None, {"CIFAR100_ROOT": ""}) is None


@pytest.mark.parametrize("option", ["", "~nobody-of-this-name/data"])
def test_a_folder_that_cannot_be_meant_is_refused(option: str) -> None:
    with pytest.raises(DataError, match=r"empty|home directory"):
        data.root(option, {})


def test_images_are_channels_last(tiny: Dataset) -> None:
    for split in (tiny.train, tiny.test):
        assert split.images.is_contiguous(memory_format=torch.channels_last)
        assert split.images.dtype == torch.float32


@given(st.lists(st.integers(0, 399), min_size=1, max_size=8))
def test_a_batch_is_the_images_at_its_index(tiny: Dataset, index: list[int]) -> None:
    images, targets = tiny.train.batch(torch.tensor(index))
    assert torch.equal(images, tiny.train.images[index])
    assert torch.equal(targets, tiny.train.targets[index])
    assert images.is_contiguous(memory_format=torch.channels_last)


@given(st.integers(1, 400), st.integers(1, 100), st.integers(0, 3))
def test_a_subset_has_every_class_equally_often(
    tiny: Dataset, train_images: int, test_images: int, seed: int
) -> None:
    subset = tiny.subset(train_images, test_images, seed)
    for split, count in ((subset.train, train_images), (subset.test, test_images)):
        assert len(split) == count
        of_each = split.targets.bincount(minlength=100)
        assert of_each.max() - of_each.min() <= 1


def pairs(split: Split) -> set[tuple[bytes, int]]:
    images = (image.contiguous().numpy().tobytes() for image in split.images)
    return set(zip(images, split.targets.tolist(), strict=True))


def test_a_subset_keeps_images_with_their_classes_and_none_twice(tiny: Dataset) -> None:
    subset = tiny.subset(150, 50)
    assert len(pairs(subset.train)) == 150
    assert pairs(subset.train) < pairs(tiny.train)


def test_a_subset_depends_on_its_seed_only(tiny: Dataset) -> None:
    first, again, other = (tiny.subset(150, 50, seed).train for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_a_subset_larger_than_the_whole_is_refused(tiny: Dataset) -> None:
    with pytest.raises(ValueError, match=r"1\.\.400 images, got 401"):
        tiny.subset(401, 10)


def test_the_stand_in_can_be_learned(tiny: Dataset) -> None:
    train, test = (split.images.flatten(1) for split in (tiny.train, tiny.test))
    centres = torch.stack([train[tiny.train.targets == label].mean(0) for label in range(100)])
    nearest = torch.cdist(test, centres).argmin(dim=1)
    assert (nearest == tiny.test.targets).float().mean() > 0.9


def test_the_stand_in_is_the_same_every_time(tiny: Dataset) -> None:
    assert torch.equal(data.stand_in("again", per_class=4).train.images, tiny.train.images)


@pytest.mark.skipif("CIFAR100_ROOT" not in os.environ, reason="needs CIFAR-100 in CIFAR100_ROOT")
def test_cifar100_itself_is_read_right() -> None:
    dataset = data.load(data.root(None))
    assert not dataset.stand_in
    assert dataset.train.images.shape == (50_000, 3, 32, 32)
    assert dataset.test.images.shape == (10_000, 3, 32, 32)
    assert dataset.train.targets.bincount().tolist() == [500] * 100
    assert dataset.train.images.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (dataset.train.images.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-4
    superclass = dict(zip(dataset.classes, dataset.superclass_of, strict=True))
    assert dataset.superclasses[superclass["oak_tree"]] == "trees"
    assert [dataset.superclass_of.count(index) for index in range(20)] == [5] * 20


@given(st.sampled_from([0.1, 0.25, 0.5]), st.integers(0, 3))
def test_what_is_held_out_is_part_of_the_training_images(
    tiny: Dataset, share: float, seed: int
) -> None:
    held = tiny.held_out(share, seed)
    assert len(held.test) == round(share * len(tiny.train))
    assert pairs(held.train).isdisjoint(pairs(held.test))
    assert pairs(held.train) | pairs(held.test) == pairs(tiny.train)
    of_each = held.test.targets.bincount(minlength=100)
    assert of_each.max() - of_each.min() <= 1


def test_what_is_held_out_depends_on_its_seed_only(tiny: Dataset) -> None:
    first, again, other = (tiny.held_out(0.2, seed).test for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 1e-6])
def test_nothing_and_everything_cannot_be_held_out(tiny: Dataset, share: float) -> None:
    with pytest.raises(ValueError, match="share must leave both parts some of 400 images"):
        tiny.held_out(share)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.floats(0.05, 0.95))
def test_every_class_is_drawn_in_its_proportion(sizes: list[int], share: float) -> None:
    targets = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    split = Split(torch.zeros(len(targets), 3, 2, 2), targets)
    count = max(1, round(share * len(targets)))
    whole = Dataset("", ("",) * len(sizes), (), (), split, split)
    drawn = whole.subset(count, count).train.targets.bincount(minlength=len(sizes))
    expected = torch.tensor(sizes) * count / len(targets)
    # Each class is rounded to whole images, and so is their sum.
    rounding = 0.5 + len(sizes) / 2 * torch.tensor(sizes) / len(targets)
    assert bool(((drawn - expected).abs() <= rounding).all())


@given(st.lists(st.tuples(st.integers(0, 399), st.booleans()), min_size=1, max_size=8))
def test_flipped_images_are_mirrored_left_to_right(
    tiny: Dataset, chosen: list[tuple[int, bool]]
) -> None:
    index, flipped = (torch.tensor(column) for column in zip(*chosen, strict=True))
    images, _ = tiny.train.batch(index, flipped)
    for image, (place, mirrored) in zip(images, chosen, strict=True):
        original = tiny.train.images[place].numpy()
        assert np.array_equal(image.numpy(), original[:, :, ::-1] if mirrored else original)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_facts_say_what_was_drawn_and_which_classes_have_no_image(tiny: Dataset) -> None:
    facts = tiny.subset(400, 98, seed=3).facts()
    assert facts["drawn"] == "98 of 100 test images, every class in its proportion, seed 3"
    assert facts["no_test_images"].startswith("2 of 100 classes (class ")
    assert "no_training_images" not in facts
    assert (facts["train_images"], facts["test_images"]) == (400, 98)
    assert len(facts["classes"]) == 100


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_a_share_of_each_class_leaves_each_some(sizes: list[int]) -> None:
    targets = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    chosen = data._share_of_each(targets, 0.2, seed=0)
    assert len(set(chosen.tolist())) == len(chosen)
    counts = targets[chosen].bincount(minlength=len(sizes)).tolist()
    assert counts == [0 if size == 1 else max(1, round(0.2 * size)) for size in sizes]
