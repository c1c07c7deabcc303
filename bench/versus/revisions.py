"""The files of a revision, or of the working tree as it is now, in a folder of their own.

`git archive` rather than `git worktree`: it leaves nothing behind in the repository, however the
process ends.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from reports.arguments import shown

WORKING_TREE = "working tree"


class RevisionError(Exception):
    """A revision cannot be had."""


def unpack(revision: str | None, folder: Path, within: Path | None = None) -> str:
    """Write the files of `revision`, or of the working tree, into `folder`.

    Args:
        revision: whatever git knows; None for the working tree, files that git does not know and
            does not ignore included.
        folder: does not exist yet.
        within: the repository, or a folder inside of it; by default the current one.

    Returns:
        What to call it.

    Raises:
        RevisionError: there is no git, no repository or no such revision.
    """
    top = Path(_git(within or Path(), "rev-parse", "--show-toplevel").decode().strip())
    if revision is None:
        listed = _git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in filter(None, listed.decode().split("\0")):
            if (top / name).is_file():  # it may have been deleted
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(top / name, folder / name)
        return WORKING_TREE
    try:
        commit = _git(
            top, "rev-parse", "--verify", "--short", "--end-of-options", f"{revision}^{{commit}}"
        )
    except RevisionError:
        raise RevisionError(
            f"no revision {shown(revision)} here: expected a commit, branch or tag that git knows"
        ) from None
    name = commit.decode().strip()
    with tarfile.open(fileobj=io.BytesIO(_git(top, "archive", name))) as archive:
        archive.extractall(folder, filter="data")
    return name if name.startswith(revision) else f"{revision} ({name})"


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True)
    except FileNotFoundError:
        raise RevisionError("git is needed to get at revisions, and is not installed") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RevisionError(said[0] if said else f"git {arguments[0]} failed")
    return done.stdout
