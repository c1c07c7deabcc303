"""A call is made in the mode that was asked for, or is skipped with a line that says why not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit, TorchDynamoException

from bench import blocks, items
from bench.cells import Block, few, grid
from bench.measure import capture, modes, workload
from bench.measure.modes import ModeError, settle, why_not
from bench.measure.subject import Subjects
from bench.measure.workload import Workload
from reports.results import MODES, PHASES, WHOLE, Cell
from tests.bench.test_blocks import Watch, lines, session
from tests.bench.test_cells import AROUND, SWEEP, make

__all__ = ["session"]

CELL = Cell("isolated", "softmax", "train", classes=50, batch=4, features=16)
COMPILED = replace(CELL, mode="compile")


# The grid


def test_other_modes_are_measured_of_whole_calls_at_few_sizes():
    cells = grid(replace(AROUND, modes=("eager", "compile")), make)
    eager = [one for one in cells if one.mode == "eager"]
    assert set(eager) == set(grid(AROUND, make))
    compiled = [one for one in cells if one.mode == "compile"]
    assert {one.phase for one in compiled} == set(WHOLE)
    assert {one.classes for one in compiled} == set(few(AROUND.classes))
    assert {(one.scope, one.batch, one.replica) for one in compiled} == {("isolated", 128, 0)}


def test_with_product_a_model_s_step_is_made_in_every_mode_and_a_part_of_one_in_eager_alone():
    cells = grid(replace(SWEEP, modes=("eager", "graph"), product=True), make)
    in_model = [one for one in cells if one.scope == "in-model"]
    assert {one.mode for one in in_model} == {"eager", "graph"}
    assert {(one.phase, one.mode) for one in cells} == {
        *((phase, "eager") for phase in PHASES),
        *((phase, "graph") for phase in WHOLE),
    }


def test_a_sweep_in_another_mode_alone_has_whole_calls_and_an_a_a_pair():
    cells = grid(replace(SWEEP, modes=("graph",)), make)
    assert {one.mode for one in cells} == {"graph"}
    assert {one.phase for one in cells} == set(WHOLE)
    assert {one.phase for one in cells if one.replica} == set(WHOLE)


def test_the_mode_is_said_where_it_is_not_eager():
    assert "compile" in items.label(Block((COMPILED,), 0)).split()
    assert "eager" not in items.label(Block((CELL,), 0)).split()


def test_compiling_is_planned_for():
    plan = SimpleNamespace(training_weight=0.0)
    eager, compiled = (items.weight(Block((one,), 0), plan) for one in (CELL, COMPILED))
    assert compiled == eager + items.COMPILE_SECONDS


# Why not


def test_a_cpu_has_no_graphs_to_capture():
    assert why_not("graph", "cpu") == "graph needs CUDA: a CPU has no graphs to capture"
    assert why_not("graph", "cuda:1") == why_not("compile", "cpu") == why_not("eager", "cpu") == ""


@pytest.mark.parametrize("mode", ["graph", "compile"])
def test_a_library_that_trains_by_itself_has_one_mode(mode):
    theirs = replace(CELL, head="fasttext", device="cuda", mode=mode)
    assert "fasttext trains by itself" in workload.why_not(theirs)


def test_a_cell_without_its_mode_is_skipped_in_a_line_and_its_rivals_go_on(session):
    graph = replace(CELL, mode="graph")
    with pytest.raises(pytest.skip.Exception, match="graph needs CUDA"):
        blocks.measure(session, Watch(), Block((graph, replace(graph, head="gumbel")), 0))
    found = lines(session)
    assert {(one.status, one.reason) for one in found.values()} == {
        ("skipped", "graph needs CUDA: a CPU has no graphs to capture")
    }


def test_what_cannot_be_compiled_is_skipped_and_its_rivals_go_on(session, monkeypatch):
    rival = replace(COMPILED, head="gumbel")

    def compiled(module):
        if "Gumbel" in type(module).__name__:
            return lambda *_: refuse()
        return module

    def refuse():
        raise TorchDynamoException("a loop of numba's\nand a traceback of many lines")

    monkeypatch.setattr(modes, "compiled", compiled)
    blocks.measure(session, Watch(), Block((COMPILED, rival), 0))
    found = lines(session)
    assert found[rival].status == "skipped"
    assert found[rival].reason == "cannot be compiled: a loop of numba's"
    assert found[COMPILED].status == "measured"
    assert found[COMPILED].figures.graph_breaks == 0


def failed(inner):
    return BackendCompilerFailed(lambda: None, inner, None)


def raising(error):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        failed(torch.OutOfMemoryError("CUDA out of memory")),
        ValueError("expected a target below 50"),
        RuntimeError("shapes do not match"),
    ],
)
def test_what_fails_in_any_mode_or_lacks_memory_is_no_reason_against_compiling(error):
    with pytest.raises(type(error)) as raised:
        settle(raising(error))
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (failed(RuntimeError("no such kernel")), "^cannot be compiled: .*no such kernel"),
        (FailOnRecompileLimitHit("hard failure"), r"^compiled more than \d+ times$"),
    ],
)
def test_the_compiler_s_own_errors_are_reasons_against_compiling(error, said):
    with pytest.raises(ModeError, match=said):
        settle(raising(error))


def test_a_call_that_torch_gives_up_compiling_is_not_timed_as_it_is_written():
    modes.forget()
    sizes = iter(range(modes.MOST_CALLS))
    compiled = torch.compile(lambda text: torch.ones(2) * len(text), backend="eager")
    with pytest.raises(ModeError, match=r"^compiled more than \d+ times$"):
        settle(lambda: compiled("a" * next(sizes)))
    modes.forget()


def test_no_memory_is_no_reason_against_capturing(monkeypatch):
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    with pytest.raises(RuntimeError, match="can't allocate"):
        capture.why_not(raising(error))
    assert capture.why_not(raising(RuntimeError("it waits\nfor long"))) == "it waits"


# Compiling


def test_compiling_is_over_before_the_clock_runs(monkeypatch):
    calls = []
    monkeypatch.setattr(
        modes, "compiled", lambda module: lambda *args: calls.append(1) or module(*args)
    )
    subject = Workload(COMPILED)
    subject.prepare("train")
    before = len(calls)
    assert before > 0
    assert subject.prepare("train").laps == ()


@pytest.mark.parametrize("compiled_at", [(1,), (1, 2, 10), range(1, 1_000)])
def test_calls_are_made_until_nothing_more_is_compiled(compiled_at):
    from torch._dynamo.utils import counters

    made = []

    def call():
        made.append(1)
        if len(made) in compiled_at:
            counters["stats"]["unique_graphs"] += 1
            counters["graph_break"]["a test's"] += 2

    breaks = settle(call)
    last = min(max(compiled_at), modes.MOST_CALLS)
    assert len(made) == min(last + modes.QUIET_CALLS, modes.MOST_CALLS)
    assert breaks == 2 * min(len(compiled_at), modes.MOST_CALLS)


def test_states_share_what_was_compiled_and_its_graph_breaks(monkeypatch):
    counted = iter([3, 0])  # the second state finds the code compiled
    monkeypatch.setattr(modes, "settle", lambda call: next(counted))
    monkeypatch.setattr(workload, "_GRAPH_BREAKS", {})
    subject = Workload(COMPILED)
    for state in ("unsure", "sure"):
        subject.prepare("predict", state)
        assert subject.graph_breaks("predict") == 3
    assert subject.graph_breaks("train") is None


def test_what_was_compiled_is_forgotten_with_the_last_subject(monkeypatch):
    forgotten = []
    monkeypatch.setattr(modes, "forget", lambda: forgotten.append(1))
    subjects = Subjects()
    subjects.of(CELL)
    subjects.forget(all_but=[CELL])
    assert not forgotten
    subjects.forget()
    assert forgotten


def test_a_twin_is_made_acquainted_and_planted_as_written(monkeypatch):
    monkeypatch.setattr(modes, "compiled", lambda module: pytest.fail("compiled"))
    workload.acquaint(replace(COMPILED, head="two-level"))
    predicting = replace(COMPILED, head="adaptive", phase="predict", state="sure")
    eager = Workload(replace(predicting, mode="eager")).planted("sure")
    assert Workload(predicting).planted("sure") is eager


@pytest.mark.parametrize("head", ["softmax", "hierarchical-fused"])
def test_a_compiled_training_step_finds_the_gradients_of_an_eager_one(head):
    if head not in workload.heads.names():
        pytest.skip("needs numba")
    cell = replace(CELL, head=head)
    eager, compiled = Workload(cell), Workload(replace(cell, mode="compile"))
    modes.forget()
    call = compiled.prepare("train").call
    compiled._next_target, eager._next_target = iter(compiled.targets), iter(eager.targets)
    call()
    eager.prepare("train").call()
    assert compiled.graph_breaks("train") is not None
    for ours, theirs in (
        (compiled.input.grad, eager.input.grad),
        *((a.grad, b.grad) for a, b in zip(compiled.parameters, eager.parameters, strict=True)),
    ):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours.to_dense(), theirs.to_dense())


# On a GPU


@pytest.mark.cuda
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("phase", WHOLE)
def test_a_call_in_any_mode_reads_its_next_batch(phase, mode):
    cell = Cell("isolated", "softmax", phase, 4_096, 64, 32, device="cuda", mode=mode)
    subject = Workload(cell)
    call = subject.prepare(phase).call
    if phase == "predict":
        call()
        return
    gradients = []
    for _ in range(2):
        call()
        torch.cuda.synchronize()
        gradients.append(subject.input.grad.clone())
    assert not torch.equal(*gradients)
    eager = Workload(replace(cell, mode="eager"))
    wanted = []
    for target in eager.targets:
        eager._next_target = iter([target])
        eager.train()
        wanted.append(eager.input.grad.clone())
    for found in gradients:
        assert min(float((found - one).abs().max()) for one in wanted) < 1e-6


@pytest.mark.cuda
def test_what_waits_for_the_device_is_not_captured_in_a_line():
    values = torch.ones(10, device="cuda")
    with pytest.raises(ModeError, match=r"^cannot be captured: .*synchroniz.*$"):
        modes.captured(lambda: lambda: (values + 1).sum().item())
