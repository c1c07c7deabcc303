"""The optimizers of a cell: what makes the step, what it keeps, and what its work is.

`models.optimizers` builds those of a training, which have a learning rate, a schedule and a place
in a CUDA graph, and refuses what a head's gradient does not go with. Here the question is what each
optimizer costs, whatever the gradient:

| optimizer | dense gradient | row-sparse gradient |
|---|---|---|
| `sgd` | `SGD` | `SGD`: the rows of the gradient |
| `momentum` | `SGD(momentum=0.9)` | made dense, then the same: every row that ever moved moves on |
| `adam` | `Adam(fused=True)` | `SparseAdam`: moments of the gradient's rows alone |
| `adamw` | `AdamW(fused=True)` | made dense, then the same: every row's weights and moments decay |
| `adagrad` | `Adagrad` | `Adagrad`: sums of the gradient's rows alone |

torch's `SGD` takes momentum with a sparse gradient, and its buffer then holds every row that ever
had one: the first steps are cheap, those of a long training walk all rows. torch's `AdamW` refuses
sparse gradients. What either must do by its definition touches all rows: here it does so from the
first step on, on a dense copy of the gradient, made in the step and forgotten after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, SparseAdam

from heads import Cost

Parameters = Sequence[nn.Parameter]
Make = Callable[[Parameters, float], torch.optim.Optimizer]
"""From parameters and an epsilon, which plain SGD does without."""

MOMENTUM = 0.9
"""As nearly everybody chooses it; no other is cheaper."""


@dataclass(frozen=True)
class Recipe:
    """An optimizer.

    Attributes:
        dense: makes it for parameters with a dense gradient; its learning rate is set to 0 later.
        sparse: for those with a row-sparse one; None if that has to be made dense.
        epsilon: torch's own, as long as the dtype can tell it from 0.
        multiply_adds: of the update of one parameter; roots and quotients do not count.
        state: numbers kept per parameter, each of which an update reads and writes.
    """

    dense: Make
    sparse: Make | None
    epsilon: float
    multiply_adds: int
    state: int


# Adam: one for the first moment, two for the second, one for the weight; AdamW: the decay as well.
RECIPES: dict[str, Recipe] = {
    "sgd": Recipe(lambda p, _: SGD(p), lambda p, _: SGD(p), 0.0, 1, 0),
    "momentum": Recipe(lambda p, _: SGD(p, momentum=MOMENTUM), None, 0.0, 2, 1),
    "adam": Recipe(
        lambda p, eps: Adam(p, eps=eps, fused=True, capturable=p[0].is_cuda),
        lambda p, eps: SparseAdam(list(p), eps=eps),
        *(1e-8, 4, 2),
    ),
    "adamw": Recipe(
        lambda p, eps: AdamW(p, eps=eps, fused=True, capturable=p[0].is_cuda), None, 1e-8, 5, 2
    ),
    "adagrad": Recipe(
        lambda p, eps: Adagrad(p, eps=eps), lambda p, eps: Adagrad(p, eps=eps), *(1e-10, 2, 1)
    ),
}
"""Value of a cell's `optimizer` -> what that is."""


class Optimizer:
    """Makes steps of learning rate 0, which cost the same arithmetic as any other.

    Which gradients are sparse is known when there are some: torch's optimizers, and with them the
    state of those that keep any, are made in the first step.

    Args:
        name: one of `RECIPES`.
        parameters: what to update, of one dtype.
    """

    def __init__(self, name: str, parameters: Parameters) -> None:
        self._recipe = RECIPES[name]
        self._parameters = list(parameters)
        self._made: list[torch.optim.Optimizer] = []
        self._made_dense: list[nn.Parameter] = []

    @property
    def ready(self) -> bool:
        """Whether a step allocates nothing that stays."""
        return bool(self._made) or not self._recipe.state

    def step(self) -> None:
        """Update every parameter from its gradient, which stays as it is."""
        if not self._made:
            self._make()
        given = [parameter.grad for parameter in self._made_dense]
        for parameter in self._made_dense:
            if parameter.grad is not None:
                parameter.grad = parameter.grad.to_dense()
        for optimizer in self._made:
            optimizer.step()
        for parameter, gradient in zip(self._made_dense, given, strict=True):
            parameter.grad = gradient

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def state(self) -> Iterator[Tensor]:
        """What is kept from one step to the next."""
        kept = chain.from_iterable(one.state.values() for one in self._made)
        for value in chain.from_iterable(state.values() for state in kept):
            if isinstance(value, Tensor):
                yield value

    def _make(self) -> None:
        recipe = self._recipe
        sparse = [p for p in self._parameters if p.grad is not None and p.grad.is_sparse]
        if recipe.sparse is None:
            self._made_dense, sparse = sparse, []
        dense = [p for p in self._parameters if not any(p is other for other in sparse)]
        # What is spread over processes and what is not cannot be updated in one go.
        kinds = [
            [p for p in dense if type(p.data) is kind] for kind in {type(p.data) for p in dense}
        ]
        # In float16, torch's own would be 0, and a quotient of two zeros no number.
        tiny = torch.finfo(self._parameters[0].dtype).tiny
        makes = [*((recipe.dense, some) for some in kinds), (recipe.sparse, sparse)]
        for make, parameters in makes:
            if make is not None and parameters:
                made = make(parameters, max(recipe.epsilon, tiny))
                for group in made.param_groups:
                    group["lr"] = 0.0  # SparseAdam takes none below one as an argument
                self._made.append(made)


def step_cost(name: str, sgd: Cost, parameters: int, itemsize: int) -> Cost:
    """Counted work of a step, from that of plain SGD.

    Args:
        name: of the optimizer.
        sgd: what plain SGD does: a multiply-add for every parameter that its gradient changes.
        parameters: all there are; those that an optimizer without a sparse counterpart changes.
        itemsize: bytes of each, and of each number of its state.
    """
    recipe = RECIPES[name]
    changed = sgd.multiply_adds if recipe.sparse else parameters
    more = 2 * (changed - sgd.multiply_adds)  # parameters that plain SGD neither reads nor writes
    state = 2 * recipe.state * changed
    return Cost(recipe.multiply_adds * changed, sgd.bytes + (more + state) * itemsize)
