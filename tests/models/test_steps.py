from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import heads
from models.config import TrainingConfig
from models.data import Dataset
from models.optimizers import build_optimizer
from models.steps import Captured, Draw, Eager, capturable, draw_epoch, epoch_batches
from models.training import build_model, train

CONFIG = TrainingConfig(head="softmax", channels=3, epochs=2, threads=1, flips=True)


@given(st.integers(1, 200), st.booleans(), st.integers(0, 5))
def test_an_epoch_sees_every_image_once(images: int, flips: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    draw = draw_epoch(images, replace(CONFIG, flips=flips), generator)
    assert sorted(draw.index.tolist()) == list(range(images))
    assert (draw.flipped is not None) == flips


def test_about_half_of_the_images_are_flipped_and_others_in_the_next_epoch() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (draw_epoch(10_000, CONFIG, generator) for _ in range(2))
    assert first.flipped is not None
    assert second.flipped is not None
    # Five standard deviations of a fair coin.
    assert abs(int(first.flipped.sum()) - 5000) < 250
    assert not torch.equal(first.flipped, second.flipped)


@given(st.integers(1, 120))
def test_batches_are_the_draw_in_pieces(tiny: Dataset, batch_size: int) -> None:
    index = torch.randperm(100)
    flipped = torch.rand(100) < 0.5
    batches = list(epoch_batches(tiny.train, Draw(index, flipped), batch_size))
    assert all(len(images) == batch_size for images, _ in batches[:-1])
    images, targets = tiny.train.batch(index, flipped)
    assert torch.equal(torch.cat([images for images, _ in batches]), images)
    assert torch.equal(torch.cat([targets for _, targets in batches]), targets)


def test_flips_are_the_same_for_every_head(tiny: Dataset) -> None:
    draws = []
    for head in ("softmax", "gumbel"):
        config = replace(CONFIG, head=head)
        generator = torch.Generator().manual_seed(0)
        model = build_model(config, 100)
        optimizer = build_optimizer(model, config)
        epoch = draw_epoch(len(tiny.train), config, generator)
        list(Eager(model, optimizer, tiny.train, config).epoch(epoch))
        draws.append(draw_epoch(len(tiny.train), config, generator))
    assert torch.equal(draws[0].index, draws[1].index)


@pytest.mark.parametrize("name", heads.names())
def test_bfloat16_trains_as_float32_does(name: str, few: Dataset) -> None:
    config = TrainingConfig(head=name, channels=3, epochs=2, threads=1, learning_rate=0.05)
    full = train(config, few)
    half = train(replace(config, autocast="bfloat16"), few)
    assert half.epochs[-1].train_loss == pytest.approx(full.epochs[-1].train_loss, rel=0.02)
    assert half.epochs[-1].train_loss != full.epochs[-1].train_loss


def test_nothing_is_captured_on_the_cpu() -> None:
    assert not capturable(build_model(CONFIG, 100))


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("head", "allows"),
    [("softmax", True), ("gumbel", True), ("hierarchical", True), ("adaptive", False)],
)
def test_heads_that_make_the_host_wait_are_not_captured(head: str, allows: bool) -> None:
    config = replace(CONFIG, head=head, device="cuda:0")
    assert capturable(build_model(config, 100)) == allows


@pytest.mark.cuda
@pytest.mark.parametrize(
    "recipe",
    [
        {"head": "softmax"},
        {"head": "hierarchical", "optimizer": "adamw", "schedule": "one-cycle"},
        {"head": "gumbel", "annealing": (2.0, 0.5), "momentum": 0.9, "schedule": "one-cycle"},
    ],
    ids=lambda recipe: recipe["head"],
)
def test_captured_steps_are_eager_steps(recipe: dict[str, object], tiny: Dataset) -> None:
    config = replace(CONFIG, device="cuda:0", **recipe)  # type: ignore[arg-type]
    split = tiny.train.to(torch.device("cuda:0"))

    def losses(captured: bool) -> list[float]:
        torch.manual_seed(0)
        model = build_model(config, 100, steps=26)
        optimizer = build_optimizer(model, config, capturable=captured)
        steps = (Captured if captured else Eager)(model, optimizer, split, config)
        order = torch.Generator().manual_seed(0)
        draws = [draw_epoch(len(split), config, order) for _ in range(2)]
        return [float(loss) for draw in draws for loss in steps.epoch(draw)]

    assert losses(captured=True) == pytest.approx(losses(captured=False), rel=1e-3)
