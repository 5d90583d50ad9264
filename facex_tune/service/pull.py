"""A run brought home: from its storage where that can be read, else through the service. Each file is checked by its
SHA-256; what was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import http
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from facex_tune.errors import InputError, one_line
from facex_tune.service import bundle
from facex_tune.service.bundle import Item
from facex_tune.storage import regular
from facex_tune.storage.files import Place
from facex_tune.storage.loopback import spare_proxy

TRIES = 3  # a report that is written again meanwhile no longer fits its checksum
TIMEOUT_S = 30
LARGEST_LIST_BYTES = 2**26  # of a run's files
Progress = Callable[[int, int], None]  # bytes here, bytes in all


class Source(Protocol):
    """Where a run's files come from."""

    def items(self) -> list[Item]:
        """What there is."""

    def read(self, item: Item, offset: int) -> Iterator[bytes]:
        """An item's bytes from `offset` on."""


class FolderSource:
    """A run folder that can be read from here, or its URL."""

    def __init__(self, folder: Place) -> None:
        self.folder = folder

    def items(self) -> list[Item]:
        """All of it that is worth taking."""
        return bundle.items(self.folder)

    def read(self, item: Item, offset: int) -> Iterator[bytes]:
        """As far as the item's size, though a log may have grown."""
        return bundle.chunks(self.folder, item.path, offset, item.bytes)


class ServiceSource:
    """A run of a `facex-tune serve`.

    Args:
        url: the service's, such as http://127.0.0.1:8270.
        token: what it asks for, if anything.
    """

    def __init__(self, url: str, run: str, token: str | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"--service {url}: an http(s) URL is wanted, such as http://127.0.0.1:8270")
        spare_proxy(url)
        self.url, self.run, self.token = url.rstrip("/"), run, token
        self._opener = urllib.request.build_opener(_SameOrigin)  # which reads here what proxies there are

    def items(self) -> list[Item]:
        """As the service lists them."""
        with self._get("files") as answer:
            try:
                said = json.loads(_at_most(answer, LARGEST_LIST_BYTES))
            except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
                raise self._no_service("what answers sends no JSON") from error
        if not isinstance(said, dict) or not isinstance(said.get("files"), list):
            raise self._no_service("what answers sends no list of files")
        return [Item.parse(each) for each in said["files"]]

    def read(self, item: Item, offset: int) -> Iterator[bytes]:
        """By an HTTP range."""
        if offset >= item.bytes:
            return
        path = "files/" + urllib.parse.quote(item.path)
        with self._get(path, {"Range": f"bytes={offset}-{item.bytes - 1}"}) as answer:
            try:
                if answer.status == http.HTTPStatus.OK:  # no range: its storage is behind a URL
                    _skip(answer, offset)
                while chunk := answer.read(bundle.CHUNK_BYTES):
                    yield chunk
            except (OSError, http.client.HTTPException):
                return  # `pull` sees that bytes are missing

    def _get(self, path: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        said = dict(headers or {}) | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        try:
            request = urllib.request.Request(f"{self.url}/api/runs/{self.run}/{path}", headers=said)
            answer: http.client.HTTPResponse = self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            with error:
                raise self._explained(error) from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # of a malformed URL, ValueError
            raise self._no_service(getattr(error, "reason", error)) from error
        return answer

    def _explained(self, error: urllib.error.HTTPError) -> InputError:
        if error.code in (401, 403):
            said = "refuses the token given" if self.token else "wants a token"
            return InputError(f"{self.url} {said}: name the service's own with FACEX_TOKEN or --token-file")
        try:
            return InputError(f"{self.url}: {_line(json.loads(error.read(LARGEST_LIST_BYTES))['detail'])}")
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, RecursionError):
            return self._no_service(f"HTTP {error.code}")

    def _no_service(self, reason: object) -> InputError:
        said = f"no facex-tune service answers there ({_line(reason)})"
        return InputError(f"{self.url}: {said}; --service takes the URL that `facex-tune serve` prints")


def _at_most(answer: http.client.HTTPResponse, limit_bytes: int) -> bytes:
    """What was answered.

    Raises:
        ValueError: it is more than that.
    """
    content = answer.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise ValueError(f"an answer of more than {limit_bytes:,} bytes")
    return content


def _skip(answer: http.client.HTTPResponse, n_bytes: int) -> None:
    while n_bytes > 0 and (chunk := answer.read(min(n_bytes, bundle.CHUNK_BYTES))):
        n_bytes -= len(chunk)


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    """Follows no redirect to another host, which would be sent the token."""

    def redirect_request(
        self, request: urllib.request.Request, answer: Any, code: int, said: str, headers: Any, url: str
    ) -> urllib.request.Request | None:
        if _origin(url) != _origin(request.full_url):
            there = "{}://{}".format(*_origin(url))
            raise InputError(f"{request.full_url}: leads to {there}; if that is your service, name it with --service")
        return super().redirect_request(request, answer, code, said, headers, url)


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _line(said: object) -> str:
    return one_line(said, 300)


def pull(
    source: Source, target: Path, progress: Progress = lambda done, total: None, *, faces: bool = True
) -> list[Item]:
    """Brings a run's files into `target`, which becomes a run folder; files that are there already are left alone.

    Args:
        progress: told of bytes here and bytes in all.
        faces: whether files that show faces are brought, too.

    Returns:
        what `target` holds now.

    Raises:
        InputError: the source cannot be read, a file does not fit its checksum again and again, or no space is left.
    """
    changed: list[str] = []
    for _ in range(TRIES):
        items = [item for item in source.items() if faces or not item.faces]
        if not items:
            raise InputError("this run has no files to pull yet")
        changed = _fetch_all(source, items, target, progress)
        if not changed:
            return items
    raise InputError(
        f"{', '.join(changed[:3])}: changed while being read, {TRIES} times; pull again when the run is calm"
    )


def _fetch_all(source: Source, items: list[Item], target: Path, progress: Progress) -> list[str]:
    """Every file; those that changed meanwhile."""
    total, done, changed = sum(item.bytes for item in items), 0, []
    for item in items:
        if not _fetch(source, item, target, partial(_further, progress, done, total)):
            changed.append(item.path)
        done += item.bytes
        progress(done, total)
    return changed


def _further(progress: Progress, before: int, total: int, here: int) -> None:
    progress(before + here, total)


def _fetch(source: Source, item: Item, target: Path, progress: Callable[[int], None]) -> bool:
    """One file, whole and checked; False where what came does not fit its checksum."""
    path = target / item.path
    if path.is_file() and path.stat().st_size == item.bytes and _sha256(path) == item.sha256:
        return True
    part = path.with_name(f".{path.name}.{item.sha256[:16]}.part")  # its name tells of which version it is a part
    part.parent.mkdir(parents=True, exist_ok=True)
    with regular.appended(part.parent, part.name) as sink:
        for chunk in source.read(item, sink.tell()):
            sink.write(chunk[: max(0, item.bytes - sink.tell())])  # whoever sends says the size, and may send more
            progress(sink.tell())
            if sink.tell() >= item.bytes:
                break
        sink.flush()
        os.fsync(sink.fileno())
    if part.stat().st_size < item.bytes:
        raise InputError(f"{item.path}: the connection ended early; pull again, it goes on where it stopped")
    if _sha256(part) != item.sha256:
        part.unlink()
        return False
    part.replace(path)
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def summary(items: list[Item], target: Path) -> dict[str, Any]:
    """What `pull` tells when it is done."""
    page = target / "report" / "index.html"
    return {
        "version": 1,
        "folder": str(target),
        "files": len(items),
        "bytes": sum(item.bytes for item in items),
        "faces": [item.path for item in items if item.faces],
        "report": str(page) if page.exists() else None,
    }
