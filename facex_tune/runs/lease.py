"""Who may write a run: one process at a time, held by a file with a heartbeat and a fencing number.

`lease.json` keeps a second process out politely, with the first one's name. What keeps it out for certain is the log
itself (see `segments.py`): a number that only one writer can create. So a lease that is wrongly thought dead, because
its holder was frozen for a minute, costs that holder the run, and never a record that it was told is saved.

Whether a heart still beats is asked of the process itself on this machine, and elsewhere of the file's age by the clock
of whoever keeps it (the object store, the NFS server, this disk), so that hosts whose clocks differ agree.
"""

from __future__ import annotations

import os
import platform
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from facex_tune.errors import InputError, StorageOutage
from facex_tune.storage import regular, remote_path
from facex_tune.storage.files import DamagedRun, Place, modified, one_at_a_time, write_bytes, write_json
from facex_tune.storage.remote_path import RemotePath

HEARTBEAT_S = 5.0
LEASE_STALE_S = 60.0
ELSE_ANOTHER_NAME = "wait for it, stop it, or give this run another name with --run"
BEAT_WAITS_S = 2.0  # for a store that does not answer; the next beat may do
RELEASE_WAITS_S = 3.0

_given_back: set[str] = set()  # tokens of this process, also those whose file a store would not let it delete


class LeaseLost(Exception):
    """Another process took this run over."""


class Lease:
    """`lease.json`: who writes this run, since when alive, under which fencing number.

    Args:
        folder: the run's.
        run: its name, for messages.
        newest_fence: the largest number that was ever given; the new one is larger.

    Raises:
        InputError: another process holds it, with that process's number and host.
    """

    def __init__(self, folder: Place, run: str, newest_fence: int) -> None:
        self.path, self.lost = folder / "lease.json", False
        # where files cannot be locked, the exclusive creation of a segment still stops the second
        with one_at_a_time(folder / "lease.lock"):
            self.fence = self._take(run, newest_fence)
        self._ended = threading.Event()
        self._beat = threading.Thread(target=self._beats, name="facex-lease", daemon=True)

    def keep(self) -> None:
        """Keeps the right to write: the heart beats from now until `release`."""
        if isinstance(self.path, RemotePath):
            self._write()  # of two that came together the other may have written last
        self._beat.start()

    @property
    def holder(self) -> dict[str, Any]:
        """Who holds it: `host`, `pid`, `started`, `machine`, `token`, `fence`."""
        return {**_this_process(), "token": self.token, "fence": self.fence}

    def _take(self, run: str, newest_fence: int) -> int:
        held = _read(self.path)
        refuse_if_held(self.path, held, run)
        self.token = secrets.token_hex(8)
        self.fence = max(newest_fence, int(held.get("fence", 0))) + 1
        self._write()
        return self.fence

    def _write(self) -> None:
        write_json(self.path, {**self.holder, "heartbeat": time.time()})

    def _beats(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            with suppress(OSError, InputError), remote_path.hurry(BEAT_WAITS_S):  # on a full disk the next beat may do
                if self._is_anothers(_read(self.path)):
                    self.lost = True
                    return
                self._write()

    def _is_anothers(self, held: Mapping[str, Any]) -> bool:
        """On object stores two that come together write one after another, and the log says who is in: a lease of our
        own number is no newer one.
        """
        if isinstance(self.path, RemotePath):
            return int(held.get("fence", 0)) > self.fence
        return held.get("token") != self.token

    def check(self) -> None:
        """Makes sure that this process still has the right to write.

        Raises:
            LeaseLost: it is not.
        """
        held = _read(self.path)
        if self.lost or self._is_anothers(held):
            raise LeaseLost(f"{self.path}: this run is now written by process {held.get('pid')} on {held.get('host')}")

    def release(self) -> None:
        """Gives the right to write back. Where the store does not answer, the lease is left to grow stale."""
        self._ended.set()
        _given_back.add(self.token)
        if self._beat.ident is not None:
            self._beat.join()
        with suppress(StorageOutage), remote_path.hurry(RELEASE_WAITS_S):
            if _read(self.path).get("token") == self.token:
                self.path.unlink()


def refuse_if_held(path: Place, held: Mapping[str, Any], run: str, way_out: str = ELSE_ANOTHER_NAME) -> None:
    """Raises an error that names the process which writes this run; does nothing where there is none.

    Args:
        way_out: what whoever reads of it can do.

    Raises:
        InputError: somebody does.
    """
    if not held:
        return
    who = f"run {run!r} is being written by process {held.get('pid')} on {held.get('host')}"
    if _is_of_this_machine(held):
        if _lives_here(held):
            raise InputError(f"{who}; {way_out}")
        return
    age_s = _age_s(path)
    if age_s < LEASE_STALE_S:
        raise InputError(
            f"{who} (its last sign of life is {max(0.0, age_s):.0f} s old; after {LEASE_STALE_S:.0f} s without one it "
            f"counts as dead); {way_out}"
        )


def holder(folder: Place) -> dict[str, Any] | None:
    """Says who writes the run of this folder now, ``{host, pid, fence, ...}``; None where nobody does.

    Only looks: elsewhere's heartbeat is compared with this machine's clock.
    """
    path = folder / "lease.json"
    with suppress(OSError):
        held = _read(path)
        if _is_of_this_machine(held):
            return held if _lives_here(held) else None
        if held and time.time() - modified(path) < LEASE_STALE_S:
            return held
    return None


def newest_fence(folder: Place) -> int:
    """Reads the fence of the process that has the right to write, or that had it last and did not give it back; 0 where
    there is none.
    """
    return int(_read(folder / "lease.json").get("fence", 0))


def _is_of_this_machine(held: Mapping[str, Any]) -> bool:
    return held.get("machine") == _machine()


def _lives_here(held: Mapping[str, Any]) -> bool:
    return held.get("token") not in _given_back and bool(held.get("started") == _process_start(int(held["pid"])))


def _read(path: Place) -> dict[str, Any]:
    try:
        lease: dict[str, Any] = regular.read_json(path)
    except (FileNotFoundError, DamagedRun):
        return {}
    return lease


def _age_s(path: Place) -> float:
    """How old a file is by the clock of whoever keeps it, asked by writing another."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        write_bytes(probe, b"what time is it?\n")
        return modified(probe) - modified(path)
    except FileNotFoundError:  # given back at this moment
        return LEASE_STALE_S
    finally:
        probe.unlink(missing_ok=True)


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "started": _process_start(pid), "machine": _machine()}


def _machine() -> str:
    """What two processes share that can see each other's numbers: host, boot, and namespace of process numbers."""
    return _machine_of(socket.gethostname(), os.getpid())


@lru_cache(maxsize=1)  # of a list of runs each is asked for
def _machine_of(host: str, _pid: int) -> str:
    told = [host]
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        told.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(told)


def _process_start(pid: int) -> str | None:
    """When a process of this host started, in a form that no other process of its number shares; None if there is
    none.
    """
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    if platform.system() == "Linux":
        return None
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return "alive"
