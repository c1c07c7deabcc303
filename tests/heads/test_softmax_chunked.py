"""The chunked softmax is the softmax, without ever holding its logits."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import heads
from heads import softmax_chunked, softmax_torch
from heads.softmax_chunked import kernels


def twins(num_classes: int) -> tuple[heads.Head, heads.Head]:
    torch.manual_seed(0)
    plain = heads.build("softmax", 6, num_classes).double()
    chunked = heads.build("softmax-chunked", 6, num_classes).double()
    chunked.load_state_dict(plain.state_dict())
    return plain, chunked


@pytest.mark.parametrize("chunk", [1, 7, 40, 10**6])
def test_loss_gradients_and_predictions_are_the_softmaxs(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax_torch, "ELEMENTS", 5 * chunk)
    plain, chunked = twins(50)
    features = torch.randn(5, 6, dtype=torch.float64)
    target = torch.randint(50, (5,))
    weights = torch.randn(5, dtype=torch.float64)
    gradients = []
    for head in (plain, chunked):
        variable = features.clone().requires_grad_()
        output = head(variable, target).output
        gradients.append(torch.autograd.grad(output @ weights, [variable, *head.parameters()]))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(chunked(features, target), plain(features, target))
    assert torch.equal(chunked.predict(features), plain.predict(features))


@pytest.mark.parametrize("frozen", ["", "input", "weight"])
@pytest.mark.parametrize("elements", [5 * 50, 5 * 64])
def test_one_slice_is_the_softmax_too(
    elements: int, frozen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the loops, which keep its logits, or below `WORTH_LOOPS` by torch's operators."""
    monkeypatch.setattr(softmax_chunked, "WORTH_LOOPS", elements)
    plain, chunked = (head.float() for head in twins(50))
    target, weights = torch.randint(50, (5,)), torch.arange(5.0)
    gradients = []
    for head in (plain, chunked):
        tensors = {"input": torch.arange(30.0).sin().view(5, 6), **dict(head.named_parameters())}
        for name, tensor in tensors.items():
            tensor.requires_grad_(not _is(name, frozen))
        variables = [tensor for tensor in tensors.values() if tensor.requires_grad]
        output = head(tensors["input"], target).output
        by_loops = head is chunked and elements <= 5 * 50 and kernels(output) is not softmax_torch
        assert ("ChunkedLogProb" in str(output.grad_fn)) == by_loops
        gradients += [  # twice: the first leaves what is kept as it was
            torch.autograd.grad(output @ weights, variables, retain_graph=True) for _ in range(2)
        ]
    for ours in gradients[1:]:
        for one, expected in zip(ours, gradients[0], strict=True):
            torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-6)


def test_one_slice_under_autocast_is_the_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax_chunked, "WORTH_LOOPS", 0)
    plain, chunked = (head.float() for head in twins(50))
    target = torch.randint(50, (5,))
    gradients = []
    for head in (plain, chunked):
        variable = torch.arange(30.0).sin().view(5, 6).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            loss = head(variable, target).loss
        gradients.append(torch.autograd.grad(loss, [variable, *head.parameters()]))
    for one, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(one, expected, rtol=2e-2, atol=2e-3)


class Products(TorchDispatchMode):
    """Dtypes of the factors of all products."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.dtypes.add(args[-1].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_backward_multiplies_in_the_dtype_of_the_forward(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the dtype of autocast is where the backward is called."""
    monkeypatch.setattr(kernels(torch.empty(0, 6)), "ELEMENTS", 5 * 64)
    chunked = twins(150)[1].float()
    features = torch.randn(5, 6, requires_grad=True)
    with torch.autocast("cpu", dtype):
        loss = chunked(features, torch.randint(150, (5,))).loss
    with Products() as products:
        loss.backward()
    assert products.dtypes == {dtype}


def _is(name: str, frozen: str) -> bool:
    return bool(frozen) and name.endswith(frozen)


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operator makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        outputs = result if isinstance(result, tuple | list) else (result,)
        sizes = [o.numel() for o in outputs if isinstance(o, torch.Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return result


def test_no_tensor_is_as_large_as_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    features, target = torch.randn(64, 6), torch.randint(1000, (64,))
    monkeypatch.setattr(kernels(features), "ELEMENTS", 64 * 128)
    largest = {}
    for name in ("softmax", "softmax-chunked"):
        head = heads.build(name, 6, 1000)
        with LargestTensor() as mode:
            head(features, target).loss.backward()
            head.predict(features)
        largest[name] = mode.elements
    assert largest["softmax"] == 64 * 1000
    assert largest["softmax-chunked"] == 64 * 128
