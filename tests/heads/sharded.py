"""What each of several processes checks of sharded heads.

    python -m tests.heads.sharded DIR RANKS [cuda]

The reference is the head in one process, in float64.
"""

from __future__ import annotations

import copy
import os
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

import heads
from heads import gumbel, softmax_torch
from heads.sharding import LostRankError

D, N = 6, 12
SIZES = (5, 301)  # of 4 ranks, the last has none of 5
CALLS = (
    ("softmax", {}),
    ("softmax-chunked", {}),
    ("gumbel", {}),
    ("gumbel", {"tau": 0.5, "draws": 2}),
    ("sampled", {"num_sampled": 8}),
    ("hierarchical", {}),
    ("hierarchical", {"tree": "reversed"}),
)
NOISE = torch.Tensor()
DEVICE = "cuda" if "cuda" in sys.argv else "cpu"


def built(name, size, options):
    torch.manual_seed(size)
    if options.get("tree") == "reversed":
        options = {"tree": list(reversed(range(size)))}
    head = heads.build(name, D, size, **options).double().to(DEVICE)
    for parameter in head.parameters():
        parameter.data.mul_(3)
    return head


def batch(size, step=0):
    generator = torch.Generator().manual_seed(step)
    features = torch.randn(N, D, generator=generator, dtype=torch.float64)
    return features.to(DEVICE), torch.randint(size, (N,), generator=generator).to(DEVICE)


def perturbed(start):
    """The torch back end's noise, of which a rank has the columns from `start` on."""

    def with_noise(logits, first, noise):
        if noise is None:
            return logits
        columns = slice(start + first, start + first + logits.size(1))
        return (logits + NOISE[: len(logits), columns]) / noise.tau

    return with_noise


@contextmanager
def known_noise(size, part):
    """All noise, in one process as in several, from one table."""
    global NOISE
    drawn = torch.empty(4 * N, size).exponential_(generator=torch.Generator().manual_seed(1))
    NOISE = -drawn.log().to(DEVICE)
    kept = gumbel.gumbel_noise, softmax_torch.perturbed
    gumbel.gumbel_noise = lambda like: NOISE[: len(like), : like.size(1)]
    softmax_torch.perturbed = perturbed(part.start)
    try:
        yield
    finally:
        gumbel.gumbel_noise, softmax_torch.perturbed = kept


def stepped(head, optimizer, features, target, seed):
    torch.manual_seed(seed)
    features = features.clone().requires_grad_()
    optimizer.zero_grad()
    output, loss = head(features, target)
    loss.backward()
    optimizer.step()
    return output.detach(), loss.detach(), features.grad


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.5),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
}


def dense_copy(head):
    """A plain head's gradients made dense, for optimizers that want them so."""
    for parameter in head.parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda p: setattr(p, "grad", p.grad.to_dense() if p.grad.is_sparse else p.grad)
        )
    return head


def trains_as_one(name, options, size, optimizer, mesh):
    plain, rank = built(name, size, options), mesh.get_local_rank()
    sharded = heads.shard(plain, mesh, dense=optimizer != "sgd")
    plain = dense_copy(copy.deepcopy(plain)) if optimizer != "sgd" else copy.deepcopy(plain)
    ours, theirs = (OPTIMIZERS[optimizer](head.parameters()) for head in (sharded, plain))
    with known_noise(size, sharded.part):
        for step in range(2):
            given = batch(size, step)
            # Of what is drawn, that of the first rank counts.
            mine = stepped(sharded, ours, *given, step + 100 * rank)
            expected = stepped(plain, theirs, *given, step)
            for one, other in zip(mine, expected, strict=True):
                torch.testing.assert_close(one, other)
    for one, other in zip(sharded.whole().parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    return sharded, plain


def answers_as_one(sharded, plain, size):
    features, target = batch(size)
    for head in (sharded, plain):
        head.eval()
    torch.testing.assert_close(sharded.log_prob(features), plain.log_prob(features))
    torch.testing.assert_close(sharded.predict(features), plain.predict(features))
    for k in {1, min(4, size), size}:
        values, classes = sharded.topk(features, k)
        expected, which = plain.topk(features, k)
        torch.testing.assert_close(values, expected)
        torch.testing.assert_close(classes, which)
    with torch.no_grad():
        torch.testing.assert_close(sharded(features, target), plain(features, target))


def communicates_as_counted(name, options, size, split_batch, mesh):
    sharded = heads.shard(built(name, size, options), mesh, split_batch=split_batch)
    told = []

    @contextmanager
    def observer(_, size):
        told.append(size)
        yield

    sharded.ranks.observer = observer
    features, target = batch(size)
    loss = sharded(features.requires_grad_(), target).loss
    seen = {"forward": list(told)}
    told.clear()
    loss.backward()
    seen["backward"] = list(told)
    told.clear()
    sharded.eval().predict(features)
    seen["predict"] = list(told)
    for phase, sizes in seen.items():
        sharded.train(phase != "predict")
        counted = sharded.communication(phase, N)
        assert counted == (len(sizes), sum(sizes)), (name, phase, counted, sizes)


def trains_under_ddp(name, options, size, mesh):
    """Layers below under DistributedDataParallel, each rank with samples of its own."""
    rank, ranks = mesh.get_local_rank(), mesh.size()
    torch.manual_seed(0)
    body = torch.nn.Linear(4, D, dtype=torch.float64).to(DEVICE)
    alone, plain = copy.deepcopy(body), built(name, size, options).eval()
    sharded = heads.shard(plain, mesh, split_batch=True).eval()
    plain, body = copy.deepcopy(plain), DistributedDataParallel(body)
    images = torch.randn(N, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    images = images.to(DEVICE)
    _, target = batch(size)
    own = slice(rank * N // ranks, (rank + 1) * N // ranks)
    # Parameters of two kinds cannot be updated in one go.
    ours = torch.optim.SGD([*body.parameters(), *sharded.parameters()], lr=0.5, foreach=False)
    theirs = torch.optim.SGD([*alone.parameters(), *plain.parameters()], lr=0.5)
    for _ in range(2):
        ours.zero_grad()
        theirs.zero_grad()
        mine = sharded(body(images[own]), target[own])
        expected = plain(alone(images), target)
        torch.testing.assert_close(mine.output, expected.output[own])
        mine.loss.backward()
        expected.loss.backward()
        ours.step()
        theirs.step()
    for one, other in zip(body.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(sharded.whole().parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def is_refused(mesh):
    wrapped = heads.shard(built("softmax", 37, {}), mesh)
    active = DistributedDataParallel._active_ddp_module
    DistributedDataParallel._active_ddp_module = wrapped
    try:
        with pytest.raises(RuntimeError, match="split_batch=True"):
            wrapped(*batch(37))
    finally:
        DistributedDataParallel._active_ddp_module = active
    for call, options in (("adaptive", {}), ("gumbel", {"hard": True})):
        with pytest.raises(ValueError, match="sharded"):
            heads.shard(heads.build(call, D, 300, **options), mesh)


def draws_its_own(mesh):
    """From the meta device: no rank's rows are another's, and all are as `nn.Linear` draws them."""
    for name in ("softmax", "hierarchical"):
        with torch.device("meta"):
            head = heads.build(name, D, 300)
        torch.manual_seed(0)
        sharded = heads.shard(head, mesh)
        weight = next(sharded.whole().parameters())
        assert len(weight.unique()) > 0.99 * weight.numel()
        assert 0.35 < weight.abs().max() <= D**-0.5


def noise_differs(mesh):
    """Ranks whose generators agree draw different noise: the sampled classes are the softmax's."""
    head = heads.shard(heads.build("gumbel", 1, 8).to(DEVICE), mesh)
    for parameter in head.parameters():
        parameter.data.zero_()
    torch.manual_seed(0)
    target = torch.arange(8, device=DEVICE).repeat(2000)
    nothing = torch.zeros(len(target), 1, device=DEVICE)
    with torch.no_grad():
        probability = head(nothing, target).output.exp().view(2000, 8)
    # exp(g) of Gumbel noise is one over an exponential: equal shares, and independent, so that in
    # each row no share fixes another.
    correlation = torch.corrcoef(probability.log().T)
    off = correlation[~torch.eye(8, dtype=torch.bool, device=DEVICE)]
    assert off.abs().max() < 0.35, off


def optimized(name, mesh):
    sharded = heads.shard(built(name, 37, {}), mesh, dense=True)
    optimizer = OPTIMIZERS["adamw"](sharded.parameters())
    return sharded, optimizer


def state_of(sharded, optimizer):
    model, state = get_state_dict(sharded, optimizer)
    return {"model": model, "optimizer": state}


def saves(folder, mesh):
    for name in ("softmax", "hierarchical"):
        sharded, optimizer = optimized(name, mesh)
        for step in range(2):
            stepped(sharded, optimizer, *batch(37, step), step)
        dcp.save(state_of(sharded, optimizer), checkpoint_id=folder / name)


def loads(folder, mesh):
    """Goes on as one process that was never interrupted."""
    for name in ("softmax", "hierarchical"):
        sharded, optimizer = optimized(name, mesh)
        for parameter in sharded.parameters():
            parameter.data.zero_()
        stepped(sharded, optimizer, *batch(37, 9), 9)  # there is a state to load into
        state = state_of(sharded, optimizer)
        dcp.load(state, checkpoint_id=folder / name)
        set_state_dict(
            sharded, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
        )
        plain = dense_copy(built(name, 37, {}))
        theirs = OPTIMIZERS["adamw"](plain.parameters())
        for step in range(3):
            stepped(plain, theirs, *batch(37, step), step)
        stepped(sharded, optimizer, *batch(37, 2), 2)
        for one, other in zip(sharded.whole().parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other)


def notices_a_death(mesh):
    """Of a rank that ends without a word, the others learn in one line."""
    sharded = heads.shard(built("softmax", 37, {}), mesh)
    features, target = batch(37)
    sharded(features, target)
    if mesh.get_local_rank() == mesh.size() - 1:
        sys.stdout.flush()
        os._exit(0)
    with pytest.raises(LostRankError, match="another rank is gone") as error:
        sharded(features, target)
    assert "\n" not in str(error.value)


def check(folder, rank, ranks):
    torch.set_num_threads(
        1
    )  # a fork has lost its parent's threads: before any that autograd starts
    if DEVICE == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if DEVICE == "cuda" else "gloo",
        init_method=f"file://{folder}/store{ranks}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=60),
    )
    mesh = init_device_mesh(DEVICE, (ranks,))
    softmax_torch.ELEMENTS = 64  # several slices
    for name, options in CALLS:
        for size in SIZES:
            for optimizer in OPTIMIZERS:
                sharded, plain = trains_as_one(name, options, size, optimizer, mesh)
            answers_as_one(sharded, plain, size)
        for split_batch in (False, True):
            communicates_as_counted(name, options, 300, split_batch, mesh)
        trains_under_ddp(name, options, 37, mesh)
    is_refused(mesh)
    draws_its_own(mesh)
    noise_differs(mesh)
    if ranks == 2:
        saves(folder, mesh)
    if ranks == 3:
        loads(folder, mesh)
    if ranks > 1 and DEVICE == "cpu":  # NCCL waits for as long as it was told to
        notices_a_death(mesh)


def main():
    folder, ranks = Path(sys.argv[1]), int(sys.argv[2])
    children = []
    for rank in range(ranks):
        child = os.fork()  # torch is imported once for all
        if not child:
            try:
                check(folder, rank, ranks)
            except BaseException as error:  # whoever waits for this rank must not wait for long
                import traceback

                traceback.print_exc()
                print(f"rank {rank}: {error!r}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert not any(statuses), statuses
    print("fine")


if __name__ == "__main__":
    main()
