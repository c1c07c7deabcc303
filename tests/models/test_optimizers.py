from dataclasses import replace
from typing import Any

import pytest
import torch

import heads
from models.config import TrainingConfig
from models.data import Dataset
from models.optimizers import build_optimizer, build_schedule, gradient_of
from models.steps import training_step
from models.training import build_model

CONFIG = TrainingConfig(head="softmax", channels=2, threads=1)
ADAMW = replace(CONFIG, optimizer="adamw", learning_rate=4e-3)


@pytest.mark.parametrize("name", sorted({*heads.names()} - {"sampled", "hierarchical-fused"}))
def test_adamw_trains_every_dense_head_at_100_classes(name: str, tiny: Dataset) -> None:
    torch.manual_seed(0)  # of the noise that some heads train under
    config = replace(ADAMW, head=name)
    model = build_model(config, 100)
    optimizer = build_optimizer(model, config)
    images, targets = tiny.train.batch(torch.arange(32))
    losses = [float(training_step(model, optimizer, images, targets)) for _ in range(60)]
    assert sum(losses[-20:]) < sum(losses[:20])


def test_adamw_is_adamw_spelled_out(tiny: Dataset) -> None:
    config = replace(ADAMW, weight_decay=0.1)
    model = build_model(config, 100)
    twin = build_model(config, 100)
    twin.load_state_dict(model.state_dict())
    optimizer = build_optimizer(model, config)
    reference = torch.optim.AdamW(twin.parameters(), lr=4e-3, weight_decay=0.1, foreach=False)
    for start in (0, 32, 64):
        images, targets = tiny.train.batch(torch.arange(start, start + 32))
        training_step(model, optimizer, images, targets)
        training_step(twin, reference, images, targets)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"optimizer": "adamw"}, "adamw"),
        ({"weight_decay": 0.1}, "weight_decay"),
        ({"weight_decay": 0.1, "momentum": 0.9}, "weight_decay"),
    ],
)
@pytest.mark.parametrize("head", ["hierarchical", "sampled"])
def test_a_row_sparse_gradient_is_refused_where_it_does_not_go(
    head: str, change: dict[str, Any], named: str
) -> None:
    config = replace(CONFIG, head=head, **change)
    model = build_model(config, 1000)
    expected = (
        f"'{head}' gives row-sparse gradients at 1000 classes, .* with {named}; use plain sgd"
    )
    with pytest.raises(ValueError, match=expected) as error:
        build_optimizer(model, config)
    assert "\n" not in str(error.value)


def test_momentum_takes_row_sparse_gradients(tiny: Dataset) -> None:
    config = replace(CONFIG, head="hierarchical", momentum=0.9)
    model = build_model(config, 1000)
    dense_config = replace(config, head="hierarchical-dense")
    dense = build_model(dense_config, 1000)
    dense.load_state_dict(model.state_dict())
    optimizer, reference = build_optimizer(model, config), build_optimizer(dense, dense_config)
    assert gradient_of(model.head) == "row-sparse"
    assert gradient_of(dense.head) == "dense"
    # The second step is one of momentum alone for the rows that its batch does not touch.
    for start in (0, 8, 16):
        batch = tiny.train.batch(torch.arange(start, start + 8))
        training_step(model, optimizer, *batch)
        training_step(dense, reference, *batch)
    for ours, theirs in zip(model.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_head_that_steps_itself_goes_with_plain_sgd_alone() -> None:
    plain = replace(CONFIG, head="hierarchical-fused", learning_rate=0.3)
    model = build_model(plain, 1000)
    build_optimizer(model, plain)
    assert model.head.learning_rate == 0.3
    for change in ({"momentum": 0.9}, {"schedule": "one-cycle"}, {"optimizer": "adamw"}):
        config = replace(plain, **change)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="gives no gradients at 1000 classes"):
            build_optimizer(model, config)


def test_asking_for_the_gradient_leaves_head_and_generator_alone() -> None:
    head = heads.build("gumbel", 8, 10)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    state = torch.get_rng_state()
    assert gradient_of(head) == "dense"
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in head.parameters())
    torch.testing.assert_close(dict(head.state_dict()), before, rtol=0, atol=0)


def test_one_cycle_rises_to_the_learning_rate_and_falls_to_nearly_nothing() -> None:
    config = replace(ADAMW, schedule="one-cycle")
    model = build_model(config, 100)
    optimizer = build_optimizer(model, config)
    schedule = build_schedule(optimizer, config, steps=100)
    assert schedule is not None
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(config.learning_rate)
    assert 25 <= peak <= 35
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert rates[-1] < config.learning_rate / 1000


def test_a_constant_rate_needs_no_schedule() -> None:
    optimizer = build_optimizer(build_model(CONFIG, 100), CONFIG)
    assert build_schedule(optimizer, CONFIG, steps=10) is None
