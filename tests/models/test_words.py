"""The language model: what it may look at, what it shares, and how it is trained and tested."""

import math
from dataclasses import replace

import pytest
import torch

import heads
from models import cases, words
from models.metrics import normaliser_bias
from models.optimizers import LazyAdam
from models.text import Text, Windows
from models.training import build_model, evaluate, train

CLASSES = 40


@pytest.fixture(scope="module")
def tiny():
    """A text in which every word follows from the one before it, but for some noise."""
    torch.manual_seed(0)
    stream = torch.zeros(2_001, dtype=torch.int64)
    noise = torch.rand(2_001) < 0.2
    for place in range(1, 2_001):
        after = (7 * stream[place - 1] + 3) % CLASSES
        stream[place] = torch.randint(CLASSES, ()) if noise[place] else after
    counts = torch.bincount(stream[:1_601], minlength=CLASSES)
    return Text(
        "a test",
        tuple(map(str, range(CLASSES))),
        counts,
        Windows(stream[:1_601], 8),
        Windows(stream[1_600:1_801], 8),
        Windows(stream[1_800:], 8),
    )


def config(name, **more):
    settings = {"width": 16, "batch_size": 10, "rounds": 4, "threads": 1, "learning_rate": 0.02}
    return cases.config("words", name, **{**settings, **more})


def test_features_follow_from_what_was_read_up_to_a_word():
    torch.manual_seed(0)
    body = words.Recurrent(CLASSES, 8)
    first, second = torch.randint(CLASSES, (2, 1, 6))
    second[:, :4] = first[:, :4]
    assert torch.equal(body(first)[:4], body(second)[:4])
    assert not torch.equal(body(first)[4:], body(second)[4:])


@pytest.mark.parametrize("name", ["softmax", "softmax-chunked", "gumbel", "sampled"])
def test_tied_rows_are_one_parameter(name):
    model = words.build(name, CLASSES, width=8, tied=True)
    assert model.head.linear.weight is model.body.embedding.weight
    model(torch.randint(CLASSES, (2, 3)), torch.randint(CLASSES, (6,))).loss.backward()
    assert model.head.linear.weight.grad.is_sparse == (name == "sampled")


@pytest.mark.parametrize("name", ["adaptive", "hierarchical", "two-level"])
def test_heads_without_a_row_for_each_word_cannot_be_tied(name):
    with pytest.raises(ValueError, match="no row for each word"):
        words.build(name, CLASSES, width=8, tied=True)


@pytest.mark.parametrize("name", cases.CASES["words"].variants)
def test_every_variant_trains_and_beats_the_unigrams(name, tiny):
    record = train(config(name, epochs=3), tiny)
    assert record.status == "measured", record.reason
    assert len(record.epochs) == 12
    assert record.final.loss < tiny.facts()["unigram_loss"]
    assert record.final.predictions == len(tiny.test.targets)
    assert (record.final.normaliser_bias is None) == ("sampled" not in name)
    assert type(record).load(record.dump()).dump() == record.dump()


def test_rounds_only_part_a_pass(tiny):
    whole, parts = (train(config("softmax", rounds=rounds), tiny) for rounds in (1, 4))
    assert len(parts.epochs) == 4 * len(whole.epochs)
    assert parts.final.loss == whole.final.loss
    assert parts.epochs[-1].test_loss == whole.epochs[-1].test_loss
    mean = sum(epoch.train_loss for epoch in parts.epochs) / 4
    assert mean == pytest.approx(whole.epochs[0].train_loss)


@pytest.mark.parametrize("name", ["softmax", "adaptive", "huffman", "sampled-unigram"])
def test_the_loss_tested_is_the_heads_own(name, tiny):
    torch.manual_seed(0)
    model = build_model(config(name), CLASSES, counts=tiny.class_counts)
    loss, ranked = evaluate(model, tiny.test, CLASSES)
    inputs, targets = tiny.test.batch(torch.arange(len(tiny.test)))
    model.eval()
    torch.testing.assert_close(loss.float(), model(inputs, targets).loss, check_dtype=False)
    assert torch.equal(ranked, model.topk(inputs, 5)[1])


def test_a_sample_of_everything_leaves_no_bias(tiny):
    torch.manual_seed(0)
    few, many = (
        normaliser_bias(words.build("sampled", CLASSES, width=8, num_sampled=m), tiny.test)
        for m in (2, 20_000)
    )
    assert abs(many) < 0.02 < few


def test_a_huffman_tree_is_made_from_the_texts_counts(tiny):
    model = build_model(config("huffman"), CLASSES, counts=tiny.class_counts)
    expected = heads.trees.huffman(tiny.class_counts).parents
    assert torch.equal(model.head.tree.parents, expected)


class TestLazyAdam:
    """Adam on dense gradients, and its rows alone on row-sparse ones."""

    def pair(self, rows):
        torch.manual_seed(0)
        lazy, plain = (torch.nn.Parameter(torch.ones(6, 3)) for _ in range(2))
        ours, theirs = LazyAdam([lazy], lr=0.1), torch.optim.Adam([plain], lr=0.1)
        for _ in range(3):
            values = torch.randn(len(rows), 3)
            lazy.grad = torch.sparse_coo_tensor(torch.tensor([rows]), values, (6, 3))
            plain.grad = lazy.grad.to_dense()
            ours.step()
            theirs.step()
            assert lazy.grad.is_sparse
        return lazy.detach(), plain.detach()

    def test_where_all_rows_have_a_gradient_it_is_adam(self):
        torch.testing.assert_close(*self.pair([0, 1, 2, 3, 4, 5]))

    def test_rows_given_twice_are_added_up(self):
        torch.testing.assert_close(*self.pair([0, 1, 2, 3, 4, 5, 5]))

    def test_other_rows_stay_as_they_are(self):
        lazy, plain = self.pair([1, 4])
        assert torch.equal(lazy[[0, 2, 3, 5]], torch.ones(4, 3))
        torch.testing.assert_close(lazy[[1, 4]], plain[[1, 4]])

    def test_dense_gradients_are_adams(self):
        first, second = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
        first.grad, second.grad = torch.eye(2), torch.eye(2)
        LazyAdam([first], lr=0.1).step()
        torch.optim.Adam([second], lr=0.1).step()
        assert torch.equal(first, second)

    def test_it_has_no_weight_decay(self):
        with pytest.raises(ValueError, match="weight_decay would walk all rows"):
            replace(config("softmax"), weight_decay=0.1)


def test_perplexity_is_at_most_that_of_guessing_before_training(tiny):
    torch.manual_seed(0)
    loss, _ = evaluate(build_model(config("softmax"), CLASSES), tiny.test, CLASSES)
    assert math.exp(loss) == pytest.approx(CLASSES, rel=0.1)
