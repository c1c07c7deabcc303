"""What is measured: the sweeps that cells come from, and the order they are visited in."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from typing import Any

import heads
from bench import peers
from bench.measure import labels, per_core
from heads.options import parse, spell
from models import pipelines, variants
from models.cases import CASES
from models.text import VOCABULARY
from models.tinyvgg import TinyVGG
from reports.results import MODES, PHASES, WHOLE, Cell, Mode, Phase
from reports.results.cell import STATES, State
from reports.results.fields import Record, checked, choice, count, each, flag, name, optional, text

HEAVY = 2**25
"""Scores of a cell from which on it is measured in few passes, to keep a sweep within its time."""

HEAVY_PASSES = 2
"""Enough to see that passes differ; a long call averages over what disturbs a short one."""


def is_heavy(cell: Cell) -> bool:
    """Whether one call of a head that scores every class takes a good part of a second."""
    return cell.classes * cell.batch >= HEAVY


AXES: Mapping[str, tuple[str, tuple[Phase, ...]]] = {
    "features": ("features", ("train", "predict")),
    "labels": ("labels", ("train", "predict")),
    "states": ("state", ("predict",)),
    "dtypes": ("dtype", ("train", "predict")),
    "optimizers": ("optimizer", ("step", "train")),
    "modes": ("mode", WHOLE),
    "ranks": ("ranks", WHOLE),
}
"""Axes beside heads, classes and batches, each a field of `Sweep`: the cell's field that takes its
values, and the phases in which values other than the first are measured."""

UNDIVIDED = {"mode": "eager", "ranks": 1}
"""What phases that are parts of a call are measured with, whatever the rest of the sweep is."""

USUAL_BATCH, FEW = 128, 4
"""Where they are measured: at this batch size, if the sweep has it, and at so many class counts."""

MOST_RATE = 1_000
"""Of a learning rate; whoever needs more has mistyped."""

LONGEST_CALL = 200
"""Characters of a head with its options."""


def few(classes: Sequence[int]) -> tuple[int, ...]:
    """The largest class count and some below it: as wide a span as so few can have and be even."""
    return tuple(reversed(classes[::-2][:FEW]))


def usual(batches: Sequence[int]) -> int:
    """The batch size to look at where one has to do."""
    return USUAL_BATCH if USUAL_BATCH in batches else sorted(batches)[(len(batches) - 1) // 2]


def _widths(record: Mapping[str, Any], field: str) -> tuple[int, ...]:
    """Numbers of features; one alone, as older runs have it, is a list of one."""
    if isinstance(record.get(field), list | tuple):
        return each(record, field, count, 1)
    return (count(record, field, 1),)


def _labels(record: Mapping[str, Any], field: str) -> str:
    try:
        return labels.parse(text(record, field))
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def rate(given: str) -> tuple[str, float]:
    """A variant and its learning rate, from `variant=rate`.

    Raises:
        ValueError: it is not written so.
    """
    variant, _, number = given.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not (variant and 0 < value < MOST_RATE):
        raise ValueError(
            f"expected VARIANT=RATE, a learning rate between 0 and {MOST_RATE}, got {given[:40]!r}"
        )
    return variant, value


def _rate(record: Mapping[str, Any], field: str) -> str:
    rate(given := text(record, field))
    return given


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
            on these is measured once, and is to be a rival in all. Of a head, all phases of its
            training step that are wanted.
        pass_index: which pass over the grid.
    """

    cells: tuple[Cell, ...]
    pass_index: int

    @property
    def visits(self) -> list[Visit]:
        """One for each cell."""
        return [Visit(cell, self.pass_index) for cell in self.cells]

    @property
    def timed(self) -> list[Cell]:
        """What competes: the cells whose calls are timed."""
        return list(dict.fromkeys(map(timed_as, self.cells)))


@dataclass(frozen=True)
class Spare:
    """What is left of a run's minutes when all else is done."""

    minutes: float


@dataclass(frozen=True)
class Sweep(Record):
    """A grid and what is trained beside it.

    The first value of each of `AXES` is the standard: the full grid of classes and batches is
    measured there, and every other value by itself, the other axes at their standard, at the usual
    batch and at a few class counts. So each axis adds to a run, and none multiplies it.

    Attributes:
        heads: measured alone and in-model; with options, as in a call.
        classes: class counts of the isolated cells.
        batches: batch sizes.
        model_classes: class counts of the in-model cells.
        passes: how many times the whole grid is measured.
        heavy_passes: in how many of them its heavy cells are.
        features: widths of the isolated heads' input.
        labels: how often classes occur; see `labels.parse`.
        states: of the model that predicts.
        dtypes: of the cells.
        optimizers: likewise.
        modes: how calls are made.
        ranks: processes that share a head's classes.
        product: measure every combination of all axes instead.
        phases: of the isolated cells.
        trained: variants that are trained; a head's name is one.
        epochs: passes over the training images.
        train_images: images (or words of a text) per training, or None for all of them.
        seeds: trainings of each variant, each from a seed of its own.
        channels: width of TinyVGG's convolutions in training, or None for the variant's own.
        patience: epochs without a new lowest training loss that end a training, or None.
        pipelines: input pipelines whose training steps are timed side by side.
        split_steps: training steps per pass that are taken apart, in-model at the smallest batch
            size; 0 for none.
        a_a: the head that is measured as two.
        model: what heads sit on, in-model and in training.
        vocabulary: of a text, classes at most, or None for as many as usual.
        width: of a language model's layers, or None for the usual one.
        rates: learning rates in the place of the variants' own, each as `variant=rate`.
        train_batch: images, or windows of a text, of a training step; None for the variant's own.
    """

    heads: tuple[str, ...] = field(metadata=checked(each, name, 1, LONGEST_CALL))
    classes: tuple[int, ...] = field(metadata=checked(each, count, 2))
    batches: tuple[int, ...] = field(metadata=checked(each, count, 1))
    model_classes: tuple[int, ...] = field(metadata=checked(each, count, 2))
    passes: int = field(metadata=checked(count, 1))
    trained: tuple[str, ...] = field(metadata=checked(each, name, 1, LONGEST_CALL))
    epochs: int = field(default=10, metadata=checked(count, later=True))
    train_images: int | None = field(default=None, metadata=checked(optional, count, 1, later=True))
    seeds: int = field(default=1, metadata=checked(count, 1, later=True))
    channels: int | None = field(default=None, metadata=checked(optional, count, 1, later=True))
    patience: int | None = field(default=None, metadata=checked(optional, count, 1, later=True))
    pipelines: tuple[str, ...] = field(default=(), metadata=checked(each, name, later=True))
    split_steps: int = field(default=0, metadata=checked(count, later=True))
    features: tuple[int, ...] = field(default=(128,), metadata=checked(_widths, later=True))
    labels: tuple[str, ...] = field(
        default=(labels.UNIFORM,), metadata=checked(each, _labels, later=True)
    )
    states: tuple[State, ...] = field(
        default=("untrained",), metadata=checked(each, choice, STATES, later=True)
    )
    dtypes: tuple[str, ...] = field(default=("float32",), metadata=checked(each, name, later=True))
    optimizers: tuple[str, ...] = field(default=("sgd",), metadata=checked(each, name, later=True))
    modes: tuple[Mode, ...] = field(
        default=("eager",), metadata=checked(each, choice, MODES, later=True)
    )
    ranks: tuple[int, ...] = field(default=(1,), metadata=checked(each, count, 1, later=True))
    product: bool = field(default=False, metadata=checked(flag, later=True))
    phases: tuple[Phase, ...] = field(
        default=PHASES, metadata=checked(each, choice, PHASES, later=True)
    )
    heavy_passes: int = field(default=HEAVY_PASSES, metadata=checked(count, 1, later=True))
    a_a: str = field(default="softmax", metadata=checked(name, 1, LONGEST_CALL, later=True))
    model: str = field(default="tinyvgg", metadata=checked(choice, tuple(CASES), later=True))
    vocabulary: int | None = field(default=None, metadata=checked(optional, count, 3, later=True))
    width: int | None = field(default=None, metadata=checked(optional, count, 1, later=True))
    rates: tuple[str, ...] = field(default=(), metadata=checked(each, _rate, later=True))
    train_batch: int | None = field(default=None, metadata=checked(optional, count, 1, later=True))

    @property
    def visits(self) -> int:
        """At most so many lines of the journal, and trainings, without counting them out."""
        values = [len(getattr(self, axis)) for axis in AXES]
        combinations = prod(values) if self.product else 1
        isolated = len(self.phases) * len(self.classes) * len(self.batches) * combinations
        in_model = len(self.model_classes) * len(self.batches) * combinations
        if not self.product:
            isolated += 2 * FEW * len(self.phases) * sum(values)
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
        states=("unsure",),
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
        labels=(labels.UNIFORM, "zipf:1"),
        states=("unsure", "sure"),
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
        labels=(labels.UNIFORM, "zipf:1"),
        states=("unsure", "sure", "untrained"),
        optimizers=("sgd", "momentum", "adam", "adamw", "adagrad"),
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
    # Pairs of as many classes in all, and of as many on each rank.
    "scaling": Sweep(
        heads=("softmax", "softmax-chunked", "hierarchical", "gumbel"),
        classes=(2**22, 2**23, 2**24, 2**25),
        batches=(512, 4_096),
        features=(128, 1_024),
        dtypes=("float32", "bfloat16"),
        ranks=(1, 2, 4, 8),
        product=True,
        phases=("train",),
        model_classes=(),
        passes=2,
        trained=(),
    ),
    "words": Sweep(
        heads=(
            *("softmax", "softmax-chunked", "gumbel", "sampled", "adaptive", "two-level"),
            *("hierarchical", "hierarchical-dense", "hierarchical(tree=huffman)"),
        ),
        classes=(VOCABULARY,),
        batches=(CASES["words"].batch,),
        model_classes=(VOCABULARY,),
        phases=("train",),
        passes=2,
        labels=("zipf:1",),
        optimizers=("adam",),
        trained=tuple(CASES["words"].variants),
        epochs=1,
        train_images=300_000,
        seeds=3,
        model="words",
    ),
    "peers": Sweep(
        heads=(
            *(name for name in heads.names() if name not in AS_PUBLISHED),
            *("torch-adaptive", "linear-cross-entropy", "linear-cross-entropy-chunked"),
            *("linear-cross-entropy-auto", "fasttext", "gensim"),
            *("liger", "liger-chunked", "cut-cross-entropy", "quack", "quack-chunked"),
        ),
        classes=(100, 2**14, 2**17, 2**20),
        batches=(128, 512),
        phases=("train", "predict"),
        model_classes=(),
        passes=4,
        heavy_passes=3,
        trained=(),
        # Peers that make their own data predict untrained.
        states=("unsure", "untrained"),
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
        make: builds a cell from (scope, head, phase, classes, batch) and fields by name; it decides
            on the features of in-model cells.
    """
    standard = {taken: getattr(sweep, axis)[0] for axis, (taken, _) in AXES.items()}

    def cell(scope: str, call: str, phase: Phase, classes: int, batch: int, **fields: Any) -> Cell:
        head, options = called(call)
        there = _depended_on(head, phase, {**standard, **fields}, standard)
        there["labels"] = labels.name(there["labels"])
        return make(scope, head, phase, classes, batch, options=options, **there)

    def there_is(phase: Phase, setting: Mapping[str, Any]) -> bool:
        there = {**standard, **setting}
        return phase in WHOLE or all(there[field] == one for field, one in UNDIVIDED.items())

    def some(field: str, value: Any) -> Sequence[int]:
        """Class counts at which a value other than the standard is measured."""
        chosen = few(sweep.classes)
        if field != "ranks":
            return chosen
        # As many classes in all as one rank has elsewhere, and as many on each.
        return list(dict.fromkeys((*chosen, *(value * classes for classes in chosen))))

    sizes = list(product(sweep.classes, sweep.batches))
    inside = list(product(sweep.model_classes, sweep.batches))
    settings = [standard]
    if sweep.product:
        values = [getattr(sweep, axis) for axis in AXES]
        settings = [dict(zip(standard, each, strict=True)) for each in product(*values)]
    cells = [
        *(
            cell("isolated", head, phase, *size, **setting)
            for head, phase, size, setting in product(sweep.heads, sweep.phases, sizes, settings)
            if there_is(phase, setting)
        ),
        *(
            cell("in-model", head, "train", *size, **setting)
            for head, size, setting in product(sweep.heads, inside, settings)
        ),
        *(
            cell("isolated", head, phase, classes, usual(sweep.batches), **{taken: value})
            for axis, (taken, phases) in AXES.items()
            for value in getattr(sweep, axis)[1:]
            for head, phase, classes in product(sweep.heads, phases, some(taken, value))
            if phase in sweep.phases and there_is(phase, {taken: value})
        ),
    ]
    twins = [
        replace(one, replica=1)
        for one in (
            cell("isolated", sweep.a_a, phase, *size)
            for phase, size in product(sweep.phases, sizes)
            if there_is(phase, standard)
        )
        if not is_heavy(one)
    ]
    return [*dict.fromkeys(cells), *twins]


def called(call: str) -> tuple[str, str]:
    """A head or a peer and its options, spelt as a cell has them.

    Raises:
        ValueError: there is no such head or peer, or it has no such option.
    """
    name, options = parse(call)
    if name not in (known := (*heads.names(), *peers.names())):
        raise ValueError(f"no head called {name!r}; there are: {', '.join(known)}")
    if name in peers.names():
        if options:
            raise ValueError(f"{name} is a peer, and has no options")
        return name, ""
    head, options = heads.called(call)
    return head, spell(options)


def _depended_on(
    head: str, phase: Phase, fields: dict[str, Any], standard: Mapping[str, Any]
) -> dict[str, Any]:
    """A cell's fields, those that make no difference to it at their standard."""
    free = set() if phase in ("step", "train") else {"optimizer"}
    if phase != "predict":
        fields = fields | {"state": "untrained"}
    elif fields["ranks"] != 1:
        free |= {"labels", "state"}  # every rank scores all of its classes
    known = peers.PEERS[head].twin if head in peers.names() else head
    if not heads.depends_on_labels(known, phase):
        free |= {"labels"} if phase != "predict" else {"labels", "state"}
    elif phase == "predict" and fields["state"] == "untrained":
        free |= {"labels"}
    return fields | {one: standard[one] for one in free}


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


def timed_as(cell: Cell) -> Cell:
    """The cell whose calls are timed for `cell`: all phases of training are laps of its step."""
    return cell if cell.phase == "predict" else cell.subject


def contest(cell: Cell) -> Cell:
    """What all have in common that are measured in turns with `cell`."""
    return replace(timed_as(cell).contest, labels="uniform", state="untrained")


def grouped(cells: Iterable[Cell], key: Callable[[Cell], Cell]) -> dict[Cell, list[Cell]]:
    """`cells` that have the same `key`, in their order."""
    groups: dict[Cell, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return groups
