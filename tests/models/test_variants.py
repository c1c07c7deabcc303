from dataclasses import replace

import pytest
import torch

import heads
from heads.gumbel import Gumbel
from models import variants
from models.config import TrainingConfig
from models.data import Dataset
from models.training import build_model, train


@pytest.mark.parametrize("name", dict.fromkeys((*variants.names(), *heads.names())))
def test_every_variant_trains_under_its_own_name(name: str, tiny: Dataset) -> None:
    config = variants.config(name, epochs=1, channels=2, threads=1)
    record = train(config, tiny.subset(100, 100))
    assert (record.status, record.reason) == ("measured", "")
    assert record.variant == name


@pytest.mark.parametrize("name", heads.names())
def test_a_head_is_a_variant_under_the_published_recipe(name: str) -> None:
    found = variants.config(name)
    published = TrainingConfig(head=name, variant=name)
    assert found == replace(published, on="logits" if name == "hierarchical-padded" else "features")


def test_tuned_variants_share_one_recipe() -> None:
    tuned = [variants.config(name) for name in variants.names() if name.endswith("-tuned")]
    own = {"head": "", "variant": "", "head_options": {}, "annealing": None, "relearn": ()}
    assert len({repr(replace(config, **own)) for config in tuned}) == 1  # type: ignore[arg-type]


def test_only_tuned_variants_leave_the_published_recipe() -> None:
    own = {"head": "", "variant": "", "head_options": {}, "annealing": None, "relearn": ()}
    own |= {"on": "features", "autocast": "float32"}
    recipes = {
        repr(replace(variants.config(name), **own))  # type: ignore[arg-type]
        for name in variants.names()
        if not name.endswith("-tuned")
    }
    assert recipes == {repr(TrainingConfig(head=""))}


def test_overrides_win() -> None:
    config = variants.config("softmax-tuned", seed=3, epochs=2, flips=False)
    assert (config.seed, config.epochs, config.flips) == (3, 2, False)
    assert config.batch_size == variants.config("softmax-tuned").batch_size


def test_an_unknown_variant_is_refused_with_what_exists() -> None:
    with pytest.raises(ValueError, match=r"unknown variant 'soft'; variants are: softmax, .*two-"):
        variants.config("soft")


def test_annealing_spans_the_training() -> None:
    config = variants.config("gumbel-annealed-tuned", channels=2)
    assert config.annealing is not None
    model = build_model(config, 10, steps=100)
    head = model.head
    assert isinstance(head, Gumbel)
    taus = []
    for step in (0, 50, 100):
        head.step.fill_(step)
        taus.append(head.tau)
    start, end = config.annealing
    assert taus == pytest.approx([start, (start * end) ** 0.5, end])


def test_step_one_of_each_ladder_is_what_its_name_says() -> None:
    features, target = torch.randn(6, 8), torch.arange(6)

    def loss(name: str) -> torch.Tensor:
        config = variants.config(name)
        torch.manual_seed(0)
        head = heads.build(config.head, 8, 100, **config.head_options)
        return head(features, target).loss.detach()

    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 100)
    noise = torch.randn(6, 100)
    noisy = linear(features) + noise
    likely = noisy.softmax(1)
    expected = {
        "gumbel-normal": -likely[range(6), target].mean(),
        "gumbel-normal-log": torch.nn.functional.cross_entropy(noisy, target),
        "gumbel-double-softmax": torch.nn.functional.cross_entropy(likely, target),
    }
    for name, value in expected.items():
        torch.testing.assert_close(loss(name), value.detach())
