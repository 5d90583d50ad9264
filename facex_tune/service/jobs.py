"""Runs as jobs of a Ray cluster, through Ray's own jobs API: submit, status, logs, stop.

A job is `<run>-<attempt>`, and its metadata name the run: the API refuses an id that exists, and a run that is
submitted again is resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facex_tune import __version__
from facex_tune.errors import InputError, nearest, one_line
from facex_tune.service import packing
from facex_tune.storage.loopback import spare_proxy

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

RUN = "facex_tune.run"  # the keys of a job's metadata
VERSION = "facex_tune.version"
STORAGE = "facex_tune.storage"
STOP_WAITS_S = 60  # Ray's own 3 seconds would kill a driver that is still writing
GOING = ("PENDING", "RUNNING")
_STOP_ASKED_EVERY_S = 0.5


@dataclass(frozen=True)
class Submission:
    """What a job is to do.

    Attributes:
        study: the study's file, here.
        run: the run's name.
        storage, data: folders or URLs, as the cluster's hosts see them.
        sets: `key=value`, as on the command line.
        parts: folders of the user's own parts, here; they travel with the job.
    """

    study: Path
    run: str
    storage: str
    data: str
    sets: tuple[str, ...] = ()
    seed: int | None = None
    device: str | None = None
    parts: tuple[Path, ...] = ()

    def command(self) -> str:
        """The job's entrypoint. Naming a run that exists resumes it."""
        words = ["python", "-m", "facex_tune", "run", packing.STUDY, "--run", self.run]
        words += ["--storage", self.storage, "--data", self.data]
        words += [word for each in self.sets for word in ("--set", each)]
        words += [] if self.seed is None else ["--seed", str(self.seed)]
        words += [] if self.device is None else ["--device", self.device]
        return shlex.join([*words, *packing.parts_arguments(self.parts)])


def submit(submission: Submission, address: str | None) -> str:
    """Hands the job to the cluster; its id.

    Raises:
        InputError: the cluster does not answer or does not let us in, or an attempt of this run is still going.
    """
    _seen_by_every_host(submission)
    client = connect(address)
    attempts = _attempts(client, submission.run)
    if attempts and attempts[-1].status in GOING:
        job = attempts[-1].submission_id
        raise InputError(
            f"run {submission.run!r} is going already, as job {job}: watch it with "
            f"`facex-tune logs {submission.run} --follow`, or end it with `facex-tune stop {submission.run}`"
        )
    with packing.packed(submission.study, submission.parts) as folder, _explained(address):
        return client.submit_job(
            entrypoint=submission.command(),
            submission_id=f"{submission.run}-{_next_attempt(attempts)}",
            metadata={RUN: submission.run, VERSION: __version__, STORAGE: submission.storage},
            runtime_env={"working_dir": str(folder), "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAITS_S)}},
        )


def status(run: str, address: str | None) -> dict[str, Any]:
    """A run's attempts, the last one last.

    Returns:
        run, storage, state (of the last attempt), attempts: [{job, state, message, start, end}] (seconds since 1970).

    Raises:
        InputError: the cluster does not answer, does not let us in, or knows no such run.
    """
    attempts = _known_attempts(connect(address), run)
    return {
        "version": 1,
        "run": run,
        "storage": (attempts[-1].metadata or {}).get(STORAGE),
        "state": str(attempts[-1].status.value),
        "attempts": [_plain(attempt) for attempt in attempts],
    }


def runs(address: str | None) -> list[dict[str, Any]]:
    """Every run that the cluster remembers, its last attempt's state with it; the newest first."""
    client = connect(address)
    newest: dict[str, JobDetails] = {}
    for job in _jobs(client):
        newest[(job.metadata or {})[RUN]] = job
    return [{"run": run, **_plain(job)} for run, job in reversed(newest.items())]


def logs(run: str, address: str | None, *, follow: bool) -> Iterator[str]:
    """What a run's last attempt printed, in pieces as they come; with `follow` until it ends."""
    client = connect(address)
    job = _known_attempts(client, run)[-1].submission_id
    assert job is not None
    if not follow:
        with _explained(address):
            yield client.get_job_logs(job)
        return
    pieces = client.tail_job_logs(job)
    with asyncio.Runner() as runner, _explained(address):
        while True:
            try:
                yield runner.run(anext(pieces))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return


def stop(run: str, address: str | None, *, wait_s: float = STOP_WAITS_S + 10) -> str:
    """Ends a run's last attempt so that it can be resumed: SIGTERM, then time to write; the job's last state.

    Raises:
        InputError: as `status`; or it has ended already, or does not end in time.
    """
    client = connect(address)
    attempt = _known_attempts(client, run)[-1]
    job = attempt.submission_id
    assert job is not None
    if attempt.status not in GOING:
        raise InputError(f"run {run!r} is not going: job {job} has ended ({attempt.status.value})")
    with _explained(address):
        client.stop_job(job)
        until = time.monotonic() + wait_s
        while (state := client.get_job_status(job)) in GOING:
            if time.monotonic() > until:
                raise InputError(f"job {job} has not ended after {wait_s:.0f} s; see `facex-tune logs {run}`")
            time.sleep(_STOP_ASKED_EVERY_S)
    return str(state.value)


def connect(address: str | None) -> JobSubmissionClient:
    """The cluster's jobs API.

    Args:
        address: its dashboard, such as http://127.0.0.1:8265; None: RAY_API_SERVER_ADDRESS, or that one.

    Raises:
        InputError: nobody answers there, or not to us.
    """
    url = dashboard(address)
    spare_proxy(url)
    from ray.job_submission import JobSubmissionClient

    token = cluster_token()
    with _explained(address), _our_address(url):
        return JobSubmissionClient(url, headers={"Authorization": f"Bearer {token}"} if token else None)


def dashboard(address: str | None) -> str:
    """The URL of the cluster's dashboard.

    Raises:
        InputError: `address` is no http(s) URL.
    """
    url = (address or os.environ.get("RAY_API_SERVER_ADDRESS") or "http://127.0.0.1:8265").rstrip("/")
    if not re.fullmatch(r"https?://[^\s/]+", url):
        raise InputError(
            f"--address {url}: the jobs API is reached by its http(s) URL, such as http://127.0.0.1:8265 "
            "(`ray dashboard CLUSTER.yaml` forwards it from a cluster)"
        )
    return url


@contextlib.contextmanager
def _our_address(url: str) -> Iterator[None]:
    """Ray lets its environment variables overrule an address that is given; here the given one holds."""
    before = {name: os.environ.pop(name, None) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
    try:
        os.environ["RAY_API_SERVER_ADDRESS"] = url
        yield
    finally:
        os.environ.pop("RAY_API_SERVER_ADDRESS", None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


@contextlib.contextmanager
def _explained(address: str | None) -> Iterator[None]:
    """Ray's errors as one line each, with what to do."""
    from ray.exceptions import AuthenticationError

    url = dashboard(address)
    try:
        yield
    except AuthenticationError as error:
        raise InputError(_not_let_in(url, str(error))) from error
    except (ConnectionError, OSError) as error:
        raise InputError(
            f"{url}: no Ray dashboard answers there; is the cluster up, and its port forwarded "
            "(`ray dashboard CLUSTER.yaml`)? Name another with --address"
        ) from error
    except RuntimeError as error:
        text = one_line(error)
        if re.search(r"status code 40[13]", text):
            raise InputError(_not_let_in(url, text)) from error
        raise InputError(f"{url}: {text[:300]}") from error


def _not_let_in(url: str, said: str) -> str:
    if cluster_token() is None:
        return (
            f"{url} wants a token and there is none here: put the cluster's into ~/.ray/auth_token "
            "(or RAY_AUTH_TOKEN, or a file named by RAY_AUTH_TOKEN_PATH)"
        )
    return f"{url} refuses the token found here: compare ~/.ray/auth_token, or RAY_AUTH_TOKEN, with the cluster's"


def cluster_token() -> str | None:
    """The cluster's token where Ray itself looks for it: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token.

    Raises:
        InputError: a file is named that cannot be read.
    """
    if said := os.environ.get("RAY_AUTH_TOKEN"):
        return said.strip()
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        if named:
            raise InputError(f"RAY_AUTH_TOKEN_PATH={named}: no such file") from None
        return None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; the cluster's token lies there") from error


def _seen_by_every_host(submission: Submission) -> None:
    for option, value in (("--storage", submission.storage), ("--data", submission.data)):
        if "://" not in value and not value.startswith("/"):
            raise InputError(
                f"{option} {value}: a job runs in a folder of its own, so name a place that the cluster's hosts see: "
                "an absolute path on shared storage, or a URL such as s3://bucket/runs"
            )


def _jobs(client: JobSubmissionClient) -> list[JobDetails]:
    """Our jobs, oldest first."""
    with _explained(client.get_address()):
        jobs = client.list_jobs()
    return sorted((job for job in jobs if RUN in (job.metadata or {})), key=lambda job: job.start_time or 0)


def _attempts(client: JobSubmissionClient, run: str) -> list[JobDetails]:
    return [job for job in _jobs(client) if (job.metadata or {})[RUN] == run]


def _known_attempts(client: JobSubmissionClient, run: str) -> list[JobDetails]:
    jobs = _jobs(client)
    attempts = [job for job in jobs if (job.metadata or {})[RUN] == run]
    if not attempts:
        known = sorted({(job.metadata or {})[RUN] for job in jobs})
        raise InputError(
            f"no job of a run named {run!r} at {client.get_address()}; "
            f"{nearest(run, known) if known else 'none was submitted there'}"
        )
    return attempts


def _next_attempt(attempts: Sequence[JobDetails]) -> int:
    numbers = [int((job.submission_id or "-0").rpartition("-")[2]) for job in attempts]
    return max(numbers, default=0) + 1


def _plain(job: JobDetails) -> dict[str, Any]:
    return {
        "job": job.submission_id,
        "state": str(job.status.value),
        "message": job.message,
        "start": None if job.start_time is None else job.start_time / 1000,
        "end": None if job.end_time is None else job.end_time / 1000,
    }
