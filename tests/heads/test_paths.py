"""Every back end's walk along tree paths is the one that float64 and autograd make.

Triton's kernels run in its interpreter where there is no GPU, in a process of their own, as it is
chosen by an environment variable before Triton is first imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import heads
from heads.extras import optional
from heads.heap import heap_path
from heads.kernels import path_log_prob
from heads.tree_softmax import TreeSoftmax
from heads.tree_tables import softmax_over_children
from heads.trees import Tree, balanced, huffman
from heads.walk import BackEnd, Gradient, Heap, Table

ROOT = Path(heads.__file__).parents[1]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"
CUDA = DEVICE == "cuda"
SAMPLES = 4 if INTERPRETED else 7
"""The interpreter takes milliseconds for each of a sample's steps."""

NAMES = ["torch"]
if not INTERPRETED:
    NAMES += ["numba"] * (optional("heads.paths_numba") is not None)
if INTERPRETED or CUDA:
    NAMES += ["triton"]

back_ends = pytest.mark.parametrize("name", NAMES)


def back_end(name: str) -> tuple[BackEnd, str]:
    """The module, and the device that its tensors live on."""
    module: BackEnd = import_module(f"heads.paths_{name}")  # type: ignore[assignment]
    return module, "cpu" if name == "numba" else DEVICE


class Case(NamedTuple):
    """A weight, its paths for some targets, and the same in plain autograd."""

    rows: int
    classes: int
    tree: Tree | None
    pieces: int


def caterpillar(classes: int) -> Tree:
    """The deepest tree there is: each inner node has a class and all that follows."""
    inner = torch.arange(classes, 2 * classes - 1)
    parents = torch.cat((inner, inner[-1:], torch.tensor([-1]), inner[:-1]))
    return Tree(parents, classes)


def skewed(classes: int) -> Tree:
    return huffman(1 / torch.arange(1, classes + 1))


CASES = {
    "heap-2": Case(1, 2, None, 1),
    "heap-3": Case(2, 3, None, 1),
    "heap-100": Case(99, 100, None, 1),
    "heap-128": Case(127, 128, None, 1),
    "heap-700": Case(699, 700, None, 1),
    "huffman-2": Case(0, 2, skewed(2), 1),
    "huffman-24": Case(0, 24, skewed(24), 1),
    "caterpillar-9": Case(0, 9, caterpillar(9), 1),
    "wide-30": Case(0, 30, balanced(30, 6), 1),
    "flat-20": Case(0, 20, balanced(20, 20), 1),
    "pieces-30": Case(0, 30, balanced(30, 3), 4),
    "pieces-huffman-25": Case(0, 25, huffman(1 / torch.arange(1, 26), 3), 2),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


class Batch(NamedTuple):
    input: Tensor
    weight: Tensor
    bias: Tensor
    paths: Heap | Table
    grad: Tensor
    output: Tensor
    jacobian: Tensor
    grad_weight: Tensor
    grad_bias: Tensor


def batch(
    case: Case, device: str, size: int = SAMPLES, width: int = 6, target: Tensor | None = None
) -> Batch:
    """In float32; what follows from it, in float64 by autograd."""
    torch.manual_seed(0)
    if target is None:
        target = torch.randint(case.classes, (size,))
        if size > 2:
            target[1] = target[0]  # one class twice
    paths: Heap | Table
    rows = case.rows
    if case.tree is None:
        paths = Heap(target, case.classes)
    else:
        head = TreeSoftmax(width, case.classes, case.tree, case.pieces)
        paths = Table(target, head.path_nodes, head.path_slots, head.child_rows)
        rows = head.rows.out_features
    features, weight, bias = torch.randn(size, width), torch.randn(rows, width), torch.randn(rows)
    grad = torch.randn(size)
    x, w, b = (t.double().requires_grad_() for t in (features, weight, bias))
    scores = F.linear(x, w, b)
    if isinstance(paths, Heap):
        path = heap_path(target, case.classes)
        output = path_log_prob(scores.gather(1, path.rows), path.signs, path.offsets)
    else:
        table = paths.rows[paths.nodes[target]]
        chosen = scores.gather(1, table.clamp(min=0).flatten(1)).view(table.shape)
        _, decisions = softmax_over_children(chosen, table)
        taken = paths.slots[target].unsqueeze(2)
        output = decisions.gather(2, taken).sum(dim=(1, 2))
    (jacobian,) = torch.autograd.grad(output.sum(), x, retain_graph=True)
    gradients = torch.autograd.grad(output @ grad.double(), [w, b])
    moved = type(paths)(*(p.to(device) if isinstance(p, Tensor) else p for p in paths))
    return Batch(
        *(t.to(device) for t in (features, weight, bias)), moved, grad.to(device),
        output.detach(), jacobian, *gradients,
    )  # fmt: skip


def close(ours: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours.double().cpu(), expected, rtol=tolerance, atol=tolerance * 10)


@cases
@back_ends
@pytest.mark.parametrize("size", [1, SAMPLES])
def test_a_walk_is_that_of_float64(name: str, case: Case, size: int) -> None:
    module, device = back_end(name)
    given = batch(case, device, size)
    walk = module.walk(given.input, given.weight, given.bias, given.paths, True)
    close(walk.output, given.output)
    close(walk.jacobian, given.jacobian)
    found = walk.sums(Gradient(given.grad))
    rows = found.rows.cpu()
    if found.distinct:
        assert (rows.diff() > 0).all()
    close(
        torch.zeros(given.grad_weight.shape).index_add_(0, rows, found.weight.cpu()),
        given.grad_weight,
    )
    close(torch.zeros(given.grad_bias.shape).index_add_(0, rows, found.bias.cpu()), given.grad_bias)
    touched = given.grad_bias.nonzero().flatten().tolist()
    assert set(rows.tolist()) == set(touched)
    weight, bias = given.weight.clone(), given.bias.clone()
    walk.add(Gradient(given.grad), -0.5, weight, bias)
    close(weight, given.weight.double().cpu() - 0.5 * given.grad_weight)
    close(bias, given.bias.double().cpu() - 0.5 * given.grad_bias)


@cases
@back_ends
def test_nothing_is_a_batch_too(name: str, case: Case) -> None:
    module, device = back_end(name)
    given = batch(case, device, 0)
    walk = module.walk(given.input, given.weight, given.bias, given.paths, True)
    assert walk.output.shape == (0,)
    assert walk.jacobian.shape == given.input.shape
    found = walk.sums(Gradient(given.grad))
    assert not found.weight.any()
    weight = given.weight.clone()
    walk.add(Gradient(given.grad), 1.0, weight, given.bias.clone())
    assert torch.equal(weight, given.weight)


@back_ends
@pytest.mark.parametrize("width", [1, 33, 200])
def test_any_width_will_do(name: str, width: int) -> None:
    module, device = back_end(name)
    for case in (CASES["heap-100"], CASES["pieces-30"]):
        given = batch(case, device, width=width)
        walk = module.walk(given.input, given.weight, given.bias, given.paths, True)
        close(walk.output, given.output)
        close(walk.jacobian, given.jacobian)
        weight, bias = torch.zeros_like(given.weight), torch.zeros_like(given.bias)
        walk.add(Gradient(given.grad), 1.0, weight, bias)
        close(weight, given.grad_weight)


@back_ends
def test_many_samples_of_one_class_sum_up(name: str) -> None:
    """As under skewed labels: every row of the path has all samples, one more than a tile holds."""
    module, device = back_end(name)
    for case in (CASES["heap-700"], CASES["huffman-24"]):
        given = batch(case, device, 17)
        target = torch.full((17,), case.classes - 1, device=device)
        paths = given.paths._replace(**{given.paths._fields[0]: target})
        walk = module.walk(given.input, given.weight, given.bias, paths, True)
        weight, bias = torch.zeros_like(given.weight), torch.zeros_like(given.bias)
        walk.add(Gradient(given.grad), 1.0, weight, bias)
        found = walk.sums(Gradient(given.grad))
        sums = torch.zeros_like(weight).index_add_(0, found.rows, found.weight)
        close(weight, sums.double().cpu())
        # Of one class, all slopes are functions of the input alone: autograd of the head agrees.
        one = given.input.double().cpu().requires_grad_()
        w = given.weight.double().cpu().requires_grad_()
        b = given.bias.double().cpu()
        reference = import_module("heads.paths").path_loss(
            one, w, b, type(paths)(*(p.cpu() if isinstance(p, Tensor) else p for p in paths)), False
        )[0]
        (expected,) = torch.autograd.grad(reference @ given.grad.double().cpu(), w)
        close(weight, expected)


@pytest.mark.skipif("triton" not in NAMES, reason="of Triton's kernels")
@pytest.mark.parametrize("ranked", [8192, 8], ids=["few", "many"])
def test_near_the_root_triton_sums_up_crowds(ranked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many samples that rows near the root have a place of their own."""
    kernels = import_module("heads.heap_triton")
    monkeypatch.setattr(kernels, "MOST_RANKED", ranked)
    monkeypatch.setattr(kernels, "CROWD", 1)
    monkeypatch.setattr(kernels, "SHARED", 8)
    target = torch.randint(700, (70,))
    target[:66] //= 3  # hardly anyone on the right
    given = batch(CASES["heap-700"], DEVICE, 70, 20, target)
    walk = back_end("triton")[0].walk(given.input, given.weight, given.bias, given.paths, True)
    grad_input = torch.empty_like(given.input)
    found = walk.sums(Gradient(given.grad, 0.5), grad_input)
    close(grad_input, 0.5 * given.grad.double().cpu().unsqueeze(1) * given.jacobian)
    rows = found.rows.cpu()
    assert set(rows.tolist()) == set(given.grad_bias.nonzero().flatten().tolist())
    sums, offsets = torch.zeros(given.grad_weight.shape), torch.zeros(given.grad_bias.shape)
    close(sums.index_add_(0, rows, found.weight.cpu()), 0.5 * given.grad_weight)
    close(offsets.index_add_(0, rows, found.bias.cpu()), 0.5 * given.grad_bias)
    weight, bias = given.weight.clone(), given.bias.clone()
    walk.add(Gradient(given.grad, 0.5), -0.5, weight, bias, grad_input.zero_())
    close(weight, given.weight.double().cpu() - 0.25 * given.grad_weight)
    close(bias, given.bias.double().cpu() - 0.25 * given.grad_bias)
    close(grad_input, 0.5 * given.grad.double().cpu().unsqueeze(1) * given.jacobian)


@back_ends
def test_one_number_for_all_is_as_good_as_many(name: str) -> None:
    """As the mean's gradient comes: expanded, and with the factor beside it."""
    module, device = back_end(name)
    for case in (CASES["heap-700"], CASES["heap-100"], CASES["huffman-24"]):
        given = batch(case, device)
        walk = module.walk(given.input, given.weight, given.bias, given.paths, True)
        torch.testing.assert_close(walk.loss, -walk.output.mean())
        one = Gradient(torch.full((), 0.7, device=device).expand(SAMPLES), -0.2)
        many = Gradient(torch.full((SAMPLES,), 0.7 * -0.2, device=device))
        inputs = torch.empty(2, *given.input.shape, device=device)
        for ours, expected in zip(
            walk.sums(one, inputs[0])[:3], walk.sums(many, inputs[1])[:3], strict=True
        ):
            torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(*inputs)
        moved = []
        for grad, grad_input in zip((one, many), inputs.zero_(), strict=True):
            weight, bias = given.weight.clone(), given.bias.clone()
            walk.add(grad, 0.3, weight, bias, grad_input)
            moved.append((weight, bias))
        torch.testing.assert_close(*moved)
        torch.testing.assert_close(*inputs)
        close(inputs[0], -0.14 * given.jacobian)


@pytest.fixture
def assertions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of kernels, which the interpreter leaves out though a launch asks for them."""
    if INTERPRETED:
        interpreter = import_module("triton.runtime.interpreter")
        options = interpreter.InterpreterOptions(debug=True, sanitize_overflow=False)
        monkeypatch.setattr(interpreter.interpreter_builder, "options", options)


@pytest.mark.skipif(CUDA, reason="a failed assertion of the device ends its process")
@pytest.mark.usefixtures("assertions")
@back_ends
@pytest.mark.parametrize("case", ["heap-100", "heap-700", "huffman-24"])
def test_no_row_moves_with_a_multiplied_gradient(name: str, case: str) -> None:
    module, device = back_end(name)
    given = batch(CASES[case], device)
    walk = module.walk(given.input, given.weight, given.bias, given.paths, True)
    weight, bias = given.weight.clone(), given.bias.clone()
    grad = Gradient(torch.full((), 2.0, device=device).expand(SAMPLES), -0.1, 1.5)
    with pytest.raises(RuntimeError if name != "triton" else Exception, match="multiplied"):
        walk.add(grad, 1.0, weight, bias)
    assert torch.equal(weight, given.weight)
    walk.add(grad._replace(most=2.0), 1.0, weight, bias)
    assert not torch.equal(weight, given.weight)


@pytest.mark.usefixtures("assertions")
@back_ends
@pytest.mark.parametrize("case", ["heap-100", "heap-700"])
def test_a_gradient_that_is_no_number_is_no_assertions_business(name: str, case: str) -> None:
    module, device = back_end(name)
    given = batch(CASES[case], device)
    walk = module.walk(given.input, given.weight, given.bias, given.paths, True)
    values = torch.full((SAMPLES,), torch.nan, device=device)
    found = walk.sums(Gradient(values))
    assert found.bias[found.rows == 0].isnan().any()  # all samples pass the root
    walk.add(Gradient(values, -0.1, 1.5), 1.0, given.weight, given.bias)
    assert given.weight[0].isnan().all()


@pytest.mark.skipif("triton" not in NAMES or CUDA, reason="as above")
@pytest.mark.usefixtures("assertions")
@pytest.mark.parametrize("leaf", [-1, 100])
def test_tritons_walk_refuses_a_leaf_that_is_none(leaf: int) -> None:
    given = batch(CASES["heap-100"], DEVICE)
    paths = Heap(torch.tensor([0, leaf, 1, 2]), 100)
    with pytest.raises(Exception, match="target"):
        back_end("triton")[0].walk(given.input, given.weight, given.bias, paths, True)


@pytest.mark.skipif("numba" not in NAMES, reason="needs the optional extra 'fast'")
@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("fresh", [False, True])
def test_blocks_share_out_the_update_without_loss_or_repetition(blocks: int, fresh: bool) -> None:
    """However many blocks there are, each row moves by what its samples sum up to."""
    add_runs = import_module("heads.paths_numba")._add_runs
    generator = np.random.default_rng(0)
    lengths = np.array([40, 1, 7, 2, 1, 1, 9])  # one run is most of the work
    starts = np.concatenate(([0], lengths.cumsum()))
    rows = np.array([1, 2, 5, 6, 8, 11, 12])
    x = generator.standard_normal((23, 5)).astype(np.float32)
    samples = generator.integers(23, size=lengths.sum())
    changes = generator.standard_normal(lengths.sum()).astype(np.float32)
    weight = generator.standard_normal((7 if fresh else 13, 5)).astype(np.float32)
    bias = generator.standard_normal(len(weight)).astype(np.float32)
    old = np.zeros_like(weight) if fresh else weight.astype(float)
    old_bias = np.zeros_like(bias) if fresh else bias.astype(float)
    into = np.repeat(np.arange(7) if fresh else rows, lengths)
    expected, expected_bias = old.astype(float), old_bias.astype(float)
    np.add.at(expected, into, changes[:, None].astype(float) * x[samples])
    np.add.at(expected_bias, into, changes.astype(float))
    add_runs(x, samples, changes, starts, rows, weight, bias, fresh, blocks)
    np.testing.assert_allclose(weight, expected, atol=1e-5)
    np.testing.assert_allclose(bias, expected_bias, atol=1e-5)


@pytest.mark.skipif(INTERPRETED or CUDA, reason="here they run themselves")
@pytest.mark.skipif(
    find_spec("triton") is None or find_spec("heads.paths_triton") is None, reason="needs Triton"
)
def test_tritons_kernels_in_its_interpreter() -> None:
    """All tests of this file, again, and those of the other kernels."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
         "-k", "triton and not interpreter", __file__,
         str(Path(__file__).with_name("test_softmax_kernels.py")),
         str(Path(__file__).with_name("test_search_kernels.py"))],
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
