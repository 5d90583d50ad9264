"""Ray, started or joined, and quiet about what a user cannot act on."""

from __future__ import annotations

import logging
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facex_tune.errors import InputError
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


_session: dict[str, Any] = {}  # what `ray.init` told of it, while connected
_ADDRESS = re.compile(r"auto|local|(ray://)?[^\s/]+:\d{1,5}")  # Ray says of another what only its own code can use


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connects to the cluster at `address` (or in RAY_ADDRESS, as inside a job), or starts a Ray of our own, while the
    block lasts.

    Raises:
        InputError: the address is none, or the cluster does not answer.
    """
    said = f"--address {address}" if address else f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}"
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None and not _ADDRESS.fullmatch(address):
        raise InputError(f"{said}: no address of a Ray cluster; write host:port (6379 by default) or ray://host:port")
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    sigterm_before = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            # Object store small: faces travel as memory maps, checkpoints as files.
            told = ray.init(
                address="local",  # without it, Ray joins whatever cluster was last started on this machine
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False,
                configure_logging=True,
                object_store_memory=256 * 1024 * 1024,
                _temp_dir=_short_temporary_folder(),
            )
        else:
            told = ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise InputError(f"{said}: no Ray cluster answers there; start one, or leave it out") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, sigterm_before)  # ray.init has put its own there
    _session.update(getattr(told, "address_info", {}))  # of a cluster joined by ray:// nothing is told
    try:
        yield
    finally:
        _session.clear()
        ray.shutdown()


def session_folder() -> Path | None:
    """Finds Ray's own folder of this session on this host, for files that no run keeps; None where this process cannot
    write there.
    """
    folder = _session.get("session_dir")
    return Path(folder) if folder is not None and os.access(folder, os.W_OK | os.X_OK) else None


def capacity(resources: Resources, may_grow_to: int | None = None) -> int:
    """Counts the trials that the cluster can hold at once, at this moment.

    Args:
        may_grow_to: trials that nodes to come may hold, where an autoscaler brings what is asked for.

    Raises:
        InputError: not even one, whatever becomes free, and none is to come.
    """
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    slots = int(total.get("CPU", 0) // resources.cpus)
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


def _short_temporary_folder() -> str | None:
    """Ray's sockets live under its temporary folder, and a socket's path holds 107 characters at most."""
    folder = os.path.join(tempfile.gettempdir(), "ray")
    return folder if len(folder) < 40 else None
