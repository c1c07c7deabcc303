"""Heads spread over processes do what one process does: see `tests.heads.sharded`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import heads
from heads.sharding.tree import border, leaf_at
from tests.warm import Warm

ROOT = Path(heads.__file__).parents[1]


@pytest.mark.parametrize("ranks", [(1, 4), (2, 3)])
def test_processes_are_as_one(ranks: tuple[int, ...], tmp_path: Path, warm: Warm) -> None:
    """Of 2 ranks, a checkpoint is left for 3."""
    run(ranks, tmp_path, warm)


@pytest.mark.cuda
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_gpus_are_as_one(ranks: int, tmp_path: Path, warm: Warm) -> None:
    if torch.cuda.device_count() < ranks:
        pytest.skip(f"needs {ranks} GPUs")
    run((ranks,), tmp_path, warm, "cuda")


def run(ranks: tuple[int, ...], folder: Path, warm: Warm, *more: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for each in ranks:
        arguments = "-m", "tests.heads.sharded", str(folder), str(each), *more
        process = warm.start(*arguments, cwd=ROOT, env=environment)
        said, errors = process.communicate()
        assert process.returncode == 0, errors
        assert "fine" in said


@given(leaves=st.integers(2, 3000))
def test_borders_and_leaves_are_those_of_a_walk_from_left_to_right(leaves: int) -> None:
    borders: list[int] = []
    from_left: list[int] = []
    waiting, node = [], 1
    while waiting or node:  # in order
        while 0 < node < leaves:
            waiting.append(node)
            node *= 2
        if node:
            from_left.append(node - leaves)
        if not waiting:
            break
        borders.append(waiting.pop())
        node = 2 * borders[-1] + 1
    nodes = torch.arange(1, leaves)
    assert border(nodes, leaves).argsort().add(1).tolist() == borders
    assert leaf_at(torch.arange(leaves), leaves).tolist() == from_left
