"""Download a data set and prepare it; where that cannot be, say in one line what to do by hand.

Kaggle's sets come through kagglehub, an extra (`pip install 'facex-tune[kaggle]'`), which keeps them in its own cache
and asks for an account only where the set's terms do.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from facex_tune.data import prepare
from facex_tune.data.decoding import one_line
from facex_tune.data.importing import NOTHING, Asked, Progress
from facex_tune.data.sources._download import Download
from facex_tune.errors import InputError
from facex_tune.storage import files

EXTRA = "facex-tune[kaggle]"
TIMEOUT_S = 60
MAX_FILE_BYTES = 2**26  # of the one further file; the votes of FER+ take 1.6 MB


def from_kaggle(dataset: str) -> Path:
    """Download a Kaggle data set with kagglehub, once: the folder where it lies.

    Raises:
        ModuleNotFoundError: kagglehub is not installed.
        Exception: whatever kagglehub raises where it cannot download.
    """
    kagglehub = importlib.import_module("kagglehub")  # an extra: nothing else may need it
    return Path(kagglehub.dataset_download(dataset))


def from_web(url: str, path: Path) -> None:
    """Download a small file, whole or not at all.

    Raises:
        OSError: the address does not answer, or the disk is full.
        ValueError: it answers with more than such a file can be.
    """
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        content = answer.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{url} has more than {MAX_FILE_BYTES:,} bytes")
    files.write_bytes(path, content)


def get(
    name: str,
    data_dir: Path,
    progress: Progress = lambda done, total: None,
    *,
    kaggle: Callable[[str], Path] = from_kaggle,
    web: Callable[[str, Path], None] = from_web,
    asked: Asked = NOTHING,
) -> dict[str, dict[str, Any]]:
    """Download a source and prepare it: each written set's manifest by its name. Drawn sources are just prepared.

    Args:
        kaggle: where Kaggle's data sets come from.
        web: what downloads one file.
        asked: as `prepare.prepare`.

    Raises:
        InputError: an unknown source, one that is nowhere to be had, no kagglehub, no network; with what to do by hand.
    """
    part = prepare.find(name)
    download = getattr(part, "DOWNLOAD", None)
    if not part.NEEDS_SOURCE:
        return prepare.prepare(name, None, data_dir, progress, asked=asked)
    if download is None:
        raise InputError(f"data source {name!r} is your own: run `facex-tune data prepare {name} SOURCE --as NAME`")
    source = _downloaded(name, download, data_dir, kaggle, web)
    return prepare.prepare(name, source, data_dir, progress, asked=asked)


def _downloaded(
    name: str,
    download: Download,
    data_dir: Path,
    kaggle: Callable[[str], Path],
    web: Callable[[str, Path], None],
) -> Path:
    """The folder with everything that belongs to a download."""
    try:
        folder = kaggle(download.kaggle)
        if download.file_url is None:
            return folder
        beside = data_dir / ".downloads" / name
        beside.mkdir(parents=True, exist_ok=True)
        _put_beside(folder, beside, download.file_url, web)
        _check(beside / PurePosixPath(download.file_url).name, download)
        return beside
    except InputError:
        raise
    except ModuleNotFoundError as error:
        if error.name != "kagglehub":
            raise
        raise InputError(
            f"`data get` needs kagglehub: run `pip install '{EXTRA}'`; or {_by_hand(name, download)}"
        ) from error
    except Exception as error:  # kagglehub raises its own, those of requests, and plain ones
        raise InputError(f"cannot download {name} ({one_line(error)[:200]}); {_by_hand(name, download)}") from error


def _put_beside(folder: Path, beside: Path, file_url: str, web: Callable[[str, Path], None]) -> None:
    """What was downloaded and one more file in one folder, without a second copy of what is large."""
    for file in folder.iterdir():
        link = beside / file.name
        link.unlink(missing_ok=True)
        try:
            os.symlink(file.resolve(), link)
        except OSError:  # a file system without links
            shutil.copy(file, link)
    web(file_url, beside / PurePosixPath(file_url).name)


def _check(file: Path, download: Download) -> None:
    """Takes away what is not the file that was meant: its address may answer with anything."""
    if download.file_sha256 in (None, found := hashlib.sha256(file.read_bytes()).hexdigest()):
        return
    file.unlink()
    raise ValueError(f"{download.file_url} has the SHA-256 {found[:16]}..., not {str(download.file_sha256)[:16]}...")


def _by_hand(name: str, download: Download) -> str:
    if download.file_url is None:
        return f"download {download.kaggle_url} in a browser and run `facex-tune data prepare {name} ZIP`"
    return (
        f"download {download.kaggle_url} and {download.file_url} in a browser into one folder and run "
        f"`facex-tune data prepare {name} FOLDER`"
    )
