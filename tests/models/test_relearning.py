from dataclasses import replace

import pytest
import torch

from heads.clustering import clustered
from heads.trees import learned_order
from models.config import TrainingConfig
from models.data import Dataset
from models.relearning import learn_tree
from models.training import build_model, train

CONFIG = TrainingConfig(
    head="hierarchical",
    head_options={"tree": "clustered", "pieces": 2},
    relearn=(1,),
    channels=3,
    epochs=2,
    threads=1,
)


def test_a_tree_is_learned_from_the_features_of_the_training_images(tiny: Dataset) -> None:
    model = build_model(CONFIG, tiny.num_classes)
    with torch.no_grad():
        features = model.embed(tiny.train.images)
    tree = learn_tree(model, tiny.train, CONFIG)
    expected = clustered(features, tiny.train.targets, tiny.num_classes)
    # The order of the images is drawn anew, so sums differ in their last digits only.
    assert torch.equal(tree.parents, expected.parents)
    order = learn_tree(model, tiny.train, replace(CONFIG, head_options={"tree": "learned"}))
    assert torch.equal(order, learned_order(features, tiny.train.targets, tiny.num_classes))


def test_before_its_tree_is_learned_a_head_is_balanced(tiny: Dataset) -> None:
    once = train(replace(CONFIG, epochs=1), tiny)
    options = {"tree": "balanced", "pieces": 2}
    balanced = train(replace(CONFIG, epochs=1, head_options=options, relearn=()), tiny)
    assert once.epochs[0].train_loss == balanced.epochs[0].train_loss
    assert train(CONFIG, tiny).epochs[1].train_loss != once.epochs[0].train_loss


def test_the_body_trains_on_when_the_head_changes(tiny: Dataset) -> None:
    """AdamW keeps a moment of every parameter; those of the body are carried over."""
    config = replace(CONFIG, optimizer="adamw", learning_rate=1e-3, schedule="one-cycle")
    record = train(config, tiny)
    assert record.status == "measured"
    assert len(record.epochs) == 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"relearn": ()}, "need each other"),
        ({"head_options": {}}, "need each other"),
        ({"relearn": (-1,)}, "from 0 on"),
    ],
)
def test_a_learned_tree_and_when_to_learn_it_need_each_other(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **settings)
