"""File systems behind URLs, opened through fsspec, and the patience with which they are asked.

What fails for a while is tried again, with growing pauses, for as long as the caller's patience lasts; what no patience
mends is one line for the user.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

from facex_tune.errors import InputError, StorageOutage
from facex_tune.storage import remote_errors
from facex_tune.storage.loopback import spare_proxy

Result = TypeVar("Result")

PATIENCE_S = 180.0  # how long an outage may last before the run is interrupted
PAUSES_S = (0.1, 8.0)  # the first and the longest between two attempts
REQUEST_LIMIT_S = 30.0  # of one request, and a second more for each megabyte that it carries

ATOMIC = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")  # a write is seen whole or not at all
EXCLUSIVE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")  # the server creates a name once, or is found out
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "STORAGE_EMULATOR_HOST")
_QUERY = {"s3": ("endpoint_override", "scheme", "region")}

_deadline: ContextVar[float | None] = ContextVar("facex_storage_deadline", default=None)


@contextmanager
def hurry(seconds: float) -> Iterator[None]:
    """Within the block, everything together may wait for a store that does not answer for `seconds`, no longer."""
    token = _deadline.set(min(_deadline.get() or float("inf"), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(token)


def patiently(url: str, operation: Callable[[], Result]) -> Result:
    """The operation's result, tried until it succeeds, is refused, or patience ends."""
    began = time.monotonic()
    deadline = _deadline.get() or began + PATIENCE_S
    pause_s = PAUSES_S[0]
    while True:
        try:
            return operation()
        except Exception as error:
            if (told := remote_errors.refusal(error, url)) is not None:
                raise told from error
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                reason = remote_errors.in_words(error)
                waited_s = time.monotonic() - began
                raise StorageOutage(f"{url}: no answer for {waited_s:.0f} s ({reason})") from error
        import random  # every command would wait for its 3 ms

        # at random, so that workers which failed together do not come back together
        time.sleep(min(left_s, pause_s * random.uniform(0.5, 1.0)))
        pause_s = min(2 * pause_s, PAUSES_S[1])


def opened(url: str, query: str) -> tuple[Any, str]:
    """The place's file system (fsspec keeps one for each set of options) and its path in it.

    Raises:
        InputError: its package is not installed, or there is no such protocol.
    """
    import fsspec

    protocol = url.partition("://")[0]
    for said in _servers(url, query):
        spare_proxy(said)
    try:
        fs, path = fsspec.core.url_to_fs(url, **options(protocol, query))
    except ImportError as error:
        extra = "pip install 'facex-tune[s3]'" if protocol in ("s3", "s3a") else remote_errors.in_words(error)
        raise InputError(f"--storage {url}: its file system is not installed: {extra}") from error
    except ValueError as error:
        raise InputError(
            f"--storage {url}: no file system {protocol!r}; choices: a folder, s3://, gs://, abfs://, "
            f"sftp://, hdfs:// and what else fsspec knows"
        ) from error
    if protocol in ("s3", "s3a"):
        fs.retries = 1  # this module tries again itself, and knows when to stop
    return fs, path.rstrip("/")


def _servers(url: str, query: str) -> list[str]:
    """Where a URL's server may be: in its query, in the environment of its package, or in the URL itself."""
    named = [pair.partition("=")[2] for pair in query.split("&") if pair.startswith("endpoint_override=")]
    return [*named, *(os.environ.get(name, "") for name in _ENDPOINTS), url]


def options(protocol: str, query: str) -> dict[str, Any]:
    """What the file system is opened with. Credentials come from the environment, as its own package reads them."""
    pairs = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
    known = _QUERY.get(protocol, ())
    if unknown := sorted(set(pairs) - set(known)):
        choices = f"choices: {', '.join(known)}" if known else f"{protocol}:// takes none"
        raise InputError(f"--storage {protocol}://...: no option {unknown[0]!r} in a URL; {choices}")
    if protocol in ("s3", "s3a"):
        config = {"connect_timeout": 5, "read_timeout": REQUEST_LIMIT_S, "retries": {"total_max_attempts": 1}}
        found: dict[str, Any] = {"config_kwargs": config, "max_concurrency": 1, "use_listings_cache": False}
        if "endpoint_override" in pairs:
            found["endpoint_url"] = f"{pairs.get('scheme', 'https')}://{pairs['endpoint_override']}"
        if "region" in pairs:
            found["client_kwargs"] = {"region_name": pairs["region"]}
        return found
    return {"use_listings_cache": False} if protocol in ATOMIC else {}


def limit(fs: Any, n_bytes: float) -> dict[str, float]:
    """Seconds that one request may take, for file systems that can be told."""
    if not fs.async_impl:
        return {}
    limit_s = REQUEST_LIMIT_S + n_bytes / 1e6
    deadline = _deadline.get()
    return {"timeout": limit_s if deadline is None else max(0.5, min(limit_s, deadline - time.monotonic()))}


def listed(fs: Any, path: str) -> list[dict[str, Any]]:
    fs.invalidate_cache()
    return [
        each for each in fs.ls(path, detail=True, **limit(fs, 0)) if str(each["name"]).strip("/") != path.strip("/")
    ]


def write_aside(fs: Any, path: str, content: bytes) -> None:
    """For file systems on which a write grows before everybody's eyes."""
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}.{os.urandom(8).hex()}.part"
    fs.makedirs(folder, exist_ok=True)
    try:
        fs.pipe_file(temporary, content)
        try:
            fs.mv(temporary, path)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
            fs.rm_file(path)  # some do not rename onto what is there
            fs.mv(temporary, path)
    except BaseException:
        with suppress(Exception):
            fs.rm_file(temporary)
        raise
