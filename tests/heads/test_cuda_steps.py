"""A tree's training step on CUDA is that of float64, eager and in a graph."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import heads

pytestmark = pytest.mark.cuda

ROOT = Path(heads.__file__).parents[1]

RATE = 0.5

REFUSED = """
import torch, heads
head = heads.build("hierarchical-fused", 8, {classes}, learning_rate=0.5).cuda()
features, target = torch.randn(5, 8, device="cuda"), torch.arange(5, device="cuda")
head(features, target).loss.backward()
torch.cuda.synchronize()
print("learned")
{mistake}.backward()
torch.cuda.synchronize()
print("went on")
"""


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize(
    ("num_classes", "width"), [(100, 20), (300, 128), (5000, 33), (70000, 300)]
)
@pytest.mark.parametrize("batch_size", [1, 100, 3000])
@pytest.mark.parametrize("name", ["hierarchical", "hierarchical-fused"])
def test_a_step_is_that_of_float64(
    name: str, batch_size: int, num_classes: int, width: int, skewed: bool, captured: bool
) -> None:
    torch.manual_seed(0)
    options = {"learning_rate": RATE} if "fused" in name else {}
    head = heads.build(name, width, num_classes, **options).cuda()
    exact = heads.build("hierarchical", width, num_classes).double()
    exact.load_state_dict(head.state_dict())
    before = copy.deepcopy(head.state_dict())
    features = torch.randn(batch_size, width, device="cuda", requires_grad=True)
    target = torch.randint(num_classes, (batch_size,), device="cuda")
    if skewed:
        target[: batch_size // 2] = num_classes - 1
    optimizer = torch.optim.SGD(head.parameters(), lr=RATE)

    def train() -> tuple[torch.Tensor, torch.Tensor]:
        optimizer.zero_grad()
        features.grad = None
        output, loss = head(features, target)
        loss.backward()
        optimizer.step()
        return output, loss

    if captured:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            train()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output, loss = train()
        head.load_state_dict(before)
        graph.replay()
    else:
        output, loss = train()
    reference = features.detach().double().cpu().requires_grad_()
    expected = exact(reference, target.cpu())
    expected.loss.backward()
    torch.optim.SGD(exact.parameters(), lr=RATE).step()
    torch.testing.assert_close(output.double().cpu(), expected.output, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss.double().cpu(), expected.loss, rtol=1e-5, atol=1e-5)
    assert features.grad is not None
    torch.testing.assert_close(
        features.grad.double().cpu(), reference.grad, rtol=1e-4, atol=1e-5 / batch_size
    )
    for ours, other in zip(head.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(ours.double().cpu(), other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["hierarchical", "hierarchical-fused"])
@pytest.mark.parametrize("num_classes", [100, 70000])
def test_the_bits_are_the_same_again(name: str, num_classes: int) -> None:
    """Of row-sparse gradients always, of a step that adds in place where it is asked for."""
    torch.manual_seed(0)
    head = heads.build(name, 128, num_classes).cuda()
    features = torch.randn(3000, 128, device="cuda")
    target = torch.randint(num_classes, (3000,), device="cuda") // 2
    found = []
    torch.use_deterministic_algorithms("fused" in name, warn_only=True)
    try:
        for _ in range(3):
            again = copy.deepcopy(head)
            again(features, target).loss.backward()
            torch.optim.SGD(again.parameters(), lr=RATE).step()
            found.append(again.nodes.weight)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("num_classes", [100, 300])
@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("(2 * head(features, target).loss)", "came back multiplied"),
        ("head(features, target + {classes}).loss", ""),
        ("head(features, target - 1).loss", ""),
    ],
    ids=["factor", "above", "below"],
)
def test_the_device_refuses_what_is_a_mistake(mistake: str, said: str, num_classes: int) -> None:
    """In a process of its own, which the device's assertion ends."""
    code = REFUSED.format(mistake=mistake.format(classes=num_classes), classes=num_classes)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[:1] == ["learned"]
    assert "went on" not in done.stdout
    assert done.returncode != 0
    assert said in done.stderr + done.stdout
    assert "RuntimeError" in done.stderr or "AcceleratorError" in done.stderr
