"""The greedy misses of a model, against scoring every class."""

import pytest
import torch

from models import tinyvgg
from models.data import Split
from models.greedy import count_greedy_misses


def split_of(images):
    return Split(images, torch.zeros(len(images), dtype=torch.int64))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("on", ["features", "logits"])
def test_misses_are_counted_over_all_images(on, training):
    torch.manual_seed(0)
    model = tinyvgg.build("hierarchical", 100, on=on).train(training)
    images = torch.randn(250, 3, 32, 32)
    with torch.no_grad():
        best = model.log_prob(images).argmax(dim=1)
        greedy = model.head.predict(model.embed(images), search="greedy")
    assert 0 < count_greedy_misses(model, split_of(images)) == int((best != greedy).sum())
    assert model.training == training


@pytest.mark.parametrize("name", ["softmax", "hierarchical-dense", "hierarchical-padded"])
def test_a_head_without_a_search_has_no_misses(name):
    assert (
        count_greedy_misses(tinyvgg.build(name, 100), split_of(torch.randn(3, 3, 32, 32))) is None
    )
