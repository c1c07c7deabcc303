"""What is measured: the sweeps that cells come from, and the order they are visited in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import heads
from bench.measure import per_core
from models import pipelines, variants
from models.tinyvgg import TinyVGG
from reports.results import PHASES, Cell, Phase
from reports.results.fields import Record, checked, choice, count, each, name, optional

HEAVY = 2**25
"""Scores of a cell from which on it is measured in few passes, to keep a sweep within its time."""

HEAVY_PASSES = 2
"""Enough to see that passes differ; a long call averages over what disturbs a short one."""


def is_heavy(cell: Cell) -> bool:
    """Whether one call of a head that scores every class takes a good part of a second."""
    return cell.classes * cell.batch >= HEAVY


@dataclass(frozen=True)
class Visit:
    """One measurement of one cell in one pass over the grid."""

    cell: Cell
    pass_index: int


@dataclass(frozen=True)
class Block:
    """Cells that compete in one pass: they are measured in turns.

    Attributes:
        cells: of one contest, whatever their labels and state: a head whose cost does not depend
            on these is measured once, and is to be a rival in all.
        pass_index: which pass over the grid.
    """

    cells: tuple[Cell, ...]
    pass_index: int

    @property
    def visits(self) -> list[Visit]:
        """One for each cell."""
        return [Visit(cell, self.pass_index) for cell in self.cells]


@dataclass(frozen=True)
class Spare:
    """What is left of a run's minutes when all else is done."""

    minutes: float


@dataclass(frozen=True)
class Sweep(Record):
    """A grid and what is trained beside it.

    Attributes:
        heads: measured alone and in-model.
        classes: class counts of the isolated cells.
        batches: batch sizes.
        model_classes: class counts of the in-model cells.
        passes: how many times the whole grid is measured.
        heavy_passes: in how many of them its heavy cells are.
        features: width of the isolated heads' input.
        phases: of the isolated cells.
        trained: variants that are trained; a head's name is one.
        epochs: passes over the training images.
        train_images: images per training, or None for all of them.
        seeds: trainings of each variant, each from a seed of its own.
        channels: width of TinyVGG's convolutions in training, or None for the variant's own.
        patience: epochs without a new lowest training loss that end a training, or None.
        pipelines: input pipelines whose training steps are timed side by side.
        split_steps: training steps per pass that are taken apart, in-model at the smallest batch
            size; 0 for none.
        a_a: the head that is measured as two.
    """

    heads: tuple[str, ...] = field(metadata=checked(each, name))
    classes: tuple[int, ...] = field(metadata=checked(each, count, 2))
    batches: tuple[int, ...] = field(metadata=checked(each, count, 1))
    model_classes: tuple[int, ...] = field(metadata=checked(each, count, 2))
    passes: int = field(metadata=checked(count, 1))
    trained: tuple[str, ...] = field(metadata=checked(each, name))
    epochs: int = field(default=10, metadata=checked(count, later=True))
    train_images: int | None = field(default=None, metadata=checked(optional, count, 1, later=True))
    seeds: int = field(default=1, metadata=checked(count, 1, later=True))
    channels: int | None = field(default=None, metadata=checked(optional, count, 1, later=True))
    patience: int | None = field(default=None, metadata=checked(optional, count, 1, later=True))
    pipelines: tuple[str, ...] = field(default=(), metadata=checked(each, name, later=True))
    split_steps: int = field(default=0, metadata=checked(count, later=True))
    features: int = field(default=128, metadata=checked(count, 1, later=True))
    phases: tuple[Phase, ...] = field(
        default=PHASES, metadata=checked(each, choice, PHASES, later=True)
    )
    heavy_passes: int = field(default=HEAVY_PASSES, metadata=checked(count, 1, later=True))
    a_a: str = field(default="softmax", metadata=checked(name, later=True))

    @property
    def visits(self) -> int:
        """At most so many lines of the journal, and trainings, without counting them out."""
        isolated = len(self.phases) * len(self.classes) * len(self.batches)
        in_model = len(self.model_classes) * len(self.batches)
        cells = (len(self.heads) + 1) * (isolated + in_model) + len(self.pipelines)
        return (2 * self.passes + 2) * cells + self.seeds * len(self.trained)


PUBLISHED = ("softmax", "gumbel-normal", "hierarchical-padded")
"""The published study's three heads, in their published form."""

AS_PUBLISHED = PUBLISHED[1:]
"""Those that are only there to reproduce it."""

STANDARD = (
    "softmax",
    "gumbel",
    "hierarchical",
    "hierarchical-dense",
    "adaptive",
)

PIPELINE_HEAD = "softmax"
"""What pipelines train."""

PIPELINES = (*pipelines.names(), *(name + per_core.SUFFIX for name in pipelines.names()))
"""With all cores for one training, and with a training for each core."""

SWEEPS: dict[str, Sweep] = {
    "quick": Sweep(
        heads=STANDARD,
        classes=(16, 64, 256, 1_024, 4_096, 16_384),
        batches=(128,),
        model_classes=(100,),
        passes=2,
        # As published they are still at chance after so few steps.
        trained=("softmax-tuned", "gumbel-tuned", "hierarchical-tuned"),
        epochs=1,
        train_images=10_000,
    ),
    "default": Sweep(
        heads=STANDARD,
        classes=(16, 100, 256, 512, 1_024, 4_096, 16_384, 65_536, 262_144),
        batches=(32, 128, 512),
        model_classes=(100, 1_024, 16_384),
        passes=3,
        trained=PUBLISHED,
        pipelines=PIPELINES,
        split_steps=5,
    ),
    "full": Sweep(
        heads=(*STANDARD, *AS_PUBLISHED),
        classes=(100, *(2**k for k in range(4, 23))),
        batches=(32, 128, 512, 2_048),
        model_classes=(100, 1_024, 16_384, 262_144, 1_048_576),
        passes=5,
        trained=(*PUBLISHED, "gumbel", "hierarchical", "adaptive"),
        pipelines=PIPELINES,
        split_steps=20,
    ),
    "study": Sweep(
        heads=("softmax", "gumbel", "hierarchical"),
        classes=(100,),
        batches=(32,),
        phases=("train",),
        # Where the head takes half of the step lies within this grid for those that score all.
        model_classes=(100, 1_024, 2_048, 4_096, 8_192, 16_384),
        passes=5,
        trained=variants.names(),
        seeds=5,
        pipelines=PIPELINES,
        split_steps=20,
    ),
    "peers": Sweep(
        heads=(
            *(name for name in heads.names() if name not in AS_PUBLISHED),
            *("torch-adaptive", "linear-cross-entropy", "linear-cross-entropy-chunked"),
            *("fasttext", "gensim", "liger", "cut-cross-entropy"),
        ),
        classes=(100, 2**14, 2**17, 2**20),
        batches=(128, 512),
        phases=("train", "predict"),
        model_classes=(),
        passes=4,
        heavy_passes=3,
        trained=(),
    ),
}


def anchor(device: str, threads: int) -> Cell:
    """The cell that all blocks share: of middle size and cheap."""
    return Cell(
        "isolated", "softmax", "train", 1_024, 32, features=128, device=device, threads=threads
    )


MODEL_BATCH = 32
"""The published study's."""


def model_step(device: str, threads: int) -> Cell:
    """A training step of the published study's model."""
    return Cell(
        *("in-model", "softmax", "train", 100, MODEL_BATCH),
        features=TinyVGG().out_features, device=device, threads=threads,
    )  # fmt: skip


def grid(sweep: Sweep, make: Callable[..., Cell]) -> list[Cell]:
    """Every cell of the sweep, the A/A pair's second half included, in no particular order.

    Args:
        sweep: what to measure.
        make: builds a cell from (scope, head, phase, classes, batch, replica=0).
    """
    isolated = list(product(("isolated",), sweep.heads, sweep.phases, sweep.classes, sweep.batches))
    in_model = product(("in-model",), sweep.heads, ("train",), sweep.model_classes, sweep.batches)
    return [
        *(make(*point) for point in isolated),
        *(c for p in isolated if not is_heavy(c := make(*p, replica=1)) and c.head == sweep.a_a),
        *(make(*point) for point in in_model),
    ]


def itinerary(cells: Sequence[Cell], passes: int, seed: int) -> Iterator[Visit]:
    """Visit the whole grid `passes` times, each time in another order drawn from `seed`.

    The phases of one subject stay together: building a large head costs more than measuring it.
    """
    shuffler = random.Random(seed)
    subjects = list(grouped(cells, lambda cell: cell.subject).values())
    for pass_index in range(passes):
        shuffler.shuffle(subjects)
        for subject in subjects:
            yield from (Visit(cell, pass_index) for cell in subject)


def blocks(
    cells: Sequence[Cell], passes: int, seed: int, heavy_passes: int = HEAVY_PASSES
) -> Iterator[Block]:
    """The whole grid as blocks, `passes` times, each time in another order drawn from `seed`.

    Shuffling spreads a machine's drift over all contests alike. Those of the same subjects stay
    together, so that these are built once for all phases. Heavy cells are in the first
    `heavy_passes` only.
    """
    shuffler = random.Random(seed)
    groups = [
        list(grouped(group, contest).values())
        for group in grouped(cells, lambda cell: contest(cell).subject).values()
    ]
    for pass_index in range(passes):
        shuffler.shuffle(groups)
        for contests in groups:
            for rivals in contests:
                if pass_index < heavy_passes or not is_heavy(rivals[0]):
                    yield Block(tuple(rivals), pass_index)


def contest(cell: Cell) -> Cell:
    """What all have in common that are measured in turns with `cell`."""
    return replace(cell.contest, labels="uniform", state="untrained")


def grouped(cells: Iterable[Cell], key: Callable[[Cell], Cell]) -> dict[Cell, list[Cell]]:
    """`cells` that have the same `key`, in their order."""
    groups: dict[Cell, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return groups
