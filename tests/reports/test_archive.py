"""A run that was zipped, sent and is read elsewhere says what its folder says; no other zip is."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports import __main__ as report
from reports import advise, compare, summary
from reports.results import ResultsError, archive, folder_of, load, locate
from reports.results.traces import operators
from tests.reports.synthetic import cell, timed, training, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with times, a training and traces."""
    cells = [cell(h, "train", n, 32) for h in ("softmax", "gumbel") for n in (16, 256, 4096)]
    lines = [timed(one, k, [1e-3 + 1e-7 * one["classes"]] * 6) for k in range(2) for one in cells]
    folder = tmp_path_factory.mktemp("sent") / "results" / "a run"
    return write_run(folder, lines, [training("softmax")])


@pytest.fixture(scope="module")
def sent(run: Path) -> Path:
    """Its zip, as one makes it."""
    path = run.parent / "sent.zip"
    command = [sys.executable, "-m", "zipfile", "-c", str(path), run.name]
    subprocess.run(command, cwd=run.parent, check=True)
    return path


def zipped(path: Path, files: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def said_of(run: Path) -> dict[str, object]:
    """All that was read of a run but where it lies."""
    found = vars(load(run)) | {"folder": None}
    return {name: repr(value) for name, value in found.items() if name != "traces"}


def test_a_zip_says_what_the_folder_says(run: Path, sent: Path) -> None:
    here, there = load(run), load(locate(str(sent), Path("results")))
    assert there.name == here.name == "a run"
    assert said_of(there.folder) == said_of(run)
    assert [[operators(one) for one in found] for found in there.traces.values()] == [
        [operators(one) for one in found] for found in here.traces.values()
    ]


def test_all_that_takes_a_run_takes_its_zip(
    run: Path, sent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for name in (str(run), str(sent)):
        compare.main([name, name])
        advise.main(["--classes", "500", "--batch", "32", "--run", name])
        summary.main([name])
        told.append(capsys.readouterr())
    assert told[0] == told[1]
    pages = []
    for name in (str(run), str(sent)):
        assert report.main([name, "--output", str(tmp_path)]) == 0
        pages.append((tmp_path / "a run.html").read_bytes())
    assert pages[0] == pages[1]


def test_a_zip_is_found_by_name_among_the_results(sent: Path) -> None:
    assert load(locate(sent.name, sent.parent)).name == "a run"


UNPACK = """
import os, sys
from pathlib import Path
from reports.results import locate
found = locate(sys.argv[1], Path("results"))
assert found.is_relative_to(os.environ["TMPDIR"]) and (found / "run.json").is_file()
"""


def test_the_temporary_folder_is_gone_when_the_process_has_ended(
    run: Path, sent: Path, tmp_path: Path
) -> None:
    before = sorted(path.name for path in run.parent.iterdir())
    subprocess.run(
        [sys.executable, "-c", UNPACK, str(sent)],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        check=True,
    )
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("headbench")]
    assert sorted(path.name for path in run.parent.iterdir()) == before


def test_a_run_is_resumed_in_its_folder_only(sent: Path) -> None:
    with pytest.raises(ResultsError, match=r"no run .*sent\.zip"):
        folder_of(str(sent), sent.parent)


@pytest.mark.parametrize(
    ("prefix", "name"),
    [("", "sent"), ("./", "sent"), ("a/b/", "b"), ("results\\b\\", "b"), ("b//", "b")],
)
def test_a_run_may_lie_anywhere_in_the_zip(tmp_path: Path, prefix: str, name: str) -> None:
    files = {f"{prefix}run.json": '{"schema": 2}', f"{prefix}training/softmax.json": "{}"}
    path = zipped(tmp_path / "sent.zip", files | {"README": "look"})
    found = locate(str(path), tmp_path)
    assert found.name == name
    assert {str(one.relative_to(found)) for one in found.rglob("*") if one.is_file()} == {
        "run.json",
        "training/softmax.json",
    }


@pytest.mark.parametrize("name", ["...zip", "..zip", ".zip", "latest.zip"])
def test_whatever_the_zip_is_called_nothing_lands_beside_the_temporary_folder(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "mkdtemp", lambda prefix: str(tmp_path / "temporary" / "own"))
    locate(str(zipped(tmp_path / name, {"run.json": "{}"})), tmp_path)
    found = [path.relative_to(tmp_path) for path in tmp_path.rglob("run.json")]
    assert len(found) == 1
    assert found[0].parts[:2] == ("temporary", "own")


def test_what_reports_do_not_read_stays_in_the_zip(sent: Path, tmp_path: Path) -> None:
    path = shutil.copy(sent, tmp_path / "more.zip")
    with zipfile.ZipFile(path, "a") as made:
        for name in ("setup.py", "training/softmax-seed0.checkpoint", "traces/a/events.out.1"):
            made.writestr(f"a run/{name}", "x")
        made.writestr("a run/run.json.exe", "x")
    found = locate(str(path), tmp_path)
    assert {one.suffix for one in found.rglob("*") if one.is_file()} == {".json", ".jsonl", ".gz"}


def attributes(mode: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as made:
            made.writestr("run/run.json", "{}")
            entry = zipfile.ZipInfo("run/journal.jsonl")
            entry.external_attr = mode << 16
            made.writestr(entry, "/etc/passwd")

    return make


def of(**files: str) -> Callable[[Path], object]:
    named = {name.replace("__", "/"): content for name, content in files.items()}
    return lambda path: zipped(path, named)


def flagged(path: Path) -> None:
    """As an encrypted zip is, to whoever has no password."""
    zipped(path, {"run.json": "{}"})
    content = bytearray(path.read_bytes())
    for start, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(start) + place] |= 1
    path.write_bytes(content)


def twice(path: Path) -> None:
    zipped(path, {"run.json": "{}", "run.jsOn": '{"other": 1}'})
    path.write_bytes(path.read_bytes().replace(b"run.jsOn", b"run.json"))


def otherwise(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as made:
        made.writestr("run.json", "{}")


def damaged(path: Path) -> None:
    zipped(path, {"run.json": '{"schema": 2}'})
    content = bytearray(path.read_bytes())
    content[40] ^= 0xFF
    path.write_bytes(content)


def claiming(size: int) -> Callable[[Path], None]:
    """A zip whose list says of a file that it holds so many bytes."""

    def make(path: Path) -> None:
        zipped(path, {"run.json": "{}"})
        content = path.read_bytes()
        place = content.index(b"PK\x01\x02") + 24
        path.write_bytes(content[:place] + size.to_bytes(4, "little") + content[place + 4 :])

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of(**{"../run.json": "{}"}), r"'\.\./run\.json', outside of itself"),
        (of(**{"run.json": "{}", "x/../../y": ""}), r"outside of itself"),
        (of(**{"run.json": "{}", "..\\y": ""}), r"outside of itself"),
        (of(**{"/tmp/run.json": "{}"}), r"outside of itself"),
        (attributes(stat.S_IFLNK | 0o777), "a link or device"),
        (attributes(stat.S_IFCHR | 0o777), "a link or device"),
        (of(**{"run.json": "{}", "journal.jsonl": "0" * 10_000_000}), "10,000,002 bytes"),
        (claiming(2**32 - 2), "4,294,967,294 bytes"),
        (flagged, "is encrypted"),
        (twice, r"'run\.json' twice"),
        (otherwise, "packed in a way"),
        (damaged, "is not a whole zip"),
        (of(a__run="", b__run=""), "holds no run"),
        (of(), "holds no run"),
        (of(**{f"{name}/run.json": "{}" for name in "abcde"}), r"5 runs \('a', 'b', 'c', 2 more\)"),
        (of(**{"run.json": "{}", "a/journal.jsonl": ""}), r"2 runs \('\.', 'a'\)"),
        (lambda path: path.write_bytes(b""), "is not a whole zip"),
        (lambda path: path.write_text('{"benchmarks": []}'), "is not a whole zip"),
        (of(**{f"{'x' * 300}/run.json": "{}"}), "cannot unpack"),
    ],
)
def test_any_other_zip_is_refused_in_one_line(
    tmp_path: Path, make: Callable[[Path], object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sent.zip"
    make(path)
    with pytest.raises(ResultsError, match=said) as refused:
        locate(str(path), tmp_path)
    assert "\n" not in str(refused.value)
    for main in (report.main, summary.main):
        assert main([str(path)]) == 2
    assert compare.main([str(path), str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith(f"error: {refused.value}"[:30]) for line in lines] == [True] * 3


def test_a_list_of_files_is_not_read_whatever_its_size(
    sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_LISTED", 100)
    with pytest.raises(ResultsError, match="a list of files of"):
        locate(str(sent), tmp_path)


def test_no_run_has_so_many_files(
    sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MOST_FILES", 5)
    with pytest.raises(ResultsError, match="unpacks to 6 files"):
        locate(str(sent), tmp_path)


def test_a_full_disk_is_one_line(
    sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.shutil, "copyfileobj", full)
    with pytest.raises(ResultsError, match=r"cannot unpack .*No space left on device"):
        locate(str(sent), tmp_path)


SMALL = io.BytesIO()
with zipfile.ZipFile(SMALL, "w", zipfile.ZIP_DEFLATED) as whole:
    whole.writestr("run/run.json", '{"schema": 2}')
    whole.writestr("run/journal.jsonl", '{"kind": "time"}\n' * 9)

place = st.integers(0, len(SMALL.getvalue()) - 1)


@settings(
    max_examples=int(os.environ.get("HOSTILE_EXAMPLES", "100")),
    derandomize="HOSTILE_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changed=st.lists(st.tuples(place, st.integers(0, 255)), max_size=4), end=place)
def test_a_damaged_zip_is_read_or_refused_in_one_line(
    changed: list[tuple[int, int]], end: int, tmp_path: Path
) -> None:
    content = bytearray(SMALL.getvalue())
    for where, byte in changed:
        content[where] = byte
    path = tmp_path / "sent.zip"
    path.write_bytes(content if changed else content[:end])
    try:
        found, said = locate(str(path), tmp_path), ""
    except ResultsError as refused:
        found, said = None, str(refused)
    assert len(said.splitlines()) == (found is None)
    if found:
        assert found.parent.parent.parent == Path(tempfile.gettempdir())
        assert (found / "run.json").exists() or (found / "journal.jsonl").exists()
