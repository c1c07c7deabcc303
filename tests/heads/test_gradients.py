"""Gradients of every head's loss, against finite differences and against `log_prob`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import heads

every_head = pytest.mark.parametrize("name", heads.names())
# 300 lies beyond the size up to which the hierarchical head scores all its nodes.
sizes = pytest.mark.parametrize("num_classes", [2, 3, 11, 300])


def make(name: str, num_classes: int) -> tuple[heads.Head, Tensor, Tensor]:
    torch.manual_seed(num_classes)
    head = heads.build(name, 4, num_classes).double()
    features = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    return head, features, torch.randint(num_classes, (5,))


def dense_gradients(head: heads.Head, loss: Tensor, features: Tensor) -> list[Tensor]:
    gradients = torch.autograd.grad(
        loss, [features, *head.parameters()], allow_unused=True, materialize_grads=True
    )
    return [gradient.to_dense() for gradient in gradients]


@sizes
@every_head
def test_input_gradient_against_finite_differences(name: str, num_classes: int) -> None:
    head, features, target = make(name, num_classes)

    def loss(features: Tensor) -> Tensor:
        torch.manual_seed(0)  # a relaxed head draws the same noise each time
        result: Tensor = head(features, target).loss
        return result

    assert torch.autograd.gradcheck(loss, features)


@pytest.mark.parametrize("num_classes", [2, 3, 11, 24])
@every_head
def test_parameter_gradients_against_finite_differences(name: str, num_classes: int) -> None:
    head, features, target = make(name, num_classes)

    def loss() -> Tensor:
        torch.manual_seed(0)
        result: Tensor = head(features, target).loss
        return result

    analytic = dense_gradients(head, loss(), features)[1:]
    epsilon = 1e-6
    with torch.no_grad():
        for parameter, gradient in zip(head.parameters(), analytic, strict=True):
            for index in range(parameter.numel()):
                kept = parameter.view(-1)[index].item()
                ends = []
                for shift in (epsilon, -epsilon):
                    parameter.view(-1)[index] = kept + shift
                    ends.append(float(loss()))
                parameter.view(-1)[index] = kept
                numeric = (ends[0] - ends[1]) / (2 * epsilon)
                assert float(gradient.view(-1)[index]) == pytest.approx(numeric, abs=1e-8)


@sizes
@every_head
def test_gradients_are_those_of_log_prob(name: str, num_classes: int) -> None:
    head, features, target = make(name, num_classes)
    head.eval()
    ours = dense_gradients(head, head(features, target).loss, features)
    reference = -head.log_prob(features).gather(1, target.unsqueeze(1)).mean()
    for gradient, expected in zip(ours, dense_gradients(head, reference, features), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


@every_head
def test_frozen_parameters_leave_the_input_gradient_alone(name: str) -> None:
    head, features, target = make(name, 300)
    head.eval()
    expected = dense_gradients(head, head(features, target).loss, features)[0]
    head.requires_grad_(False)
    (gradient,) = torch.autograd.grad(head(features, target).loss, features)
    torch.testing.assert_close(gradient, expected)
