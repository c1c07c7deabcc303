"""Plays the heads of one revision, slice by slice, as the other end of a pipe asks for them.

    python -P player.py FOLDER THREADS [CORE]

Started by its path, or forked by a nest: of all packages of this name it may only find those in
FOLDER. All it asks of a head is what every revision promises: `heads.build(name, in_features,
num_classes)`, forward with a loss, backward, plain SGD, predict. A request is a line of JSON, and
so is its answer.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

TARGET_BATCHES = 64
"""As in a sweep: with one alone, its rows would be found in the cache at every step."""

WARM_CALLS, WARM_SECONDS = 2, 0.005
"""Before a cell counts: so many calls and seconds at least. The first one loads kernels."""


class Piece:
    """One cell, built: a phase of a head, on random features and targets.

    Args:
        heads: the package.
        request: names head, phase, classes, batch, features, device and seed.
    """

    def __init__(self, heads: Any, request: dict[str, Any]) -> None:
        import torch

        torch.manual_seed(request["seed"])
        self._torch = torch
        self._cuda = request["device"].startswith("cuda")
        self._clock = clock(self._cuda)
        classes, batch, features = (request[name] for name in ("classes", "batch", "features"))
        with torch.device(request["device"]):
            self._head = heads.build(request["head"], features, classes)
            self._input = torch.randn(batch, features, requires_grad=True)
            targets = torch.randint(classes, (TARGET_BATCHES, batch)).unbind()
        self._targets = cycle(targets)
        if getattr(self._head, "learning_rate", None) is not None:
            self._head.learning_rate = 0.0  # the head makes the optimizer's step itself
        self._parameters = list(self._head.parameters())
        self._head.train(request["phase"] != "predict")
        self._ready, self._call = self._phase(request["phase"])

    def _phase(self, phase: str) -> tuple[Callable[[], Any] | None, Callable[..., object]]:
        """What has to be made anew for each call outside the clock, if anything, and the call."""
        match phase:
            case "forward":
                return None, self._loss
            case "backward":  # of a fresh graph, as in training
                return self._cleared_loss, lambda loss: loss.backward()
            case "step":
                self._cleared_loss().backward()
                return None, self._step
            case "train":
                return None, self._train
        return None, self._torch.no_grad()(lambda: self._head.predict(self._input))

    def _loss(self) -> Any:
        return self._head(self._input, next(self._targets)).loss

    def _cleared_loss(self) -> Any:
        for leaf in (self._input, *self._parameters):
            leaf.grad = None
        return self._loss()

    def _train(self) -> None:
        self._cleared_loss().backward()
        self._step()

    def _step(self) -> None:
        """What `torch.optim.SGD` does, which takes seconds to load; every call at rate 0."""
        with self._torch.no_grad():
            for parameter in self._parameters:
                if parameter.grad is not None:
                    parameter.add_(parameter.grad, alpha=0.0)

    def play(self, calls: int) -> float:
        """Seconds of `calls` calls."""
        if self._ready is None:
            return self._clocked(self._call, calls)
        seconds = 0.0
        for _ in range(calls):
            made = self._ready()
            seconds += self._clocked(partial(self._call, made), 1)
        return seconds

    def _clocked(self, call: Callable[[], object], calls: int) -> float:
        self._wait()
        begin = self._clock()
        for _ in range(calls):
            call()
        self._wait()
        return self._clock() - begin

    def _wait(self) -> None:
        if self._cuda:
            self._torch.cuda.synchronize()

    def warm_up(self) -> float:
        """Seconds of a call once it is warm."""
        begin, calls, fastest = time.perf_counter(), 0, float("inf")
        while True:
            fastest = min(fastest, self.play(1))
            calls += 1
            spent = time.perf_counter() - begin
            if calls >= WARM_CALLS and spent >= WARM_SECONDS:
                return fastest


def clock(cuda: bool) -> Callable[[], float]:
    """One thread's processor time, where what other programs took does not count; else the wall's.

    Windows counts it in steps of 16 ms.
    """
    import torch

    alone = torch.get_num_threads() == 1 and not cuda and sys.platform != "win32"
    return time.process_time if alone else time.perf_counter


def main() -> None:
    """Answer requests until there are no more."""
    folder, threads, *core = sys.argv[1:]
    answers = os.dup(1)  # a bare number: nothing closes it before the process has ended
    os.dup2(2, 1)  # what a head prints is no answer
    elsewhere = [entry for entry in sys.path if not (Path(entry) / "heads").is_dir()]
    sys.path[:] = [folder, *elsewhere]
    import torch

    import heads

    found = heads.__file__  # a folder without a module has none, whatever its type says
    if not (found and Path(found).is_relative_to(folder)):
        raise ImportError("this revision has no package called heads")
    torch.set_num_threads(int(threads))
    if core:  # from now on: until here, both players can start at once
        os.sched_setaffinity(0, {int(core[0])})
    gc.disable()
    gc.freeze()  # what is loaded now need not be looked at again
    piece: Piece | None = None

    def answer(**content: object) -> None:
        os.write(answers, json.dumps(content).encode() + b"\n")

    answer(names=list(heads.names()))
    for line in sys.stdin:
        request = json.loads(line)
        if "calls" in request and piece is not None:
            piece.play(request["lead"])
            answer(seconds=piece.play(request["calls"]))
            continue
        piece = None  # two large heads may not fit
        gc.collect()
        try:
            piece = Piece(heads, request)
            answer(seconds=piece.warm_up())
        except Exception as error:
            piece = None
            answer(failed=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
