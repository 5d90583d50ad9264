"""Ray's own processes: without them the driver would wait for minutes, and then be ended by Ray, with Ray's last words.

Seen with Ray 2.60: with gcs_server gone the driver is ended after 60 s, with the raylet gone after some 14 s, with exit
code 1; a raylet whose agent is gone ends in good order and takes the driver along within .2 s. A raylet that is killed
at once leaves the time to end by our own book. Without its log monitor, monitor or dashboard a run goes on.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

AGENTS = {
    "dashboard agent": ("ray::DashboardAgent", "dashboard/agent.py"),
    "runtime environment agent": ("ray::RuntimeEnvAgent", "runtime_env/agent/main.py"),
}
GCS, RAYLET = "gcs_server", "raylet"
LOOK_EVERY_S, LOOK_FOR_S = 1.0, 60.0  # for an agent that is not there yet; some installations have one less
GCS_SILENT_S = 40.0  # of a cluster's, which may be started again; Ray ends the driver after 60
GCS_ASKED_EVERY_S = 5.0
_PROCESSES = Path("/proc")


@contextlib.contextmanager
def watched(session: Mapping[str, str], is_own: bool, on_lost: Callable[[str], object]) -> Iterator[None]:
    """Calls `on_lost` from a thread, once, with the name of the first of Ray's own processes that ends within the
    block. Where the system has no descriptors of processes (all but Linux), nothing is called.

    Args:
        session: what `ray.init` tells of it, `raylet_socket_name` and `gcs_address`.
        is_own: whether this Ray was started by this process, for it alone.
    """
    if not hasattr(os, "pidfd_open") or not _PROCESSES.is_dir():
        yield
        return
    watch = _Watch(session, is_own, on_lost)
    thread = threading.Thread(target=watch.run, name="facex-ray", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.end()
        thread.join(GCS_ASKED_EVERY_S)


class _Watch:
    """What a thread does: `run`, until the first loss or `end`."""

    def __init__(self, session: Mapping[str, str], is_own: bool, on_lost: Callable[[str], object]) -> None:
        self._is_own, self._on_lost = is_own, on_lost
        self._over = threading.Event()
        self._end, self._ended = socket.socketpair()
        self._raylet, self._gcs = session["raylet_socket_name"], session["gcs_address"]
        self._heard_s = time.monotonic()
        self._missing = {RAYLET, *AGENTS} | ({GCS} if is_own else set())
        self._look_until_s = time.monotonic() + LOOK_FOR_S
        self._names: dict[int, str] = {}  # of the processes that were found, by descriptor
        self._poll = select.poll()
        self._poll.register(self._ended, select.POLLIN)

    def end(self) -> None:
        """Nothing that ends from now on was lost."""
        self._over.set()
        self._end.close()

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._find()
                lost = [self._names[file] for file, _ in self._poll.poll(self._patience_ms()) if file in self._names]
                if not lost and not self._is_own and self._gcs_is_silent():
                    lost = [GCS]
                if lost and not self._over.is_set():
                    self._lose(lost[0])
                    return
        finally:
            for file in self._names:
                os.close(file)
            self._ended.close()

    def _lose(self, name: str) -> None:
        if self._is_own and name in AGENTS:
            [raylet] = [file for file, of in self._names.items() if of == RAYLET]
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(raylet, signal.SIGKILL)
        self._on_lost(name)

    def _patience_ms(self) -> float | None:
        """For ever, while nobody needs to be asked or looked for."""
        if self._missing and time.monotonic() < self._look_until_s:
            return LOOK_EVERY_S * 1000
        return None if self._is_own else GCS_ASKED_EVERY_S * 1000

    def _find(self) -> None:
        """Keeps a descriptor of each process that was missing and is there."""
        if not self._missing or time.monotonic() > self._look_until_s:
            return
        running = _running(self._raylet)
        for name in self._missing & running.keys():
            with contextlib.suppress(OSError):
                file = os.pidfd_open(running[name])
                self._names[file] = name
                self._poll.register(file, select.POLLIN)
                self._missing.discard(name)

    def _gcs_is_silent(self) -> bool:
        """Whether a cluster's has not been reached for too long."""
        host, _, port = self._gcs.rpartition(":")
        with contextlib.suppress(OSError):
            socket.create_connection((host.strip("[]"), int(port)), timeout=GCS_ASKED_EVERY_S).close()
            self._heard_s = time.monotonic()
        return time.monotonic() - self._heard_s > GCS_SILENT_S


def _running(raylet_socket: str) -> dict[str, int]:
    """The raylet with that socket, its agents, and the gcs_server that this process has started: name -> process id."""
    parents, titles = {}, {}
    for folder in _PROCESSES.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            titles[int(folder.name)] = (folder / "cmdline").read_text(errors="replace")
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found: dict[str, int] = {}
    for pid, parent in parents.items():
        if parent == os.getpid() and f"/{GCS}\0" in titles[pid]:
            found[GCS] = pid
        if f"--raylet_socket_name={raylet_socket}\0" in titles[pid]:
            found[RAYLET] = pid
    for pid in (pid for pid, parent in parents.items() if parent == found.get(RAYLET)):
        found |= {name: pid for name, marks in AGENTS.items() if any(mark in titles[pid] for mark in marks)}
    return found
