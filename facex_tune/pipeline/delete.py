"""A run or a prepared set taken away, with the faces in it, from here and from the hosts of a cluster.

What names it (`run.json`, `manifest.json`) goes last: a deletion that is broken off can be repeated.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facex_tune.data import faces
from facex_tune.errors import InputError, StorageOutage
from facex_tune.runs import lease
from facex_tune.runs.lease import Lease
from facex_tune.runs.retention import megabytes
from facex_tune.runs.store import Run
from facex_tune.storage import files
from facex_tune.storage.files import DamagedRun, Place
from facex_tune.storage.folders import is_being_written

VERSION = 1
RUN, SET = "run", "set"
_BROKEN_OFF = r"\.{}\.[0-9a-f]+(\.old)?"  # as storage.folders names what it has not finished


@dataclass(frozen=True)
class Doomed:
    """What a deletion would take.

    Attributes:
        kind: RUN or SET.
        folders: with all that is in them.
        used_by: of a set, the runs that name it. They keep what they know of it.
    """

    kind: str
    name: str
    folders: tuple[Place, ...]
    n_files: int
    n_bytes: int
    used_by: tuple[str, ...] = field(default=())

    def question(self) -> str:
        """What somebody should know who is asked."""
        lines = [f"{self.kind} {self.name}: {self.n_files:,} files, {megabytes(self.n_bytes)}, in {self.folders[0]}"]
        if self.used_by:
            runs = ", ".join(self.used_by)
            lines.append(
                f"named by the runs {runs}: they can go on and be scored no more, and their reports and "
                "evaluation/*.faces.npz may hold faces of it; delete those runs, too, where these shall go"
            )
        return "\n".join(lines)


def look(name: str, storage: Place, data_dir: Path, kind: str | None = None) -> Doomed:
    """Finds what goes by that name.

    Args:
        kind: RUN or SET; None: whichever there is.

    Raises:
        InputError: nothing does, or both; a link stands there; somebody writes the run, the set, or a run that needs
            the set.
    """
    is_run = kind != SET and Run(storage, name).exists()
    is_set = kind != RUN and faces.is_prepared(data_dir, name)
    if is_run and is_set:
        raise InputError(f"{name!r} is both a run in {storage} and a set in {data_dir}; say --kind run or --kind set")
    if not is_run and not is_set:
        wanted = f"no {kind}" if kind else "neither a run nor a set"
        raise InputError(
            f"{wanted} named {name!r} in {storage if kind != SET else data_dir}"
            f"{'' if kind else f' or {data_dir}'}; `facex-tune runs` and `facex-tune data list` name them"
        )
    return _run(Run(storage, name)) if is_run else _set(name, storage, data_dir)


def _run(run: Run) -> Doomed:
    _refuse_link(run.folder)
    lease.refuse_if_held(run.folder / "lease.json", lease.holder(run.folder) or {}, run.name, "stop it first")
    return _doomed(RUN, run.name, (run.folder,))


def _set(name: str, storage: Place, data_dir: Path) -> Doomed:
    folder = data_dir / name
    _refuse_link(folder)
    users = tuple(_users(name, storage))
    for user in users:
        held = lease.holder(Run(storage, user).folder)
        if held is not None:
            raise InputError(
                f"set {name!r} is needed by run {user!r}, which is being written by process {held['pid']} on "
                f"{held['host']}; stop it first"
            )
    broken_off = re.compile(_BROKEN_OFF.format(re.escape(name)))
    rest = [path for path in sorted(data_dir.iterdir()) if broken_off.fullmatch(path.name) and path.is_dir()]
    if busy := next((path for path in rest if is_being_written(path)), None):
        raise InputError(f"set {name!r} is being prepared (in {busy}); wait for it, or stop it, then delete it again")
    return _doomed(SET, name, (folder, *rest), users)


def _users(name: str, storage: Place) -> Iterator[str]:
    for run in Run.names(storage):
        try:
            header: Mapping[str, Any] = Run(storage, run).header
        except StorageOutage:
            raise
        except (InputError, DamagedRun, OSError):
            continue
        if name in header.get("data", ()):
            yield run


def _refuse_link(folder: Place) -> None:
    if isinstance(folder, Path) and folder.is_symlink():
        raise InputError(f"{folder} is a link to {folder.resolve()}: delete what is there, and then the link, yourself")


def _doomed(kind: str, name: str, folders: tuple[Place, ...], users: tuple[str, ...] = ()) -> Doomed:
    sizes = [n_bytes for folder in folders for n_bytes in files.sizes(folder).values()]
    return Doomed(kind, name, folders, len(sizes), sum(sizes), users)


def remove(doomed: Doomed, storage: Place, address: str | None = None) -> list[str]:
    """Takes it away.

    Args:
        address: of a Ray cluster, whose hosts' copies of a set go, too; None: this host's.

    Returns:
        folders with copies that went, each with its host.

    Raises:
        InputError: somebody has begun to write it, or a file cannot be deleted.
    """
    try:
        if doomed.kind == RUN:
            _remove_run(Run(storage, doomed.name))
            return []
        copies = _forgotten(doomed.name, address)
        for folder in doomed.folders:
            assert isinstance(folder, Path)
            _remove_folder(folder, last="manifest.json")
    except OSError as error:
        raise InputError(f"{error.filename or doomed.folders[0]}: {error.strerror}; delete it again") from error
    return copies


def _remove_run(run: Run) -> None:
    """As its only writer, so that nobody resumes it meanwhile."""
    held = Lease(run.folder, run.name, run.newest_fence())
    try:
        held.keep()
        kept = ("run.json", "lease.json", "lease.lock")
        files.remove(path for path in files.sizes(run.folder) if files.below(path, run.folder) not in kept)
        files.remove([run.folder / "run.json"])
    finally:
        held.release()
    if isinstance(run.folder, Path):
        _remove_folder(run.folder, last="lease.lock")


def _remove_folder(folder: Path, last: str) -> None:
    files.remove(path for path in files.sizes(folder) if path != folder / last)
    files.remove([folder / last])
    shutil.rmtree(folder)


def _forgotten(name: str, address: str | None) -> list[str]:
    from facex_tune.search import data_placement, face_cache, ray_session

    face_cache.from_here()
    if address is None:
        return data_placement.forget(name)
    with ray_session.connected(address):
        return data_placement.forget_everywhere(name)


def document(doomed: Doomed, copies: list[str]) -> dict[str, Any]:
    """What went, as plain data."""
    return {
        "version": VERSION,
        "kind": doomed.kind,
        "name": doomed.name,
        "folder": str(doomed.folders[0]),
        "files": doomed.n_files,
        "bytes": doomed.n_bytes,
        "copies": copies,
        "used_by": list(doomed.used_by),
    }
