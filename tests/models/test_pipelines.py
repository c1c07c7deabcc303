from dataclasses import replace

import pytest
import torch

from models import pipelines
from models.config import TrainingConfig
from models.data import Dataset

CONFIG = TrainingConfig(head="softmax", channels=3, threads=1, learning_rate=0.05)


@pytest.mark.parametrize("name", pipelines.names())
def test_a_pipeline_trains_and_never_runs_out(name: str, tiny: Dataset) -> None:
    step = pipelines.build(name, tiny, CONFIG)
    losses = [float(step()) for _ in range(60)]  # type: ignore[arg-type]
    assert sum(losses[-13:]) < sum(losses[:13])


def test_published_batches_hold_the_images_of_the_data_set(tiny: Dataset) -> None:
    config = replace(CONFIG, batch_size=len(tiny.train))
    images, targets = next(pipelines.published_batches(tiny, config))
    assert images.is_contiguous()
    order, expected = targets.sort(stable=True)[1], tiny.train.targets.sort(stable=True)[1]
    # Within a class the order is open: compare what does not depend on it.
    for label in range(0, 100, 7):
        ours = tiny.train.images[expected[tiny.train.targets[expected] == label]]
        theirs = images[order[targets[order] == label]]
        torch.testing.assert_close(
            ours.flatten(1).sum(1).sort().values,
            theirs.flatten(1).sum(1).sort().values,
            rtol=1e-4,
            atol=1e-2,
        )


def test_both_pipelines_start_from_the_same_model(tiny: Dataset) -> None:
    first = [
        float(pipelines.build(name, tiny.subset(100, 1), replace(CONFIG, batch_size=100))())  # type: ignore[arg-type]
        for name in pipelines.names()
    ]
    assert first[0] == pytest.approx(first[1], rel=2e-3)


def test_an_unknown_pipeline_is_refused_with_what_exists(tiny: Dataset) -> None:
    with pytest.raises(ValueError, match="unknown pipeline 'x'; pipelines are: published-style, o"):
        pipelines.build("x", tiny, CONFIG)
