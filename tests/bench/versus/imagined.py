"""Pairs of a duet as they are drawn, whose truth is known."""

import numpy as np

from bench.versus.duet import Cell

GRID = [
    Cell(head, phase, classes, 128, 128, "cpu")
    for head in "abcde"
    for phase in ("train", "predict")
    for classes in (128, 1_024, 8_192)
]


def measured(chance, slowdowns=None, pairs=30):
    """Pairs that see a cell's slowdown, a bias of their processes, and noise with spikes."""
    return {
        cell: np.log1p((slowdowns or {}).get(cell.head, 0))
        + 0.015 * chance.standard_normal(pairs)
        + 0.005 * chance.standard_t(3, pairs)
        for cell in GRID
    }
