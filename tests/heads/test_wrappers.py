"""What PyTorch wraps around a head works on it, or is refused, as docs/heads.md says."""

from __future__ import annotations

import copy
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.func import functional_call, grad, vmap

import heads
from tests.warm import Warm

every_head = pytest.mark.parametrize("name", heads.names())
ROW_SPARSE = ["hierarchical", "two-level", "sampled"]

RANKS = """
import os, sys, torch, torch.distributed as dist, heads
from torch.nn.parallel import DistributedDataParallel
torch.set_num_threads(1)
store, other = sys.argv[1], os.fork()  # imports torch for both
rank = int(not other)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
for name in heads.names():
    if name == "hierarchical-padded": continue  # as `hierarchical-dense`
    torch.manual_seed(0)
    head = heads.build(name, 8, 1000).double()
    if name in ("gumbel", "gumbel-normal", "sampled"):
        head.eval()
    alone = heads.build(name, 8, 1000).double().train(head.training)
    alone.load_state_dict(head.state_dict())
    if name == "hierarchical-fused":
        head.float()
    wrapped = DistributedDataParallel(head)
    features, target = torch.randn(12, 8).double(), torch.randint(1000, (12,))
    half = slice(6 * rank, 6 * rank + 6)
    if name == "hierarchical-fused":
        before = head.nodes.weight.clone()
        try:
            wrapped(features[half].float(), target[half]).loss.backward()
        except RuntimeError as error:
            assert "does not go with DistributedDataParallel" in str(error), error
            assert torch.equal(head.nodes.weight, before)
            continue
        raise AssertionError("not refused")
    ours = torch.optim.SGD(wrapped.parameters(), lr=0.5)
    theirs = torch.optim.SGD(alone.parameters(), lr=0.5)
    for _ in range(3):
        ours.zero_grad(); theirs.zero_grad()
        wrapped(features[half], target[half]).loss.backward()
        alone(features, target).loss.backward()
        ours.step(); theirs.step()
    for mine, expected in zip(head.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine, expected)
if "hierarchical" in heads.names():  # in training, too
    torch.manual_seed(0)
    head = DistributedDataParallel(heads.build("sampled", 8, 1000, num_sampled=10))
    head(torch.randn(4, 8), torch.arange(4)).loss.backward()
    assert not head.module.linear.weight.grad.is_sparse
dist.destroy_process_group()
if other:
    assert os.waitpid(other, 0)[1] == 0
    print("fine")
"""


def test_two_processes_train_as_one(tmp_path: Path, warm: Warm) -> None:
    root = Path(heads.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    process = warm.start("-c", RANKS, str(tmp_path / "store"), cwd=root, env=environment)
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "fine" in said


@pytest.mark.parametrize("batch_size", [1, 2000])
@pytest.mark.parametrize("scale", [2.0**16, 2.0**10, 2.0])
def test_a_scaled_loss_is_refused_before_a_row_moves(scale: float, batch_size: int) -> None:
    torch.manual_seed(0)
    head = heads.build("hierarchical-fused", 8, 300)
    before = copy.deepcopy(head.state_dict())
    features, target = torch.randn(batch_size, 8), torch.randint(300, (batch_size,))
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    with pytest.raises(RuntimeError, match="came back multiplied by") as error:
        scaler.scale(head(features, target).loss).backward()
    assert "\n" not in str(error.value)
    torch.testing.assert_close(dict(head.state_dict()), dict(before), rtol=0, atol=0)


def test_weights_of_at_most_one_and_sums_are_steps_of_the_fused_head() -> None:
    torch.manual_seed(0)
    head = heads.build("hierarchical-fused", 8, 300, learning_rate=0.1)
    features, target = torch.randn(9, 8), torch.randint(300, (9,))
    for weigh in (lambda o: 0.3 * o.loss, lambda o: -o.output.sum(), lambda o: -o.output.mean()):
        plain = heads.build("hierarchical", 8, 300)
        plain.load_state_dict(head.state_dict())
        weigh(plain(features, target)).backward()
        torch.optim.SGD(plain.parameters(), lr=0.1).step()
        weigh(head(features, target)).backward()
        for ours, expected in zip(head.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("name", [name for name in heads.names() if "fused" not in name])
def test_a_grad_scaler_changes_nothing_but_the_way_there(name: str) -> None:
    torch.manual_seed(0)
    head = heads.build(name, 8, 300).eval()
    plain = copy.deepcopy(head)
    features, target = torch.randn(9, 8), torch.randint(300, (9,))
    scaler = torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    scaler.scale(head(features, target).loss).backward()
    scaler.step(optimizer)
    plain(features, target).loss.backward()
    torch.optim.SGD(plain.parameters(), lr=0.5).step()
    for ours, expected in zip(head.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)


def row_sparse(name: str) -> heads.Head:
    torch.manual_seed(0)
    head = heads.build(name, 8, 1000).double()
    head(torch.randn(9, 8).double(), torch.randint(1000, (9,))).loss.backward()
    return head


def dense_gradient(head: heads.Head) -> torch.Tensor:
    found = [p.grad.to_dense().flatten() for p in head.parameters() if p.grad is not None]
    return torch.cat(found)


@pytest.mark.parametrize("name", ROW_SPARSE)
def test_sparse_gradients_are_clipped_by_norm(name: str) -> None:
    head = row_sparse(name)
    before = dense_gradient(head)
    try:
        norm = torch.nn.utils.clip_grad_norm_(head.parameters(), 1e-3)
    except NotImplementedError:  # of a sparse gradient, in older releases of torch
        assert torch.equal(dense_gradient(head), before)
        pytest.skip(f"torch {torch.__version__} has no norm of a sparse gradient")
    torch.testing.assert_close(norm, before.norm())
    torch.testing.assert_close(dense_gradient(head), before * 1e-3 / (before.norm() + 1e-6))


@pytest.mark.parametrize("name", ROW_SPARSE)
def test_sparse_gradients_are_clipped_by_value_in_three_lines(name: str) -> None:
    head = row_sparse(name)
    before = dense_gradient(head)
    with pytest.raises(NotImplementedError, match="Sparse"):
        torch.nn.utils.clip_grad_value_(head.parameters(), 1e-6)
    for parameter in head.parameters():
        assert parameter.grad is not None
        gradient = parameter.grad.coalesce()
        values = gradient.values().clamp(-1e-6, 1e-6)
        parameter.grad = torch.sparse_coo_tensor(gradient.indices(), values, gradient.shape)
    assert torch.equal(dense_gradient(head), before.clamp(-1e-6, 1e-6))


@pytest.mark.parametrize("num_classes", [100, 1000])
@pytest.mark.parametrize("name", [name for name in heads.names() if "fused" not in name])
def test_torch_func_takes_gradients_also_of_each_sample(name: str, num_classes: int) -> None:
    torch.manual_seed(0)
    head = heads.build(name, 8, num_classes).double().eval()
    features, target = torch.randn(4, 8).double(), torch.randint(num_classes, (4,))
    parameters = dict(head.named_parameters())

    def loss(
        parameters: dict[str, torch.Tensor], features: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        result: torch.Tensor = functional_call(head, parameters, (features, target)).loss
        return result

    head(features, target).loss.backward()
    expected = {name: p.grad.to_dense() for name, p in parameters.items() if p.grad is not None}
    torch.testing.assert_close(grad(loss)(parameters, features, target), expected)
    if name == "adaptive":  # which samples a cluster has depends on the data
        return
    each = vmap(grad(loss), (None, 0, 0))(parameters, features.unsqueeze(1), target.unsqueeze(1))
    torch.testing.assert_close({name: of_all.mean(0) for name, of_all in each.items()}, expected)


def test_torch_func_is_refused_by_the_head_that_changes_itself() -> None:
    head = heads.build("hierarchical-fused", 8, 300)
    parameters = dict(head.named_parameters())
    batch = (torch.zeros(2, 8), torch.tensor([0, 1]))
    with pytest.raises(RuntimeError, match=r"does not go with torch\.func; use 'hierarchical'"):
        grad(lambda p: functional_call(head, p, batch).loss)(parameters)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["hierarchical", "hierarchical-fused"])
def test_compiled_it_is_the_same_head(name: str) -> None:
    """With inductor; what is row-sparse, or the head's own step, stays so."""
    torch.manual_seed(0)
    head = heads.build(name, 8, 1000)
    plain = copy.deepcopy(head)
    features, target = torch.randn(4, 8), torch.randint(1000, (4,))
    torch.compile(head)(features, target).loss.backward()
    plain(features, target).loss.backward()
    for ours, expected in zip(head.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)
        assert (ours.grad is None) == (expected.grad is None)
        if ours.grad is not None and expected.grad is not None:
            assert ours.grad.is_sparse
            torch.testing.assert_close(ours.grad.to_dense(), expected.grad.to_dense())


@pytest.mark.skipif(find_spec("numba") is None, reason="needs the optional extra 'fast'")
def test_kernels_may_compile_within_what_is_compiled(tmp_path: Path, warm: Warm) -> None:
    """As on a machine's first run, when numba has kept nothing yet.

    Without inductor, to which what is left to it here matters no more than elsewhere.
    """
    code = """
import copy, sys, numba, torch
numba.config.CACHE_DIR = sys.argv[1]
import heads
head = heads.build("hierarchical-fused", 8, 1000)
plain = copy.deepcopy(head)
batch = torch.randn(4, 8), torch.randint(1000, (4,))
torch.compile(lambda *batch: head(*batch).loss.backward(), backend="aot_eager")(*batch)
plain(*batch).loss.backward()
torch.testing.assert_close(dict(head.state_dict()), dict(plain.state_dict()))
"""
    root = Path(heads.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = warm.start("-c", code, str(tmp_path), cwd=root, env=environment)
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    assert list(tmp_path.rglob("*.nbi"))  # so it was compiled here
