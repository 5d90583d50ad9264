"""Where a host keeps the prepared sets that it fetched: FACEX_CACHE, by default `~/.cache/facex_tune`."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from facex_tune.errors import InputError
from facex_tune.search import ray_folder
from facex_tune.storage import files

CACHE = "FACEX_CACHE"


def from_here() -> None:
    """Makes the folder that the environment names absolute, where the user's own process reads it: workers inherit the
    name and have another working folder.
    """
    if said := os.environ.get(CACHE):
        os.environ[CACHE] = str(files.absolute(said))


def folder() -> Path:
    """The folder of this host, made where it is the default.

    Raises:
        InputError: the one that was named is relative, or there is none that is ours.
    """
    if said := os.environ.get(CACHE):
        if not os.path.isabs(said):  # of a cluster's host, whose workers run in folders of Ray's
            raise InputError(
                f"{CACHE}={said} on {socket.gethostname()}: a relative path is another folder to each worker; set "
                "it to an absolute one before Ray is started there"
            )
        return Path(said)
    home = Path.home() / ".cache" / "facex_tune"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        shared = Path(tempfile.gettempdir()) / f"facex_tune-{os.getuid()}"
        if not ray_folder.is_ours(shared):  # whoever owns it could change what is trained on
            raise InputError(f"{shared}: somebody else's; set {CACHE} to a folder of yours for data sets") from None
        return shared
    return home
