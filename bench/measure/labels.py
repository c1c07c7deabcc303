"""How often each class occurs: counts under a name, and targets drawn from them."""

from __future__ import annotations

import json
import math
import zlib
from argparse import ArgumentTypeError
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from reports.arguments import number, shown

UNIFORM = "uniform"
LARGEST_FILE = 2**28
"""Bytes of a file of counts: ten times what as many classes take as anybody has published."""

LONGEST_STEM = 40
"""Of a file's name, in that of its labels."""

_FILES: dict[str, Tensor] = {}
"""Labels that came from a file -> their counts."""


def parse(given: str) -> str:
    """The labels that are asked for, spelt so that `parse` gives them again in another process.

    Args:
        given: `uniform`; `zipf` or `zipf:S`, S the exponent; `words:LANGUAGE`; or a file of counts.
            Of a file, what is returned holds a checksum.

    Raises:
        ValueError: in one line, what is wrong with them.
    """
    kind, _, detail = given.partition(":")
    if given == UNIFORM:
        return given
    if kind == "zipf":
        try:
            return f"zipf:{number(0.01, 4)(detail or '1'):g}"
        except ArgumentTypeError as error:
            raise ValueError(f"zipf:S: {error}") from None
    if kind == "words":
        _words(detail)
        return given
    path, _, checksum = given.removeprefix("counts:").partition("#")
    return _take_in(Path(path), checksum)


def name(labels: str) -> str:
    """What a cell calls these labels: short, and another one for other counts."""
    kind, _, detail = labels.partition(":")
    if kind != "counts":
        return labels
    path, _, checksum = detail.partition("#")
    stem = "".join(c if c.isprintable() else "?" for c in Path(path).stem)
    return f"counts:{stem[:LONGEST_STEM]}#{checksum}"


def most_classes(labels: str) -> int | None:
    """How many classes these labels know, as a cell or `parse` names them; None for any number."""
    kind, _, detail = labels.partition(":")
    if kind == "words":
        return len(_words(detail))
    return len(_FILES[name(labels)]) if kind == "counts" else None


@lru_cache(maxsize=4)
def counts(labels: str, classes: int) -> Tensor:
    """How often each of `classes` occurs, up to a factor: (classes,), float64 on the CPU.

    Zipf's and a language's classes are numbered by descending frequency, as vocabularies are. Of
    more counts than classes, the largest are taken, in the order in which they stand.

    Args:
        labels: as a cell has them.
        classes: how many there are.

    Raises:
        ValueError: there are more classes than counts.
    """
    kind, _, detail = labels.partition(":")
    if kind == UNIFORM:
        return torch.ones(classes, dtype=torch.float64, device="cpu")
    if kind == "zipf":
        ranks = torch.arange(1, classes + 1, dtype=torch.float64, device="cpu")
        return ranks.pow(-float(detail))
    known = _words(detail) if kind == "words" else _FILES[labels]
    if classes > len(known):
        raise ValueError(f"labels {labels} are of {len(known):,} classes, not of {classes:,}")
    if classes == len(known):
        return known
    return known[known.argsort(descending=True, stable=True)[:classes].sort().values]


def draw(labels: str, classes: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Independent targets, from torch's global generator of the device: int64 of this shape."""
    if labels == UNIFORM:
        return torch.randint(classes, shape, device=device)
    ends = counts(labels, classes).cumsum(0).to(device)
    drawn = torch.rand(shape, dtype=torch.float64, device=device) * ends[-1]
    # Rounding may lift a draw to the end, where there is no class.
    last = int(counts(labels, classes).nonzero()[-1])
    return torch.searchsorted(ends, drawn, right=True).clamp_(max=last)


def _take_in(path: Path, checksum: str = "") -> str:
    """Read a file of counts; its name from then on.

    Args:
        path: text, one number for each class, parted by blanks, commas or line ends; or JSON, a
            list of numbers or an object of them.
        checksum: of what was read earlier, if it was.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"{path}: more than {LARGEST_FILE // 2**20} MiB are no file of counts")
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(
            f"expected uniform, zipf, zipf:S, words:LANGUAGE or a file of counts; "
            f"there is no file {shown(str(path))}"
        ) from None
    except OSError as error:
        raise ValueError(f"cannot read {shown(str(path))} ({error.strerror})") from None
    found = f"{zlib.crc32(content):08x}"
    if checksum not in ("", found):
        raise ValueError(f"{path} has other counts than when the run began")
    labels = f"counts:{path.absolute()}#{found}"
    values = _numbers(path, content)
    if len(values) < 2:
        raise ValueError(f"{path}: expected a count for each of at least 2 classes")
    for place, value in enumerate(values):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(
                f"{path}: count {place + 1} must be at least 0 and finite, got {value}"
            )
    if not any(values):
        raise ValueError(f"{path}: all counts are 0")
    _FILES[name(labels)] = torch.tensor(values, dtype=torch.float64, device="cpu")
    return labels


def _numbers(path: Path, content: bytes) -> list[float]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: neither text nor JSON") from None
    if text.lstrip()[:1] not in ("[", "{"):
        words = text.replace(",", " ").split()
        for place, word in enumerate(words):
            try:
                float(word)
            except ValueError:
                raise ValueError(
                    f"{path}: expected numbers, got {shown(word)} as number {place + 1}"
                ) from None
        return [float(word) for word in words]
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: damaged JSON") from None
    values = list(values.values()) if isinstance(values, dict) else values
    for place, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(
                f"{path}: expected numbers, got {shown(str(value))} as number {place + 1}"
            )
    try:
        return [float(value) for value in values]
    except OverflowError:
        raise ValueError(f"{path}: a count is too large") from None


@lru_cache(maxsize=2)
def _words(language: str) -> Tensor:
    """Frequencies of a language's words, descending: (n,)."""
    try:
        library = import_module("wordfreq")
    except ImportError:
        raise ValueError(
            "words:LANGUAGE needs the optional extra 'words' (wordfreq), which is not installed"
        ) from None
    known = library.available_languages("best")
    if language not in known:
        raise ValueError(
            f"no words of language {shown(language)}; there are: {', '.join(sorted(known))}"
        )
    frequencies = library.get_frequency_dict(language, wordlist="best").values()
    return torch.tensor(sorted(frequencies, reverse=True), dtype=torch.float64, device="cpu")
