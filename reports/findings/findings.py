"""Everything that a report says, computed once from a run's raw samples."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from functools import cached_property

from reports.findings import joined
from reports.findings.clocks import Clock, by, clocks
from reports.findings.fastest import Fastest, fastest
from reports.findings.growth import Growth, allowance, growths
from reports.findings.joined import Cell, Memory, Setting
from reports.findings.trained import Trained, trained
from reports.results import Run
from reports.stats.crossover import Crossover, crossover
from reports.stats.estimates import Interval, NoiseFloor, Scatter, noise_floor
from reports.stats.paired import Known, LocalFloor, local_floors


@dataclass(frozen=True)
class HeadRow:
    """One head in a line: cost at the reference cell, joined with what its training reached.

    Attributes:
        step: seconds of a training step of the head alone, at `Findings.reference`.
        memory: of that step.
        trained: of the variant that bears the head's name; None where it was not trained.
    """

    head: str
    step: Interval | None
    memory: Memory | None
    trained: Trained | None


@dataclass(frozen=True)
class Overtake:
    """Where `head` overtakes the incumbent at one batch size; `sizes` are the ends of the range."""

    head: str
    batch: int
    where: Crossover
    sizes: tuple[int, int]

    @property
    def certain(self) -> bool:
        """Whether the whole interval lies within the sizes measured."""
        at = self.where.at
        return at is not None and self.sizes[0] <= at.low and at.high <= self.sizes[1]


@dataclass(frozen=True, eq=False)
class Findings:
    """A run and what follows from it. Statistics are computed when first asked for.

    Attributes:
        run: as measured.
        known: how much passes differ, learned from all cells and pairs.
        cells: all of them, see `reports.findings.joined.join`.
        alone: setting of the heads measured alone; None where there are none.
        in_model: setting of TinyVGG with each head.
        batch: the batch size that figures and verdicts speak of.
        measured: cells that the run has; more than `cells` holds where those are a summary.
        clock: that the times were read from.
        as_read: the run with all of its cells and clocks.
    """

    run: Run
    known: Known
    cells: tuple[Cell, ...]
    alone: Setting | None
    in_model: Setting | None
    batch: int
    measured: int
    clock: Clock
    as_read: Run

    @property
    def summarised(self) -> bool:
        """Whether there are more cells than a page can show."""
        return self.measured > len(self.cells)

    @property
    def scatter(self) -> Scatter:
        """Between passes of a cell."""
        return self.known.cells

    @property
    def in_turns(self) -> bool:
        """Whether rivals were measured in turns, so that they are compared turn by turn."""
        return any(any(cell.blocks) for cell in self.cells)

    @cached_property
    def _same(self) -> list[tuple[Cell, Cell]]:
        return joined.same(self.cells)

    @cached_property
    def floor(self) -> NoiseFloor:
        """The noise floor of all comparisons: what the A/A pairs say, paired as rivals are."""
        return noise_floor([self.known.ratio(*halves) for halves in self._same])

    @cached_property
    def floors(self) -> tuple[LocalFloor, ...]:
        """That of cells of about one duration, the shortest first."""
        return local_floors(self._same, self.known)

    @cached_property
    def floor_by_clock(self) -> dict[Clock, NoiseFloor]:
        """The noise floor on each of the run's clocks."""
        return {
            clock: self.floor if clock == self.clock else find(self.as_read, clock).floor
            for clock in clocks(self.as_read)
        }

    @property
    def margin(self) -> float:
        """Differences within this share are noise; 0 where the run holds no A/A pair."""
        return self.floor.difference.estimate

    def ratio(self, above: Cell, below: Cell) -> Interval:
        """How many times as long a cell takes as another: turn by turn where they took turns."""
        return self.known.ratio(above, below)

    def alone_at(
        self, phase: str, batch: int | None = None, classes: int | None = None
    ) -> list[Cell]:
        """Cells of the heads alone in one phase, of all batches and class counts unless given."""
        return [
            cell
            for cell in self._alone.get(phase, ())
            if batch in (None, cell.batch) and classes in (None, cell.classes)
        ]

    @cached_property
    def _alone(self) -> dict[str, list[Cell]]:
        """Phase -> cells of the heads alone."""
        phases: dict[str, list[Cell]] = defaultdict(list)
        for cell in self.cells:
            if self.alone and self.alone.holds(cell):
                phases[cell.phase].append(cell)
        return phases

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting that heads were measured alone in: `alone`, then the others."""
        return joined.settings(self.cells, self.alone)

    def under(self, setting: Setting) -> Findings:
        """The same run, seen from another setting of the heads alone."""
        cells = [cell for cell in self.cells if setting.holds(cell)]
        known = self.batch in {cell.batch for cell in cells}
        batch = self.batch if known else joined.usual_batch(cells)
        return replace(self, alone=setting, batch=batch)

    def in_model_at(self, batch: int) -> list[Cell]:
        """Training steps of TinyVGG with each head, at the smallest class count."""
        steps = [
            cell
            for cell in self.cells
            if self.in_model
            and self.in_model.holds(cell)
            and cell.phase == "train"
            and cell.batch == batch
            and cell.samples
        ]
        least = min((cell.classes for cell in steps), default=0)
        return [cell for cell in steps if cell.classes == least]

    @cached_property
    def growths(self) -> tuple[Growth, ...]:
        """Evidence on how each head and phase grows, at `batch`."""
        machine = self.run.facts.get("machine")
        return growths(
            (
                cell
                for cell in self.cells
                if self.alone and self.alone.holds(cell) and cell.batch == self.batch
            ),
            allowance(machine if isinstance(machine, dict) else {}),
        )

    @cached_property
    def trained(self) -> tuple[Trained, ...]:
        """What the trainings reached."""
        return trained(self.run.trainings, self.run.machine)

    def fastest(self, phase: str) -> tuple[Fastest, ...]:
        """The fastest head at every class count and batch size."""
        return fastest(self.alone_at(phase), self.known, self.floors)

    def fastest_of(self, phase: str, heads: Set[str]) -> tuple[Fastest, ...]:
        """The fastest of some heads, likewise."""
        cells = [cell for cell in self.alone_at(phase) if cell.head in heads]
        return fastest(cells, self.known, self.floors)

    @property
    def incumbent(self) -> str:
        """The head that others have to overtake: the plain softmax, or the run's first."""
        return "softmax" if "softmax" in self.run.heads else self.run.heads[0]

    def overtakes(self, phase: str) -> tuple[Overtake, ...]:
        """From which class count on each other head beats the incumbent, per batch size."""
        groups: dict[tuple[str, int], dict[int, Cell]] = defaultdict(dict)
        for cell in self.alone_at(phase):
            if cell.samples:
                groups[cell.head, cell.batch][cell.classes] = cell
        found = []
        for (head, batch), challenger in groups.items():
            incumbent = groups.get((self.incumbent, batch), {})
            sizes = sorted(challenger.keys() & incumbent.keys())
            if head != self.incumbent and sizes:
                where = crossover(
                    sizes,
                    [incumbent[n].samples for n in sizes],
                    [challenger[n].samples for n in sizes],
                    changes=[self.ratio(challenger[n], incumbent[n]) for n in sizes],
                )
                found.append(Overtake(head, batch, where, (sizes[0], sizes[-1])))
        return tuple(found)

    @cached_property
    def reference(self) -> int | None:
        """The largest class count at which a training step of every head was timed, at `batch`."""
        heads: dict[int, int] = {}
        for cell in self.alone_at("train", self.batch):
            heads[cell.classes] = heads.get(cell.classes, 0) + bool(cell.samples)
        most = max(heads.values(), default=0)
        return max((n for n, count in heads.items() if count == most), default=None)

    @cached_property
    def heads(self) -> tuple[HeadRow, ...]:
        """One row per head of the run; its training is the variant of its name, else its first."""
        reached = {row.head: row for row in reversed(self.trained)}
        reached |= {row.variant: row for row in self.trained}
        steps = {c.head: c for c in self.alone_at("train", self.batch, self.reference)}
        return tuple(
            HeadRow(
                head,
                steps[head].seconds if head in steps else None,
                steps[head].memory if head in steps else None,
                reached.get(head),
            )
            for head in self.run.heads
        )

    def in_model_ratio(self, head: str, other: str, batch: int) -> Interval | None:
        """How many times as long a training step of TinyVGG takes with `head` as with `other`."""
        steps = {cell.head: cell for cell in self.in_model_at(batch)}
        if head not in steps or other not in steps:
            return None
        return self.ratio(steps[head], steps[other])


def by_head(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Head -> its cells, in the order in which they occur."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.head, []).append(cell)
    return groups


def find(run: Run, clock: Clock | None = None) -> Findings:
    """Look at a run; of one with very many cells, at a coarser grid: see `joined.summary`.

    Args:
        run: as read.
        clock: to read times from; where None, the device's if it was measured.

    Raises:
        ValueError: the run has no such clock.
    """
    as_read, clock = run, clock or clocks(run)[0]
    run, measured = joined.summary(by(run, clock))
    scatter = joined.scatter(run)
    cells = joined.join(run, scatter)
    alone = joined.usual_setting(cells, "isolated")
    return Findings(
        run=run,
        known=joined.learn(cells, scatter),
        cells=cells,
        alone=alone,
        in_model=joined.usual_setting(cells, "in-model"),
        batch=joined.usual_batch(c for c in cells if alone is None or alone.holds(c)),
        measured=measured,
        clock=clock,
        as_read=as_read,
    )
