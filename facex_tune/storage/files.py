"""Files that are whole or not there: bytes, JSON and tensors, durable before a call returns, and never a pickle.

A place is a folder or file of this machine (`pathlib.Path`) or one behind a URL (`remote_path.RemotePath`); both read
and list themselves in the same words, and are written here.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from facex_tune.errors import InputError
from facex_tune.storage import remote_path
from facex_tune.storage.remote_path import RemotePath

if TYPE_CHECKING:
    from torch import Tensor


Place = Path | RemotePath
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"  # of a run, a study or its data set: a folder's name anywhere
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_TENSOR_HEADER_BYTES = 8  # a safetensors file begins with its header's length


class DamagedRun(Exception):
    """A record of the run folder is malformed; names the file and the line."""


def place(text: str | Place) -> Place:
    """The place that a path or a URL names, a path made absolute; `file://` URLs are paths.

    Raises:
        InputError: a URL that cannot hold runs.
    """
    said = str(text)
    if isinstance(text, RemotePath):
        return text
    if isinstance(text, Path):
        return absolute(text)
    if said.startswith("file://"):
        return Path(unquote(urlsplit(said).path))
    if slip := re.match(r"([a-z][a-z0-9+]+):/(?!/)", said):  # a drive has one letter
        raise InputError(f"{said}: a URL has two slashes: {slip[1]}://{said[slip.end() :]}")
    return remote_path.of(said) if "://" in said else absolute(said)


def absolute(path: str | Path) -> Path:
    """A path from the root on, made so where it enters: workers, drivers and services have other working folders than
    the user.

    Links stay as they are written, also those of the working folder: another host may reach a mount by the link alone.

    Raises:
        InputError: it is relative to a folder that is gone.
    """
    path = Path(path)
    return path if path.is_absolute() else _working_folder() / path


def _working_folder() -> Path:
    """The working folder, by the links that the shell came through where it says so."""
    try:
        here = Path.cwd()
    except FileNotFoundError as error:
        raise InputError("the working folder is gone: go to another with cd, or give absolute paths") from error
    by_links = Path(os.environ.get("PWD", ""))
    return by_links if by_links.is_absolute() and by_links.is_dir() and by_links.samefile(here) else here


def save_tensors(path: Place, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Tensors and plain values as one safetensors file, durable before this returns, whole or not at all.

    Raises:
        InputError: no space left.
    """
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, metadata={"values": json.dumps(values, allow_nan=False)}))


def load_tensors(path: Place) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote.

    Raises:
        DamagedRun: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if isinstance(path, RemotePath):
            return _tensors_of(path.read_bytes())
        with safe_open(path, framework="pt") as file:
            values = _mapping((file.metadata() or {}).get("values", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, values  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, RecursionError) as error:
        raise DamagedRun(f"{path}: damaged ({error}); remove the file to train this model again") from error


def _tensors_of(content: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same from a file's bytes, whose metadata safetensors itself does not give out."""
    from safetensors.torch import load

    tensors = load(content)  # first, because it checks the header
    end = _TENSOR_HEADER_BYTES + int.from_bytes(content[:_TENSOR_HEADER_BYTES], "little")
    metadata = json.loads(content[_TENSOR_HEADER_BYTES:end]).get("__metadata__", {})
    return tensors, _mapping(metadata.get("values", "{}"))


def _mapping(said: str) -> dict[str, Any]:
    values = json.loads(said)
    if not isinstance(values, dict):
        raise ValueError("its values are no JSON object")
    return values


def write_json(path: Place, data: Any) -> None:
    """JSON, whole or not at all."""
    write_bytes(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())


def write_bytes(path: Place, content: bytes) -> None:
    """Bytes under `path`, durable before this returns, whole or not at all.

    Raises:
        InputError: no space left, or a device or the like stands there, which a file would replace.
    """
    if isinstance(path, RemotePath):
        path.write_bytes(content)
        return
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: is no ordinary file; name another place")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")  # which nobody can put a link at before
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)  # makes the rename itself survive a power cut
    except BaseException as error:  # a signal's exception too
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise no_space(path.parent, len(content)) from error
        if isinstance(error, OSError) and error.filename is not None:
            error.filename, error.filename2 = str(path), None  # what was asked for, not how it is done
        raise


def no_space(
    folder: Path, needed_bytes: int, advice: str = "what is saved stays, free space and resume"
) -> InputError:
    """What a full disk, or a user's full share of it, is told as; `advice` says what to do."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free_bytes = shutil.disk_usage(there).free
    free = f", {_size(free_bytes)} free" if free_bytes < needed_bytes else ""  # else a quota is full, and not the disk
    return InputError(f"no space left in {folder}: {_size(needed_bytes)} needed{free}; {advice}")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{n_bytes:,} bytes"


def finite(value: Any) -> Any:
    """A value as JSON can say it, which knows neither NaN nor infinity: None in their place."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def one_at_a_time(path: Place) -> Iterator[None]:
    """Lets one process of this file system through at a time, by a lock on the file `path`; where files cannot be
    locked, and behind a URL, everyone, so that a caller needs a second guard.
    """
    if isinstance(path, RemotePath):
        yield
        return
    with path.open("a") as file:
        if sys.platform != "win32":
            import fcntl

            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def modified(path: Place) -> float:
    """When a file was written, in seconds by the clock of whoever keeps it.

    Raises:
        FileNotFoundError: it is not there.
    """
    if isinstance(path, RemotePath):
        return path.modified().timestamp()
    with path.open("rb") as file:  # opened, because NFS asks its server then
        return os.fstat(file.fileno()).st_mtime


def sizes(folder: Place) -> dict[Place, int]:
    """Every file below a folder with its size in bytes, by name."""
    if isinstance(folder, RemotePath):
        return {path: n_bytes for path, n_bytes in folder.files().items()}
    return {path: path.lstat().st_size for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()}


def matching(folder: Place, pattern: str) -> list[Place]:
    """What lies directly in a folder under a name like `pattern`, by name."""
    return sorted(folder.glob(pattern), key=lambda path: path.name)


def below(path: Place, folder: Place) -> str:
    """A path's rest below a folder, with slashes."""
    return path.as_posix().removeprefix(folder.as_posix()).strip("/")


def remove(paths: Iterable[Place]) -> None:
    """Deletes files, together where their store can; one that is not there is no fault."""
    every = list(paths)
    remote_path.remove_many([path for path in every if isinstance(path, RemotePath)])
    for path in every:
        if isinstance(path, Path):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes a rename in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Place) -> Any:
    """What `write_json` wrote.

    Raises:
        DamagedRun: malformed.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedRun(f"{path}: malformed JSON ({error})") from error
