"""Every head on an accelerator answers and trains as it does on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import pytest
import torch

import heads
from heads.softmax_torch import Perturbation

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("num_classes", [2, 100, 300, 5000])
@pytest.mark.parametrize("name", heads.names())
def test_cuda_answers_as_the_cpu_does(name: str, num_classes: int) -> None:
    torch.manual_seed(0)
    head = heads.build(name, 16, num_classes).double().eval()
    features, target = torch.randn(9, 16, dtype=torch.float64), torch.randint(num_classes, (9,))
    expected = [head(features, target).output, head.log_prob(features), head.topk(features, 2)[0]]
    best = head.predict(features)
    head.cuda()
    features, target = features.cuda(), target.cuda()
    ours = [head(features, target).output, head.log_prob(features), head.topk(features, 2)[0]]
    for actual, reference in zip(ours, expected, strict=True):
        torch.testing.assert_close(actual.cpu(), reference)
    assert torch.equal(head.predict(features).cpu(), best)


@pytest.mark.parametrize("num_classes", [100, 300, 5000])
@pytest.mark.parametrize("name", heads.names())
@pytest.mark.parametrize("autocast", [False, True])
def test_cuda_training_lowers_the_loss(name: str, num_classes: int, autocast: bool) -> None:
    torch.manual_seed(0)
    head = heads.build(name, 16, num_classes).cuda()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    features = torch.randn(40, 16, device="cuda")
    target = torch.randint(num_classes, (40,), device="cuda")
    before = head.eval()(features, target).loss.item()
    head.train()
    for _ in range(100):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            loss = head(features, target).loss
        loss.backward()
        optimizer.step()
    assert head.eval()(features, target).loss.item() < before


@pytest.mark.parametrize("name", ["hierarchical", "hierarchical-dense"])
def test_cuda_gradients_are_those_of_the_cpu(name: str) -> None:
    torch.manual_seed(0)
    head = heads.build(name, 16, 5000).double()
    features, target = torch.randn(9, 16, dtype=torch.float64), torch.randint(5000, (9,))
    expected = torch.autograd.grad(head(features, target).loss, list(head.parameters()))
    head.cuda()
    loss = head(features.cuda(), target.cuda()).loss
    for ours, reference in zip(
        torch.autograd.grad(loss, list(head.parameters())), expected, strict=True
    ):
        torch.testing.assert_close(ours.to_dense().cpu(), reference.to_dense())


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["hierarchical", "hierarchical-fused", "softmax-chunked"])
def test_compiled_predictions_of_kernels_are_the_same(name: str) -> None:
    torch.manual_seed(0)
    head = heads.build(name, 32, 5_000).cuda().eval()
    features = torch.randn(64, 32, device="cuda")
    with torch.no_grad():
        assert torch.equal(torch.compile(head.predict)(features), head.predict(features))


@contextmanager
def products(tf32: bool) -> Iterator[None]:
    """Whether TF32 is allowed, which is no attribute that could be patched and deleted again."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


CLOSE = {"float32": 3e-6, "tf32": 3e-5, "bfloat16": 1e-2, "float16": 1e-2, "autocast": 1e-2}
"""Relative error, in the norm, of gradients whose every sum has thousands of terms."""


@pytest.mark.parametrize("precision", CLOSE)
@pytest.mark.parametrize("width", [60, 128, 200, 300])
def test_cuda_softmax_without_logits_is_the_softmax(width: int, precision: str) -> None:
    """By kernels that never write a logit, and for wider features by slices."""
    torch.manual_seed(0)
    dtype = getattr(torch, precision) if "float" in precision else torch.float32
    head = heads.build("softmax-chunked", width, 20_011).cuda().to(dtype)
    exact = heads.build("softmax", width, 20_011).cuda().double()
    exact.load_state_dict(head.state_dict())
    features = torch.randn(500, width, device="cuda", dtype=dtype, requires_grad=True)
    target = torch.randint(20_011, (500,), device="cuda")
    found = []
    for one, given in ((exact, features.double()), (head, features)):
        with products(precision == "tf32"):
            with torch.autocast("cuda", torch.bfloat16, enabled=precision == "autocast"):
                loss = one(given, target).loss
            found.append([loss, *torch.autograd.grad(loss, [features, *one.parameters()])])
    for reference, ours in zip(*found, strict=True):
        error = (ours.double() - reference).norm() / reference.norm()
        assert error < (CLOSE[precision] if width <= 128 or precision != "tf32" else 3e-3)


@pytest.mark.parametrize("name", ["softmax-chunked", "gumbel"])
@pytest.mark.parametrize(("size", "num_classes"), [(500, 20_011), (9_000, 1_000)])
@pytest.mark.parametrize("frozen", ["", "input", "linear.weight"])
def test_cuda_softmax_without_logits_gives_each_gradient_by_itself_and_the_same_bits_again(
    name: str, size: int, num_classes: int, frozen: str
) -> None:
    """In parts of the classes, and of the samples where these are many."""
    torch.manual_seed(0)
    head = heads.build(name, 100, num_classes).cuda()
    target = torch.randint(num_classes, (size,), device="cuda")
    tensors = {"input": torch.randn(size, 100, device="cuda"), **dict(head.named_parameters())}
    found = []
    for fixed in ("", frozen, frozen):
        for one, tensor in tensors.items():
            tensor.requires_grad_(one != fixed)
        torch.manual_seed(1)  # of the noise
        output = head(tensors["input"], target).output
        names = [one for one, tensor in tensors.items() if tensor.requires_grad]
        wanted = [tensors[one] for one in names]
        for kept in (True, False):
            slopes = torch.autograd.grad(output.sum(), wanted, retain_graph=kept)
            found.append(dict(zip(names, slopes, strict=True)))
    for ours in found[1:]:
        for one, slope in ours.items():
            assert torch.equal(slope, found[0][one])


@pytest.mark.parametrize("layout", ["contiguous", "by columns"])
@pytest.mark.parametrize("num_classes", [300, 20_011])
def test_cuda_gumbel_is_that_of_float64(num_classes: int, layout: str) -> None:
    """Under the noise that its seed stands for, with logits and without."""
    torch.manual_seed(0)
    head = heads.build("gumbel", 100, num_classes, tau=0.7).cuda()
    if layout == "by columns":
        head.linear.weight.data = head.linear.weight.data.t().contiguous().t()
    features = torch.randn(500, 100, device="cuda", requires_grad=True)
    target = torch.randint(num_classes, (500,), device="cuda")
    torch.manual_seed(1)
    loss = head(features, target).loss
    found = [loss, *torch.autograd.grad(loss, [features, *head.parameters()])]
    torch.manual_seed(1)
    seed = torch.randint(2**31, (1,), device="cuda")
    noise = import_module("heads.softmax_triton").drawn(Perturbation(seed, seed), 500, num_classes)
    exact = [features.double(), *(one.double() for one in head.parameters())]
    logits = (exact[0] @ exact[1].t() + exact[2] + noise.double()) / 0.7
    reference = torch.nn.functional.cross_entropy(logits, target)
    expected = [reference, *torch.autograd.grad(reference, exact)]
    for ours, other in zip(found, expected, strict=True):
        assert (ours.double() - other).norm() / other.norm() < 3e-5


FOUND = {"float32": 1e-5, "tf32": 5e-2, "bfloat16": 1e-5, "float16": 1e-5}
"""Absolute error of a log-probability, and what a class may miss of the best one's."""


@pytest.mark.parametrize("precision", FOUND)
@pytest.mark.parametrize("samples", [1, 64, 500])
@pytest.mark.parametrize("width", [60, 128, 200])
@pytest.mark.parametrize("num_classes", [257, 20_011])
def test_cuda_finds_the_best_class_of_a_heap_in_a_graph(
    num_classes: int, width: int, samples: int, precision: str
) -> None:
    """For the unsure and the sure, of whom each replay has others."""
    torch.manual_seed(0)
    dtype = getattr(torch, precision, torch.float32)
    head = heads.build("hierarchical", width, num_classes).cuda().to(dtype).eval()
    exact = heads.build("hierarchical", width, num_classes).cuda().double()
    exact.load_state_dict(head.state_dict())
    features = torch.randn(samples, width, device="cuda", dtype=dtype)
    graph = torch.cuda.CUDAGraph()
    with products(precision == "tf32"):
        head.topk(features, 1)
        with torch.cuda.graph(graph):
            value, best = head.topk(features, 1)
    for scale in (1.0, 5.0):
        features.copy_(scale * torch.randn_like(features))
        features[::3] *= 8
        graph.replay()
        log_prob = exact.log_prob(features.double())
        highest = log_prob.max(dim=1, keepdim=True).values
        error = (value - highest).abs() / (1 + highest.abs())
        missed = (highest - log_prob.gather(1, best)) / (1 + highest.abs())
        assert error.max() < FOUND[precision]
        assert missed.max() < FOUND[precision]
