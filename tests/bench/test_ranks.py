"""Cells of several ranks: the first measures, the others make the same calls."""

import os
from pathlib import Path

import heads
from reports.results.loader import load

TINY = (
    *("--sweep", "quick", "--heads", "softmax,hierarchical,adaptive", "--classes", "300"),
    *("--batches", "4", "--model-classes", "100", "--train", "none", "--passes", "1"),
    *("--benchmark-max-time", "0.01", "--ranks", "1,2"),
)

DEATH = """
from bench.measure import team
from bench.measure.sharded import Leader
from reports.results import Cell
timed = Leader(Cell("isolated", "softmax", "train", 64, 4, 8, ranks=2)).prepare("train")
timed.company(1)
timed.call()
for other in team._team._others:
    other.kill()
try:
    timed.company(1)
    timed.call()
except Exception as error:
    print(type(error).__name__, error, sep=": ")
assert team._team is None
"""


def test_a_sweep_over_ranks_has_what_they_took_and_told(headbench):
    status, output, errors = headbench.run(*TINY)
    assert status == 0, output + errors
    run = load(headbench.path)
    times = run.times[run.times["ranks"] == 2]
    wanted = {
        (head, phase) for head in ("softmax", "hierarchical") for phase in ("train", "predict")
    }
    assert set(zip(times["head"], times["phase"], strict=True)) == wanted
    # As many classes in all as one rank has, and as many on each.
    assert set(times["classes"]) == {300, 600}
    told = run.communication
    assert set(zip(told["head"], told["phase"], strict=True)) == wanted
    assert (told["bytes"] == told["counted_bytes"]).all()
    assert (told["collectives"] == told["counted_collectives"]).all()
    memory = run.memory[(run.memory["ranks"] == 2) & (run.memory["head"] == "softmax")]
    of_half = memory[memory["classes"] == 300]["parameter_bytes"]
    assert set(of_half) == {150 * (128 + 1) * 4}
    missing = run.missing[run.missing["ranks"] == 2]
    assert set(missing["reason"]) == {"adaptive cannot be spread over ranks"}


def test_of_a_rank_that_dies_the_first_learns_in_a_line(warm):
    root = Path(heads.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    process = warm.start("-c", DEATH, cwd=root, env=environment)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert said.strip() == "LostRankError: a rank ended: it was killed"
