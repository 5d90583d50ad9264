"""Where a Ray of our own keeps its sockets and logs, and the token that its processes know each other by: chosen so
that neither a long temporary folder nor somebody else's, nor a home that cannot be written, stands in the way.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facex_tune.errors import InputError

SOCKET_BYTES = 107  # all that a socket's path may have on Linux
BELOW = "/session_2026-11-28_13-20-56_123456_4194304/sockets/plasma_store"  # what Ray puts under its folder
MOST_BYTES = SOCKET_BYTES - len(BELOW)
SHORT = Path("/tmp")
OURS = ".facex_tune"  # in a session's folder
KEPT_S = 7 * 86400.0
TRIES = 3
TOKEN, TOKEN_PATH, TOKEN_MODE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"


def temporary_folder() -> str | None:
    """Ray's folder: `ray` in RAY_TMPDIR, else in the temporary folder, or in /tmp where that one's path is too long;
    and `ray-<user id>` where somebody else has made the first. None: Ray's own choice, where it has no such limits.

    Raises:
        InputError: there is none that is ours, can be written and is short enough.
    """
    if not sys.platform.startswith("linux"):
        return os.environ.get("RAY_TMPDIR") and os.path.join(os.environ["RAY_TMPDIR"], "ray")
    if said := os.environ.get("RAY_TMPDIR"):
        return _in(Path(said).absolute(), f"RAY_TMPDIR={said}")
    usual = Path(tempfile.gettempdir())
    if len(os.fsencode(usual / "ray")) <= MOST_BYTES:
        return _in(usual, f"the temporary folder {usual}")
    return _in(SHORT, f"the temporary folder {usual} is too long for Ray's sockets, and {SHORT}")


def _in(base: Path, said: str) -> str:
    own = base / f"ray-{os.getuid()}"
    if len(os.fsencode(base / "ray")) > MOST_BYTES:
        raise InputError(
            f"{said}: too long for Ray's sockets ({len(os.fsencode(base))} characters, {MOST_BYTES - len('/ray')} at "
            "most); set RAY_TMPDIR to a short folder of yours"
        )
    for folder in (base / "ray", own):
        if is_ours(folder) and len(os.fsencode(folder)) <= MOST_BYTES:
            return str(folder)
    raise InputError(
        f"{said}: Ray can keep nothing there (it cannot be written, or {base / 'ray'} and {own.name} are somebody "
        "else's); set RAY_TMPDIR to a short folder of yours"
    )


def is_ours(folder: Path) -> bool:
    """Whether the folder, made where it is missing, belongs to this user and can be written. In another's, whoever owns
    it could put a process of theirs in the place of ours.
    """
    with contextlib.suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and os.access(folder, os.W_OK | os.X_OK)
    return False


def claim(session: Path) -> None:
    """Marks a session's folder as that of a Ray of ours, which we take away, too; a cluster's is its operator's."""
    with contextlib.suppress(OSError):
        (session / OURS).touch()


def clear(session: Path) -> None:
    """Takes away what a Ray of ours, which has ended, left: logs, sockets, some megabytes for each run."""
    if not (session / OURS).is_file():
        return
    for _ in range(TRIES):  # what still writes its last line makes the first fail
        shutil.rmtree(session, ignore_errors=True)
    newest = session.parent / "session_latest"
    with contextlib.suppress(OSError):
        if newest.is_symlink() and not newest.exists():
            newest.unlink()


def clear_old(folder: Path) -> None:
    """The same for sessions of ours that were killed, or kept because they had failed, a week after."""
    for session in folder.glob("session_*"):
        with contextlib.suppress(OSError):
            is_old = time.time() - (session / OURS).stat().st_mtime > KEPT_S
            if is_old and not session.is_symlink() and not _answers(session):
                clear(session)


def _answers(session: Path) -> bool:
    """Whether a Ray lives in a session's folder."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(1)
        try:
            asked.connect(str(session / "sockets" / "raylet"))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True  # rather too careful
    return True


@contextlib.contextmanager
def own_token() -> Iterator[None]:
    """Where nobody has said otherwise and there is no token yet, a Ray started within the block has one that it alone
    knows. Ray would write one into the home folder, and end where that cannot be written or holds one that cannot be
    read.
    """
    before = {name: os.environ.get(name) for name in (TOKEN, TOKEN_PATH, TOKEN_MODE)}
    is_said = before[TOKEN] or before[TOKEN_PATH] or (before[TOKEN_MODE] or "token").lower() != "token"
    if not is_said and not _has_token():
        os.environ[TOKEN] = secrets.token_hex(32)
    _read_anew()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
        _read_anew()


def _has_token() -> bool:
    try:
        return bool((Path.home() / ".ray" / "auth_token").read_text(encoding="utf-8").strip())
    except (OSError, ValueError, RuntimeError):  # there is none, it is somebody else's, or there is no home
        return False


def _read_anew() -> None:
    """Ray keeps what it has once read of tokens, within a process."""
    import ray._raylet

    compiled: Any = ray._raylet  # its stubs lack these
    if hasattr(compiled, "AuthenticationTokenLoader"):  # Ray before 2.52 has none
        compiled.AuthenticationTokenLoader.instance().reset_cache()
        compiled.Config.initialize("")
