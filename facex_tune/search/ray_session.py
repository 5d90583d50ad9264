"""Ray, started or joined, and quiet about what a user cannot act on."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from facex_tune.errors import InputError, Interrupted, RayNotStarted
from facex_tune.search import face_cache, ray_folder, ray_lean, ray_processes
from facex_tune.storage.loopback import spare_proxy
from facex_tune.study import Resources

_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our log is the record, not Tune's copies
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune would end with exit code 0 and part of the trials
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # nothing is ever restored from Tune's own state
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # our search says how many; Tune's 1 would fill slots one after another
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # a lost worker goes to our log, in one line
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default; unset, Ray warns of it
    "RAY_DEDUP_LOGS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner prints even when told to be silent
    "RAY_USAGE_STATS_ENABLED": "0",
}


HANDLER_LOOKED_AT_EVERY_S = 0.005
AGAIN_AFTER_S = 0.3  # `timeout` and others send one signal twice
WORKERS_NEED = ("facex_tune.search.worker", "facex_tune.search.trainable")  # torch and Ray Tune with them
_session: dict[str, Any] = {}  # what `ray.init` told of it, while connected
_ADDRESS = re.compile(r"auto|(ray://)?[^\s/]+:\d{1,5}")  # Ray says of another what only its own code can use


@contextmanager
def connected(
    address: str | None,
    cpus: int | None = None,
    on_lost: Callable[[str], object] | None = None,
    *,
    workers: int = 0,
) -> Iterator[None]:
    """Connects to the cluster at `address` (or in RAY_ADDRESS, as inside a job), or starts a Ray of our own, while the
    block lasts.

    Args:
        cpus: that a Ray of our own has; None: as many as it counts.
        workers: that a Ray of our own begins with, which load at once what they need, while the driver loads what it
            needs itself. An actor takes such a process; each holds some 300 MB. 0: one for each CPU, which load nothing
            before an actor takes them.
        on_lost: called from a thread with the name of a process of Ray's own that ended, and Ray with it.

    Raises:
        InputError: the address is none, the cluster does not answer or does not let us in, or a Ray of our own finds no
            place.
        RayNotStarted: a Ray of our own has not started in Ray's time.
    """
    face_cache.from_here()
    said = f"--address {address}" if address else f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}"
    address = address or os.environ.get("RAY_ADDRESS") or None
    address = None if address == "local" else address
    if address is not None and not _ADDRESS.fullmatch(address):
        raise InputError(f"{said}: no address of a Ray cluster; write host:port (6379 by default) or ray://host:port")
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)

    with ExitStack() as stack:
        sigterm_before = signal.getsignal(signal.SIGTERM)
        with _sigterm_kept():
            told = _started(stack, cpus, workers) if address is None else _joined(address, said)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, sigterm_before)  # ray.init has put its own there
        _session.update(getattr(told, "address_info", {}))  # of a cluster joined by ray:// nothing is told
        if address is None:
            _cleared_after(stack, Path(_session["session_dir"]))
        stack.callback(_shut_down)
        stack.callback(_session.clear)
        if on_lost is not None and _session:
            stack.enter_context(ray_processes.watched(_session, address is None, on_lost))
        yield


def _cleared_after(stack: ExitStack, session: Path) -> None:
    """A Ray of our own leaves nothing behind, unless a fault ends it: then its logs stay, for a week."""
    ray_folder.claim(session)
    ray_folder.clear_old(session.parent)

    def over(kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, (InputError, Interrupted, KeyboardInterrupt)):
            ray_folder.clear(session)

    stack.push(over)


def _started(stack: ExitStack, cpus: int | None, workers: int) -> Any:
    import ray

    folder = ray_folder.temporary_folder()
    stack.enter_context(ray_folder.own_token())
    preloaded = {"preload_python_modules": list(WORKERS_NEED)} if workers else None
    try:
        with ray_lean.without_unasked(workers or None):
            # Object store small: faces travel as memory maps, checkpoints as files.
            return ray.init(
                address="local",  # without it, Ray joins whatever cluster was last started on this machine
                num_cpus=cpus,
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False,
                configure_logging=True,
                object_store_memory=256 * 1024 * 1024,
                _temp_dir=folder,
                _system_config=preloaded,
            )
    except Exception as error:
        if type(error) is not Exception:  # Ray raises the bare class where its node does not answer within 30 s
            raise
        load = f"load {os.getloadavg()[0]:.0f}, {os.cpu_count()} CPUs"
        raise RayNotStarted(f"a Ray that did not start in its time ({load})") from error


def _joined(address: str, said: str) -> Any:
    import ray

    spare_proxy(address)
    try:
        return ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise InputError(f"{said}: {_why_not_joined(address)}") from error


def _why_not_joined(address: str) -> str:
    """Ray says the same of a cluster that is not there and of one whose token this process does not have."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    with suppress(OSError, ValueError):
        if parts.hostname and parts.port:
            socket.create_connection((parts.hostname, parts.port), timeout=5).close()
            return (
                "something listens there and does not let this process join. Where it is a Ray cluster with a token "
                "(Ray's default from 2.60 on), set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH as "
                "its head has them"
            )
    return "no Ray cluster answers there; start one, or leave it out"


def _shut_down() -> None:
    import ray

    with _signals_later(), _sigterm_kept():
        ray.shutdown()


@contextmanager
def _signals_later() -> Iterator[None]:
    """Keeps the first SIGINT or SIGTERM until the block is over: what it raises in the middle of `ray.shutdown` leaves
    Ray's core half ended, which an assertion in it may answer with SIGABRT. One that comes `AGAIN_AFTER_S` later acts
    at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    kept: list[tuple[int, float]] = []

    def keep(number: int, frame: FrameType | None) -> None:
        acts, now_s = before[signal.Signals(number)], time.monotonic()
        if not kept:
            kept.append((number, now_s))
        elif callable(acts) and now_s - kept[0][1] > AGAIN_AFTER_S:
            kept.clear()
            acts(number, frame)

    held = [number for number, acts in before.items() if callable(acts)]  # what is left to the system stays so
    for number in held:
        signal.signal(number, keep)
    try:
        yield
    finally:
        for number in held:
            signal.signal(number, before[number])
    for came, _ in kept:
        signal.raise_signal(came)


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keeps SIGTERM's handler in C, which Ray's core takes away twice: it puts its own there when it starts, and none
    when it ends, about a second before `ray.shutdown` returns. Python does not notice, and could set it again only from
    the main thread, which waits for Ray then.
    """
    get, put = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    get.restype = put.restype = ctypes.c_void_p
    put.argtypes = (ctypes.c_int, ctypes.c_void_p)
    handler, over = get(signal.SIGTERM), threading.Event()

    def keep() -> None:
        while not over.wait(HANDLER_LOOKED_AT_EVERY_S):
            if get(signal.SIGTERM) != handler:
                put(signal.SIGTERM, handler)

    keeper = threading.Thread(target=keep, name="facex-sigterm", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        put(signal.SIGTERM, handler)


def session_folder() -> Path | None:
    """Finds Ray's own folder of this session on this host, for files that no run keeps; None where this process cannot
    write there.
    """
    folder = _session.get("session_dir")
    return Path(folder) if folder is not None and os.access(folder, os.W_OK | os.X_OK) else None


def cpus() -> int:
    """Counts the cluster's CPUs, at this moment."""
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, int(total.get("CPU", 1)))


def capacity(resources: Resources, may_grow_to: int | None = None) -> int:
    """Counts the trials that the cluster can hold at once, at this moment.

    Args:
        may_grow_to: trials that nodes to come may hold, where an autoscaler brings what is asked for.

    Raises:
        InputError: not even one, whatever becomes free, and none is to come.
    """
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    slots = int(total.get("CPU", 0) // resources.least_cpus)
    if resources.gpus:
        slots = min(slots, int(total.get("GPU", 0) / resources.gpus))
    if slots < 1 and not may_grow_to:
        raise InputError(
            f"resources: a trial wants {resources.cpus} CPU and {resources.gpus:g} GPU; this Ray has "
            f"{total.get('CPU', 0):g} CPU and {total.get('GPU', 0):g} GPU: "
            "lower `resources`, or join a larger cluster with --address (one that grows when asked: say to how many "
            "trials with search.concurrency)"
        )
    return max(slots, may_grow_to or 0)
