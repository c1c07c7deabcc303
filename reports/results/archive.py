"""A run that came as a zip: read from a temporary folder that goes when the process ends.

A zip from anybody may claim anything. Of its files those alone are unpacked that reports read,
under the names they have in every run; a zip that could be meant to do harm is refused whole.
"""

from __future__ import annotations

import atexit
import io
import re
import shutil
import stat
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from reports.results.folder import ResultsError, folder_of

READ = re.compile(
    r"run\.json|journal\.jsonl|training/[^/]+\.json|traces/[^/]+/[^/]+\.pt\.trace\.json(\.gz)?"
)
"""Files of a run that reports read; the others stay in the zip."""

MARKS = ("run.json", "journal.jsonl")
"""A folder that holds either is a run's."""

MOST_BYTES = 2 * 2**30
"""To unpack: three times what the journal of 200,000 cells takes."""

MOST_TIMES = 100
"""As large as the zip, likewise: a run's files shrink to between a third and a twentieth."""

MOST_FILES = 10_000
"""To unpack: a study has hundreds of trainings."""

MOST_LISTED = 16 * 2**20
"""Bytes of the zip's own list of files, which is read in one piece: 100,000 files and more."""

PLAIN = (0, stat.S_IFREG, stat.S_IFDIR)
"""What a file may be; 0 where the zip does not say."""

BROKEN = (BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError)
"""What the standard library raises on zips that are none, or damaged, or of another kind."""


def locate(run: str, results: Path) -> Path:
    """The folder of what `run` means: as `folder_of`, or a zip by its path or name.

    Raises:
        ResultsError: there is neither, or the zip is not that of one run.
    """
    for path in () if run == "latest" else (Path(run), results / run):
        if path.is_dir():
            return path
        if path.is_file():
            return unpack(path)
    return folder_of(run, results)


def unpack(path: Path) -> Path:
    """The run in a zip, as a folder with what is read of it; its name is the run's.

    Raises:
        ResultsError: it is not the whole zip of one run, is meant to do harm, or finds no room.
    """
    try:
        with _Listed(io.FileIO(path)) as file, ZipFile(file) as zipped:
            name, files = _run(path, zipped.infolist())
            temporary = mkdtemp(prefix="headbench-")
            atexit.register(shutil.rmtree, temporary, ignore_errors=True)
            # As runs lie where they are measured: the page speaks of results/<run>.
            folder = Path(temporary, "results", name)
            for target, member in files.items():
                _copy(zipped, member, folder / target)
    except BROKEN as error:
        raise ResultsError(
            f"{path} is not a whole zip ({error}): expected that of a run's folder"
        ) from None
    except OSError as error:
        raise ResultsError(
            f"cannot unpack {path} ({error.strerror or error}): unzip it and name its folder"
        ) from None
    return folder


class _Listed(io.BufferedReader):
    """A file of which no more than a list of `MOST_LISTED` bytes is read in one piece."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MOST_LISTED:
            raise BadZipFile(f"a list of files of {size:,} bytes")
        return super().read(size)


def _copy(zipped: ZipFile, member: ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipped.open(member) as packed, target.open("xb") as file:
        shutil.copyfileobj(packed, file)  # at most as much as it claims to hold


def _run(path: Path, members: Iterable[ZipInfo]) -> tuple[str, Mapping[str, ZipInfo]]:
    """The name of the one run in a zip, and its files by their places in the run's folder."""
    inside = [(_place(path, member), member) for member in members]
    roots = dict.fromkeys(place.parent for place, _ in inside if place.name in MARKS)
    if len(roots) != 1:
        found = f"{len(roots)} runs ({_named(roots)})" if roots else "no run"
        raise ResultsError(
            f"{path} holds {found}: expected the zip of one run's folder, with its run.json"
        )
    (root,) = roots
    files: dict[str, ZipInfo] = {}
    for place, member in inside:
        target = str(place.relative_to(root)) if place.is_relative_to(root) else ""
        if READ.fullmatch(target) and not member.is_dir():
            if target in files:
                raise ResultsError(f"{path} holds {target!r} twice: which is meant cannot be told")
            files[target] = member
    _check_size(path, files.values())
    return root.name or path.stem.strip(".") or "run", files


def _place(path: Path, member: ZipInfo) -> PurePosixPath:
    """Where a file lies in the zip."""
    place = PurePosixPath(member.filename.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts:
        raise ResultsError(f"{path} holds {str(place)!r}, outside of itself: do not unpack it")
    if stat.S_IFMT(member.external_attr >> 16) not in PLAIN:
        raise ResultsError(
            f"{path} holds {str(place)!r}, a link or device: zip the files themselves, without -y"
        )
    return place


def _check_size(path: Path, files: Iterable[ZipInfo]) -> None:
    """Raises a `ResultsError` unless files can be unpacked, and are of a size to be expected."""
    files = list(files)
    for member in files:
        if member.flag_bits & 1:
            raise ResultsError(f"{path} is encrypted: unzip it and name its folder")
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise ResultsError(
                f"{path} is packed in a way that is not read here: pack it with zip -r"
            )
    size = sum(member.file_size for member in files)
    if size > min(MOST_BYTES, MOST_TIMES * path.stat().st_size) or len(files) > MOST_FILES:
        raise ResultsError(
            f"{path} unpacks to {len(files):,} files of {size:,} bytes: expected at most "
            f"{MOST_FILES:,} files, {MOST_BYTES:,} bytes and {MOST_TIMES} times its own size"
        )


def _named(roots: Iterable[PurePosixPath], most: int = 3) -> str:
    names = [repr(str(root)) for root in roots]
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([*names[:most], *more])
