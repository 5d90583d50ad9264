"""Places that are no folders of this machine (`s3://bucket/prefix` and whatever else fsspec opens), as paths.

Each write is whole or not there. `remote_access.py` opens the file systems, and tries again what fails for a while.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatch
from typing import Any, TypeVar

from facex_tune.errors import InputError, StorageOutage
from facex_tune.storage import remote_access
from facex_tune.storage.remote_access import ATOMIC, EXCLUSIVE, hurry, limit
from facex_tune.storage.remote_errors import Unsupported

__all__ = ["RemotePath", "hurry", "of", "problem", "read_many", "remove_many"]

Result = TypeVar("Result")

ANSWERS_WITHIN_S = 15.0  # a store that a run is to begin in
CRASH_LOG_S = 5.0
FETCHED_AT_ONCE = 64


@dataclass(frozen=True, order=True)
class RemotePath:
    """A path below a URL, with as much of pathlib's behaviour as a run folder needs; plain text in `str`.

    Args:
        url: without a slash at its end.
        query: what a URL says after `?`, for every path below it.

    Every method that reaches the store raises `StorageOutage` when it does not answer for `PATIENCE_S`, and
    `InputError` when it refuses.
    """

    url: str
    query: str = ""

    def __str__(self) -> str:
        return f"{self.url}?{self.query}" if self.query else self.url

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.url}/{name}", self.query)

    @property
    def protocol(self) -> str:
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0] or self.name

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.url.rpartition("/")[0], self.query)

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def absolute(self) -> RemotePath:
        return self

    def resolve(self) -> RemotePath:
        return self

    def relative_to(self, other: RemotePath) -> RemotePath:
        """The rest of this path below `other`; only its text is of use.

        Raises:
            ValueError: it is not below it.
        """
        if not self.url.startswith(other.url + "/"):
            raise ValueError(f"{self.url} is not below {other.url}")
        return RemotePath(self.url.removeprefix(other.url + "/"))

    def as_posix(self) -> str:
        return self.url

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder is there as soon as something lies in it."""

    def exists(self) -> bool:
        return self._info() is not None

    def is_file(self) -> bool:
        info = self._info()
        return info is not None and info["type"] == "file"

    def is_dir(self) -> bool:
        info = self._info()
        return info is not None and info["type"] == "directory"

    def modified(self) -> datetime:
        """When it was written, by the store's own clock.

        Raises:
            FileNotFoundError: it is not there.
        """
        found: datetime = self._tried(lambda fs, path: fs.modified(path))
        return found

    def read_bytes(self) -> bytes:
        return bytes(self._tried(lambda fs, path: fs.cat_file(path, **limit(fs, 100e6))))

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_text(self, text: str, encoding: str = "utf-8") -> int:
        with hurry(CRASH_LOG_S):
            self.write_bytes(text.encode(encoding))
        return len(text)

    def write_bytes(self, content: bytes) -> int:
        """Whole or not at all, and there for good when this returns."""
        if self.protocol in ATOMIC:
            self._tried(lambda fs, path: fs.pipe_file(path, content, **limit(fs, len(content))))
        else:
            self._tried(lambda fs, path: remote_access.write_aside(fs, path, content))
        return len(content)

    def create(self, content: bytes) -> None:
        """Writes what is not there yet; an earlier attempt of the same content that went through unheard counts.

        Raises:
            FileExistsError: something else is there.
        """
        try:
            self._create(content)
        except FileExistsError:
            is_there = True
        except Unsupported:
            is_there = self.exists()
            if not is_there:
                self.write_bytes(content)
        else:
            is_there = False
        if is_there and self.read_bytes() != content:
            raise FileExistsError(errno.EEXIST, "exists already", self.url)

    def is_exclusive(self) -> bool:
        """Whether the store itself refuses to create what is already there: asked by trying, with this very file.

        Stores that check before they write let two writers through at one moment.
        """
        if self.protocol not in EXCLUSIVE:
            return False
        try:
            self._create(self.read_bytes())
        except FileExistsError:
            return True
        except Unsupported:
            return False
        return False

    def _create(self, content: bytes) -> None:
        if self.protocol not in ATOMIC:
            raise Unsupported(f"{self.url}: this file system cannot create a file whole")
        self._tried(lambda fs, path: fs.pipe_file(path, content, mode="create", **limit(fs, len(content))))

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._tried(lambda fs, path: fs.rm_file(path, **limit(fs, 0)))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        """Nothing: see `mkdir`."""

    def iterdir(self) -> Iterator[RemotePath]:
        """What lies directly in it, by name; nothing where it is not there."""
        try:
            found: list[dict[str, Any]] = self._tried(lambda fs, path: remote_access.listed(fs, path))
        except FileNotFoundError:
            return
        for name in sorted({str(each["name"]).rstrip("/").rpartition("/")[2] for each in found}):
            yield self / name

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """What lies directly in it under a name like `pattern`."""
        return (path for path in self.iterdir() if fnmatch(path.name, pattern))

    def files(self) -> dict[RemotePath, int]:
        """Every file below it with its size in bytes."""

        def find(fs: Any, path: str) -> dict[str, int]:
            fs.invalidate_cache()
            found = {name: info for name, info in fs.find(path, detail=True).items() if info["type"] == "file"}
            return {name.removeprefix(path).strip("/"): int(info["size"]) for name, info in found.items()}

        return {self / name: size for name, size in sorted(self._tried(find).items())}

    def _info(self) -> dict[str, Any] | None:
        def ask(fs: Any, path: str) -> dict[str, Any]:
            found: dict[str, Any] = fs.info(path, **limit(fs, 0))
            return found

        try:
            return self._tried(ask)
        except FileNotFoundError:
            return None

    def _tried(self, operation: Callable[[Any, str], Result]) -> Result:
        fs, path = _opened(self)
        return remote_access.patiently(self.url, lambda: operation(fs, path))


def of(text: str) -> RemotePath:
    """The place that a URL names.

    Raises:
        InputError: it cannot be one.
    """
    url, _, query = text.partition("?")
    protocol, _, rest = url.partition("://")
    if re.search(r"[\s*\[\]]", url) or not rest.strip("/"):
        raise InputError(f"{text}: no URL of a folder; write it as s3://bucket/prefix")
    if "@" in rest.partition("/")[0] and re.search(r":[^/]*@", rest):
        raise InputError(f"{protocol}://...: a URL is written into logs, so it must hold no password; set it elsewhere")
    place = RemotePath(f"{protocol}://{rest.rstrip('/')}", query)
    remote_access.options(place.protocol, query)  # refused here rather than in the middle of a run
    return place


def read_many(paths: Sequence[RemotePath]) -> list[bytes | None]:
    """The files' contents, fetched together; None where one is not there (any more)."""
    if not paths:
        return []
    names = [_opened(path)[1] for path in paths]
    fs = _opened(paths[0])[0]
    found: dict[str, bytes | None] = {}

    def fetch() -> None:
        wanted = [name for name in names if name not in found]
        many = {"batch_size": FETCHED_AT_ONCE} if fs.async_impl else {}
        failed: list[BaseException] = []
        for name, answer in fs.cat(wanted, on_error="return", **many, **limit(fs, 100e6)).items():
            if isinstance(answer, BaseException) and not isinstance(answer, FileNotFoundError):
                failed.append(answer)
            else:
                found[name] = None if isinstance(answer, FileNotFoundError) else bytes(answer)
        if failed:
            raise failed[0]

    remote_access.patiently(paths[0].parent.url, fetch)
    return [found[name] for name in names]


def remove_many(paths: Sequence[RemotePath]) -> None:
    """Deletes files, as many at once as the store takes; one that is not there is no fault."""
    if not paths:
        return
    fs = _opened(paths[0])[0]
    try:
        remote_access.patiently(paths[0].parent.url, lambda: fs.rm([_opened(path)[1] for path in paths]))
    except FileNotFoundError:
        for path in paths:
            path.unlink(missing_ok=True)


def problem(place: RemotePath) -> str:
    """Why nothing can be kept there, in one line; "" where a small file could be written, read and deleted."""
    probe = place / f".probe-{os.urandom(8).hex()}"
    try:
        with hurry(ANSWERS_WITHIN_S):
            probe.write_bytes(b"facex_tune looks whether it can write here\n")
            probe.read_bytes()
            probe.unlink()
    except InputError as error:
        return error.problems[0]
    except StorageOutage as error:
        return str(error)
    return ""


def _opened(place: RemotePath) -> tuple[Any, str]:
    return remote_access.opened(place.url, place.query)
