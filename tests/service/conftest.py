"""A real service on loopback, over a folder of runs."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from facex_tune.pipeline.options import Options
from facex_tune.runs.events import EpochDone, RunStarted, StageStarted, TrialFinished, TrialStarted
from facex_tune.runs.store import Run
from facex_tune.service import listen
from facex_tune.service.received import Ceiling
from facex_tune.service.serve import application
from facex_tune.study import Study
from tests.search.conftest import tiny_data, tiny_study

__all__ = ["tiny_data"]

STUDY = """
version: 1
name: tiny
data: synthetic
budget: {trials: 2}
fidelity: {min_epochs: 1, max_epochs: 2, reduction: 2}
search: {seed: 3, concurrency: 1}
space:
  model: [{facex_cnn: {width: 0.25}}]
  augment: [none]
  balance: [none]
  train: {lr: {low: 0.01, high: 0.1, log: true}, batch_size: 32}
retrain: {top: 1, seeds: 1, epochs: 1}
"""


@dataclass(frozen=True)
class Client:
    """What a caller of the service has: its URL, and perhaps a token."""

    url: str
    token: str | None = None

    def ask(
        self, path: str, *, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=dict(headers or {}))
        if body is not None and not request.has_header("Content-type"):
            request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def json(self, path: str, **said: Any) -> Any:
        """The body of a good answer."""
        status, body = self.ask(path, **said)
        assert status < 300, body
        return json.loads(body)


@contextlib.contextmanager
def serving(
    options: Options, token: str | None = None, root_path: str = "", ceiling: Ceiling | None = None
) -> Iterator[Client]:
    """The application on a free port of loopback."""
    listener = listen._bound("127.0.0.1", 0)
    server = listen.Server(application(options, token, ceiling=ceiling), root_path=root_path)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Client(f"http://127.0.0.1:{listener.getsockname()[1]}", token)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def options(tmp_path: Path, tiny_data: Path) -> Options:
    return Options(storage=tmp_path / "runs", data_dir=tiny_data, device="cpu")


@pytest.fixture
def service(options: Options) -> Iterator[Client]:
    with serving(options) as client:
        yield client


@pytest.fixture
def some_run(options: Options) -> Run:
    """A run with a trial, a model and a report, none of them the product of training."""
    return write_run(options.storage, "night", tiny_study())


def write_run(storage: Path, name: str, study: Study) -> Run:
    run = Run.create(storage, name, study, data={}, environment={"packages": {}, "hardware": {}, "git_commit": None})
    with run.log() as log:
        log.append(RunStarted())
        log.append(StageStarted(stage="search"))
        log.append(TrialStarted(trial=0, config=study.space.draw(lambda _, knob: knob.default), source="sampler"))
        for epoch in (1, 2, 3):
            metrics = {"macro_f1": 0.1 * epoch, "accuracy": 0.2, "train_images_per_second": 100.0}
            log.append(EpochDone(trial=0, epoch=epoch, metrics=metrics, seconds=1.0))
        log.append(TrialFinished(trial=0))
    files = {"report/index.html": b"<p>report</p>", "final/t0000-s0/model.safetensors": bytes(range(256)) * 20_000}
    files |= {"final/t0000-s0/last.safetensors": b"checkpoint", "trials/t0000/last.safetensors": b"checkpoint"}
    for path, content in files.items():
        (run.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (run.folder / path).write_bytes(content)
    return run


Waiter = Callable[[Callable[[], bool]], None]
