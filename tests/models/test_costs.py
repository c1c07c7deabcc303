from dataclasses import asdict

import pytest
import torch

import heads
from models import tinyvgg
from models.config import TrainingConfig
from models.costs import flops_per_image, path_multiply_adds, time_split
from models.data import Dataset
from models.optimizers import build_optimizer
from models.steps import training_step
from models.training import build_model


def test_parts_of_a_step_are_told_apart_by_the_timer(tiny: Dataset) -> None:
    config = TrainingConfig(head="softmax", channels=2, threads=1)
    model = build_model(config, 100)
    ticks = iter(i * (i + 1) / 2 for i in range(1000))  # the i-th interval is i long
    split = time_split(
        model,
        build_optimizer(model, config),
        tiny.train,
        batch_size=8,
        steps=4,
        timer=ticks.__next__,
    )
    parts = asdict(split)
    assert list(parts) == ["data", "forward", "head", "backward", "optimizer"]
    warm_up = 3 * 6
    for place, seconds in enumerate(parts.values(), start=1):
        assert list(seconds) == [warm_up + 6 * step + place for step in range(4)]


@pytest.mark.parametrize("name", heads.names())
def test_a_step_taken_apart_is_the_same_step(name: str, tiny: Dataset) -> None:
    config = TrainingConfig(head=name, channels=2, threads=1, learning_rate=0.1)
    whole, apart = build_model(config, 100), build_model(config, 100)
    apart.load_state_dict(whole.state_dict())
    torch.manual_seed(1)
    time_split(apart, build_optimizer(apart, config), tiny.train, batch_size=32, steps=2, seed=5)
    torch.manual_seed(1)
    optimizer, order = build_optimizer(whole, config), torch.Generator().manual_seed(5)
    for _ in range(5):
        index = torch.randperm(len(tiny.train), generator=order)[:32]
        training_step(whole, optimizer, *tiny.train.batch(index))
    for one, other in zip(whole.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_operations_of_a_step_are_those_of_its_layers() -> None:
    model = tinyvgg.build("softmax", 100)
    sides, widths = (30, 28, 12, 10), (3, 10, 10, 10)
    convolutions = [2 * side**2 * 10 * 9 * width for side, width in zip(sides, widths, strict=True)]
    # Forward, gradient of the weights, and but for the first layer gradient of the input.
    expected = 3 * sum(convolutions) - convolutions[0] + 3 * 2 * 250 * 100
    assert flops_per_image(model) == expected
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_wide_head_dominates_the_operations() -> None:
    narrow, wide = (flops_per_image(tinyvgg.build("softmax", n)) for n in (100, 10_100))
    assert wide - narrow == 3 * 2 * 250 * 10_000


def test_a_trees_work_is_that_of_its_paths() -> None:
    binary = heads.build("hierarchical", 10, 64)
    assert path_multiply_adds(binary) == 3 * 6 * 10
    wide = heads.build("hierarchical", 10, 64, branching=8)
    assert path_multiply_adds(wide) == 3 * 16 * 10
    pieces = heads.build("hierarchical", 10, 64, branching=8, pieces=2)
    assert path_multiply_adds(pieces) == 3 * (16 + 8) * 10
    assert path_multiply_adds(heads.build("softmax", 10, 64)) == 3 * 64 * 10
