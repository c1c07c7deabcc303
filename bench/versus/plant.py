"""A slowdown to be found: what `bench.versus.power` adds to the `heads` of one side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

TRIALS = 7
"""Training steps that tell how much of them the forward is."""


def slowed(build: Callable[..., Any], name: str, share: float) -> Callable[..., Any]:
    """`build` whose head `name` takes a `share` longer to train and to predict."""

    def slower(head: str, *sizes: int, **options: Any) -> Any:
        made = build(head, *sizes, **options)
        if head == name:
            _slow(made, share)
        return made

    return slower


def _slow(head: Any, share: float) -> None:
    forward, predict = head.forward, head.predict
    parts: list[float] = []

    def slow_forward(input: Any, target: Any) -> Any:
        if not parts:
            parts.append(_step_over_forward(head, forward, input, target))
        return _stretched(lambda: forward(input, target), 1 + share * parts[0])

    def slow_predict(input: Any) -> Any:
        return _stretched(lambda: predict(input), 1 + share)

    head.forward, head.predict = slow_forward, slow_predict


def _stretched(call: Callable[[], Any], factor: float) -> Any:
    """What `call` returns, after so many times the processor time that it took."""
    begin = time.process_time()
    made = call()
    end = begin + factor * (time.process_time() - begin)
    while time.process_time() < end:
        pass
    return made


def _step_over_forward(head: Any, forward: Any, input: Any, target: Any) -> float:
    """How many times as long as its forward a training step takes; leaves no gradient behind."""
    parameters = list(head.parameters())
    ratios = []
    for _ in range(TRIALS):
        begin = time.process_time()
        loss = forward(input, target).loss
        middle = time.process_time()
        loss.backward()
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.data.add_(parameter.grad, alpha=0.0)
        ratios.append((time.process_time() - begin) / (middle - begin))
        for leaf in (input, *parameters):
            leaf.grad = None
    return statistics.median(ratios)
