"""Classes that stand in an order of their own: that of a tree's leaves, or by frequency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from heads.base import Head
from heads.trees import checked_order

if TYPE_CHECKING:
    from collections.abc import Sequence


class Ordered(Head):
    """A head whose classes have places that need not be their numbers.

    The order is part of the state dict, as extra state. Whatever follows from it is made again when
    a state is loaded, so that the head then is the saved one, with or without an order of its own.

    Attributes:
        order: the class at each place, (n,); None where every class has its number's place.
        place: the place of each class, (n,), likewise.
    """

    order: Tensor | None
    place: Tensor | None

    def arrange(self, order: Sequence[int] | Tensor | None, device: torch.device) -> None:
        """Give the classes this order, and whatever follows from it, on `device`."""
        if order is not None:
            order = checked_order(order, self.num_classes).to(device)
        self.register_buffer("order", order, persistent=False)
        place = None if order is None else order.argsort()
        self.register_buffer("place", place, persistent=False)

    def places(self, classes: Tensor) -> Tensor:
        """Where these classes stand, of the same shape."""
        return classes if self.place is None else self.place[classes]

    def classes(self, places: Tensor) -> Tensor:
        """Which classes stand there, of the same shape."""
        return places if self.order is None else self.order[places]

    def by_class(self, values: Tensor) -> Tensor:
        """Values by place as values by class: (N, n) -> (N, n)."""
        return values if self.place is None else values.index_select(1, self.place)

    def get_extra_state(self) -> Tensor:
        """The order, (n,); where there is none, that of the numbers, so that there is one to load.

        Never an alias of the buffer, which others could then change behind the tables' back.
        """
        return torch.arange(self.num_classes) if self.order is None else self.order.clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Take over the order of a saved head, before its parameters are loaded.

        Raises:
            ValueError: it is of another number of classes, or no order.
        """
        order = checked_order(state, self.num_classes)
        in_order = torch.equal(order, torch.arange(self.num_classes, device=order.device))
        self.arrange(None if in_order else order, where_loaded(self, state))


def where_loaded(head: Head, state: Tensor) -> torch.device:
    """Where a head will live once a state is loaded: there where it is, unless that is nowhere."""
    device = next(head.parameters()).device
    return state.device if device.type == "meta" else device
