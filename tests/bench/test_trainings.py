"""Trainings of a run: the same whether one by one or at once, in this process or in others."""

import json
import multiprocessing
import os
import signal
from contextlib import closing
from functools import partial

import pytest
import torch

from bench.train import pool
from bench.train.pool import CrashedError
from bench.train.trainings import Assignment, Follower, Progress, Trainings, carry_out, name_of
from models import variants
from models.data import stand_in
from models.training import CheckpointError
from reports.results import RunFolder
from tests.warm import TRAINING

TINY = {"epochs": 2, "threads": 1}


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """Processes come from one that has imported torch; test_pool.py has those that start anew."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(TRAINING))
    monkeypatch.setattr(pool, "_CONTEXT", context)


def configs():
    return [variants.config(name, **TINY) for name in ("softmax", "hierarchical", "gumbel-tuned")]


def tiny():
    return stand_in("a test", per_class=2)


def ready():
    return partial(carry_out, dataset=tiny())


def ready_to_be_killed():
    """Dies of the hierarchical softmax."""
    work = ready()

    def carry(training, tell):
        if training.config.head == "hierarchical":
            os.kill(os.getpid(), signal.SIGKILL)
        return work(training, tell)

    return carry


class Lines:
    """A display that remembers."""

    def __init__(self):
        self.said, self.weights = [], []

    def say(self, line, style=""):
        self.said.append(line)

    def running(self, what, weight=0.0):
        self.weights.append(weight)


def train(path, jobs, ready=ready):
    """All records, as they lie on disk, and what was shown."""
    path.mkdir(exist_ok=True)
    opened, display = RunFolder(path), Lines()
    threads = torch.get_num_threads()
    with closing(Trainings(opened, display, configs(), tiny(), jobs, ready, 1.0)) as trainings:
        for config in configs():
            assert trainings.record(config).status == "measured"
    torch.set_num_threads(threads)
    records = [json.loads(opened.training(name_of(c)).read_text()) for c in configs()]
    return records, display


def lasting(record):
    """What of a record does not depend on the clock."""
    epochs = [
        {name: value for name, value in epoch.items() if not name.endswith("_seconds")}
        for epoch in record["epochs"]
    ]
    return record | {"epochs": epochs, "started": None, "seconds": None}


def test_several_at_once_give_the_records_of_one_by_one_bit_for_bit(tmp_path):
    (alone, shown), (together, shown_too) = (train(tmp_path / str(jobs), jobs) for jobs in (1, 2))
    assert list(map(lasting, alone)) == list(map(lasting, together))
    assert len(shown.said) == len(shown_too.said) == TINY["epochs"] * len(configs())
    assert not list(tmp_path.rglob("*.checkpoint"))


def test_a_training_that_crashes_takes_no_other_with_it(tmp_path):
    opened = RunFolder(tmp_path)
    with closing(
        Trainings(opened, Lines(), configs(), tiny(), 2, ready_to_be_killed, 1.0)
    ) as trainings:
        first, second, third = configs()
        with pytest.raises(CrashedError, match="SIGKILL"):
            trainings.record(second)
        assert trainings.record(first).status == trainings.record(third).status == "measured"


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    opened = RunFolder(tmp_path)
    training = Assignment(opened, configs()[0])
    opened.checkpoint(training.name).parent.mkdir()
    opened.checkpoint(training.name).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"^[^\n]*delete it[^\n]*$"):
        carry_out(training, lambda progress: None, dataset=tiny())


def test_settings_and_result_stand_together_in_tensorboard(tmp_path):
    training = Assignment(RunFolder(tmp_path), configs()[0])
    carry_out(training, lambda progress: None, dataset=tiny())
    events = b"".join(p.read_bytes() for p in training.run.traces(training.name).glob("events*"))
    for word in (b"learning_rate", b"final/accuracy", b"loss/train", b"test/accuracy"):
        assert word in events


def test_a_follower_tells_of_steps_now_and_then_only(tmp_path):
    told, now = [], iter(range(1000))
    config = configs()[0]
    follower = Follower(
        Assignment(RunFolder(tmp_path), config), told.append, clock=lambda: next(now) / 10
    )
    with closing(follower):
        for batch in range(1, 11):
            follower.on_batch(1, batch, 10)
    assert told == [
        Progress(5 / 20, "epoch 1, batch 5/10"),
        Progress(10 / 20, "epoch 1, batch 10/10"),
    ]
