"""Items are told apart, and read, by the plain values of what they carry out."""

from dataclasses import replace

import pytest

from bench import items
from bench.cells import SWEEPS, Block, Cell, Visit
from bench.options import Plan
from models import variants

CELL = Cell("isolated", "softmax", "train", classes=100, batch=32, features=128, replica=1)
PLAN = Plan("quick", SWEEPS["quick"], seed=0, device="cpu", threads=1, data="")

RIVALS = tuple(replace(CELL, head=head, replica=0) for head in ("softmax", "gumbel"))

TASKS = [Block(RIVALS, 1), Visit(CELL, 2), CELL, variants.config("softmax", seed=3)]
WORDS = [
    "isolated train classes=100 batch=32 features=128 pass_index=1",
    "isolated softmax train classes=100 batch=32 features=128 replica=1 pass_index=2",
    "softmax",
    "softmax seed=3",
]


@pytest.mark.parametrize(("task", "words"), list(zip(TASKS, WORDS, strict=True)))
def test_a_label_says_what_is_carried_out(task, words):
    assert items.label(task) == words


@pytest.mark.parametrize("task", TASKS)
def test_identities_are_plain_values(task):
    assert {type(value) for value in items.identity(task).values()} <= {int, str}


@pytest.mark.parametrize(
    "change",
    [
        *({"scope": "in-model"}, {"head": "gumbel"}, {"phase": "step"}, {"classes": 7}),
        *({"replica": 0}, {"features": 64}, {"dtype": "bfloat16"}, {"labels": "zipf:1"}),
        *({"options": "tree=huffman"}, {"optimizer": "adam"}),
    ],
)
def test_cells_that_differ_are_told_apart(change):
    one, other = (items.identity(Visit(cell, 0)) for cell in (CELL, replace(CELL, **change)))
    assert one != other


def test_a_larger_cell_stands_for_more_of_the_time_left():
    small, large = (Visit(replace(CELL, classes=n), 0) for n in (100, 10**6))
    assert items.weight(small, PLAN) < items.weight(large, PLAN)
    assert items.weight(Block((small.cell, large.cell), 0), PLAN) > items.weight(large, PLAN)
