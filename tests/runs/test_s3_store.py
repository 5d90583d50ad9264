"""A run folder in a real S3 server on loopback, behind a proxy that fails as networks do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from facex_tune import cli, study
from facex_tune.errors import StorageOutage
from facex_tune.evaluation.evaluate import evaluate
from facex_tune.inspection import doctor
from facex_tune.pipeline import stages
from facex_tune.pipeline.options import Options
from facex_tune.report.report import report
from facex_tune.runs import lease, segments
from facex_tune.runs.events import (
    CandidateChosen,
    ModelFinished,
    RunInterrupted,
    RunResumed,
    RunStarted,
    StageFinished,
    StageStarted,
)
from facex_tune.runs.lease import LeaseLost
from facex_tune.runs.store import Run, RunTaken
from facex_tune.search.job import Job
from facex_tune.search.referee import Referee
from facex_tune.search.worker import Worker
from facex_tune.storage import files, remote_access, remote_path
from facex_tune.storage.remote_path import RemotePath
from tests import object_store
from tests.object_store import CREDENTIALS, FaultyProxy
from tests.records import epoch as epoch_of
from tests.search.conftest import tiny_data, tiny_study

__all__ = ["tiny_data"]  # a fixture

STUDY = study.parse({"version": 1, "name": "small", "data": "synthetic"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with object_store.server() as number:
        object_store.make_bucket(number, "bucket")
        yield number


@pytest.fixture
def proxy(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote_access, "PAUSES_S", (0.01, 0.1))
    with FaultyProxy(port, seed=4) as running:
        yield running


@pytest.fixture
def storage(proxy: FaultyProxy, request: pytest.FixtureRequest) -> RemotePath:
    return remote_path.of(proxy.url(f"bucket/{request.node.name.partition('[')[0]}"))


def new_run(storage: RemotePath, name: str = "r") -> Run:
    return Run.create(storage, name, STUDY, data={}, environment={})


def fresh(run: Run) -> Run:
    return Run(run.storage, run.name)


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every lease seems another machine's that died."""
    monkeypatch.setattr(lease, "_is_of_this_machine", lambda held: False)
    monkeypatch.setattr(lease, "LEASE_STALE_S", -1.0)


def test_of_many_that_take_a_name_at_one_moment_one_gets_it(storage: RemotePath) -> None:
    together = threading.Barrier(6)

    def begin(_: int) -> Run | None:
        together.wait()
        with suppress(RunTaken):
            return new_run(storage)
        return None

    with ThreadPoolExecutor(6) as pool:
        [one] = [made for made in pool.map(begin, range(6)) if made]
    assert fresh(one).study == STUDY


# Faults


def test_a_fifth_of_all_requests_fails_and_nothing_is_lost_or_counted_twice(
    storage: RemotePath, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "PACKED", 16)
    proxy.rate = 0.2
    told = []
    run = new_run(storage)
    weight = torch.arange(500_000.0)  # two megabytes, as a real one has
    for _ in range(2):
        with fresh(run).log() as log:
            for epoch in range(30):
                told.append(log.append(epoch_of(0, epoch)))
                if epoch % 10 == 0:
                    files.save_tensors(run.trial_checkpoint(0), {"weight": weight + epoch}, {"epoch": epoch})
                    tensors, values = files.load_tensors(run.trial_checkpoint(0))
                    assert values["epoch"] == epoch
                    assert torch.equal(tensors["weight"], weight + epoch)
    assert list(fresh(run).events()) == told
    failed = {fault: proxy.requests[fault] for fault in object_store.FAULTS}
    assert all(failed.values()), failed


@pytest.mark.parametrize("fault", object_store.FAULTS)
def test_a_record_is_written_once_whatever_befalls_its_request(
    storage: RemotePath, proxy: FaultyProxy, fault: str
) -> None:
    run = new_run(storage, f"r-{fault.replace('_', '-')}")
    with run.log() as log:
        proxy.next_fault = fault
        told = [log.append(RunStarted()), log.append(epoch_of(0))]
    assert proxy.requests[fault] == 1
    assert list(fresh(run).events()) == told


def test_an_outage_is_waited_for_and_nobody_hears_of_an_event_before_it_is_saved(
    storage: RemotePath, proxy: FaultyProxy
) -> None:
    run = new_run(storage)
    heard: list[bool] = []
    with run.log() as log:
        log.append(RunStarted())
        log.listeners.append(lambda event: heard.append(proxy.is_down))
        proxy.is_down = True
        back = threading.Timer(2.0, setattr, (proxy, "is_down", False))
        back.start()
        began = time.monotonic()
        log.append(epoch_of(0))
        waited_s = time.monotonic() - began
        back.join()
    assert waited_s >= 2.0
    assert heard == [False]
    assert [event["type"] for event in fresh(run).events()] == ["run_started", "epoch"]


def test_a_longer_outage_ends_with_75_and_the_run_goes_on_afterwards(
    storage: RemotePath, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote_access, "PATIENCE_S", 0.5)
    monkeypatch.setattr(lease, "RELEASE_WAITS_S", 0.1)
    run = new_run(storage)
    with run.log() as log:
        told = log.append(RunStarted())
        proxy.is_down = True
        with pytest.raises(StorageOutage, match=r"no answer for \d+ s"):
            log.append(epoch_of(0))
    with pytest.raises(SystemExit) as ended:
        cli.main(["show", "r", "--storage", str(storage)])
    assert ended.value.code == 75
    (line,) = capsys.readouterr().err.splitlines()
    assert "no answer for" in line
    assert line.endswith("give the same command again when it does")
    proxy.is_down = False
    with fresh(run).log() as log:
        again = log.append(RunResumed())
    assert list(fresh(run).events()) == [told, again]


def test_who_is_in_a_hurry_is_not_kept_by_a_store_that_says_nothing(storage: RemotePath, proxy: FaultyProxy) -> None:
    run = new_run(storage)
    with run.log() as log:
        log.append(RunStarted())
        proxy.is_silent = True
        began = time.monotonic()
        with pytest.raises(StorageOutage), remote_path.hurry(1.0):
            log.append(RunInterrupted(signal="SIGTERM"))
    assert time.monotonic() - began < 8.0, "writing, the last heartbeat and giving the lease back, together"


# One writer


def test_the_server_keeps_a_replaced_writer_out(
    storage: RemotePath, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(storage)
    with run.log() as frozen:
        told = [frozen.append(RunStarted())]
        assert frozen.is_fenced
        monkeypatch.setattr(frozen._lease, "check", lambda: None)  # it has not looked at its lease yet
        elsewhere(monkeypatch)
        with fresh(run).log() as successor:
            with pytest.raises(LeaseLost, match="another process's"):
                frozen.append(epoch_of(0))
            told.append(successor.append(RunResumed()))
    assert list(fresh(run).events()) == told


def test_a_store_that_ignores_conditions_is_found_out(
    storage: RemotePath, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(storage)
    proxy.ignores_conditions = True
    with run.log() as log:
        assert not log.is_fenced
        log.append(RunStarted())
        elsewhere(monkeypatch)
        with fresh(run).log() as successor:
            with pytest.raises(LeaseLost, match="now written by process"):
                log.append(epoch_of(0))
            successor.append(RunResumed())
    assert [event["type"] for event in fresh(run).events()] == ["run_started", "run_resumed"]


CONTENDER = """
import sys
from facex_tune.runs.events import RunStarted
from facex_tune.runs.store import Run
for name in iter(sys.stdin.readline, ""):
    try:
        with Run(sys.argv[1], name.strip()).log() as log:
            log.append(RunStarted())
            print("wrote", flush=True)
            sys.stdin.readline()
    except Exception as error:
        print(type(error).__name__, flush=True)
        sys.stdin.readline()
"""


def _tell(contenders: list[subprocess.Popen[str]], word: str) -> None:
    for contender in contenders:
        assert contender.stdin is not None
        contender.stdin.write(word + "\n")
        contender.stdin.flush()


def test_of_two_processes_that_start_together_one_writes(storage: RemotePath) -> None:
    command = [sys.executable, "-c", CONTENDER, str(storage)]
    pair = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outcomes = Counter[str]()
    for i in range(6):
        run = new_run(storage, f"r{i}")
        _tell(pair, run.name)
        outcomes["+".join(sorted(each.stdout.readline().strip() for each in pair if each.stdout is not None))] += 1
        assert [event["type"] for event in fresh(run).events()] == ["run_started"]
        _tell(pair, "go on")
    for contender in pair:
        contender.communicate("")
    assert outcomes.keys() <= {"InputError+wrote", "LeaseLost+wrote"}, outcomes


# A run


TINY = tiny_study(
    budget={"trials": 3},
    fidelity={"min_epochs": 1, "max_epochs": 2, "reduction": 2},
    search={"seed": 3, "concurrency": 1, "scheduler": "none"},  # the outage comes in the second trial's second epoch
)


def drive(run: Run, data: Path) -> None:
    """Searches, trains the first trial again as a final model, evaluates and reports, all in this process."""
    with run.log() as log:
        log.append(RunStarted())
        log.append(StageStarted(stage="search"))
        referee = Referee(run, log)
        options = Options(storage=run.storage, data_dir=data, device="cpu")
        worker = Worker(stages._context(run, options, log.fence))
        while (trial := referee.next_trial()) is not None:
            worker.begin(referee.job(trial))
            while referee.take(trial.number, worker.step()):
                pass
        if referee.fatal is not None:
            raise referee.fatal
        log.append(StageFinished(stage="search"))
        log.append(CandidateChosen(trial=0, value=0.5, rank=1))
        worker.begin(Job(run.history().trials[0].config, 1, (3, 1, 0, 0), str(run.final_checkpoint(0, 0))))
        worker.step()
        log.append(ModelFinished(candidate=0, seed=0, metrics=worker.finish(0, 0)))
        evaluate(run, log, data, "cpu")
    report(run, data)


def outcome(run: Run) -> dict[str, Any]:
    """Everything that a run says but for how fast it went."""

    def timeless(metrics: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in metrics.items() if name != "train_images_per_second"}

    history = run.history()
    return {
        "trials": {
            number: (trial.config, trial.state, {epoch: timeless(metrics) for epoch, metrics in trial.epochs.items()})
            for number, trial in history.trials.items()
        },
        "models": {key: timeless(metrics) for key, metrics in history.models.items()},
        "scores": {
            path.stem: json.loads(path.read_bytes())["metrics"] for path in run.evaluation_folder.glob("*.json")
        },
        "kept": sorted(path.name for path in (run.folder / "trials").iterdir() if (path / "last.safetensors").exists()),
        "report": sorted(path.name for path in run.report_folder.iterdir()),
    }


@pytest.mark.skipif(os.environ.get("FACEX_FAULTS") != "full", reason="minutes of training over S3: `make faults`")
def test_a_whole_run_through_an_outage_ends_as_on_a_disk(
    storage: RemotePath,
    proxy: FaultyProxy,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., tuple[int, str, str]],
) -> None:
    on_disk = Run.create(tmp_path, "r", TINY, data={}, environment={})
    drive(on_disk, tiny_data)

    run = Run.create(storage, "r", TINY, data={}, environment={})
    proxy.rate = 0.02
    really = files.save_tensors

    def out_while_saving(path: files.Place, tensors: Any, values: Any) -> None:
        if "t0001" in str(path) and values["epoch"] == 2:
            proxy.is_down = True
            patched.setattr(remote_access, "PATIENCE_S", 0.3)
            patched.setattr(lease, "RELEASE_WAITS_S", 0.1)
        really(path, tensors, values)

    with monkeypatch.context() as patched:
        patched.setattr(files, "save_tensors", out_while_saving)
        with pytest.raises(StorageOutage):
            drive(run, tiny_data)
    proxy.is_down = False
    saved = list(fresh(run).events())
    assert [event["epoch"] for event in saved if event["type"] == "epoch" and event["trial"] == 1] == [1]
    drive(fresh(run), tiny_data)

    assert outcome(fresh(run)) == outcome(on_disk)
    assert list(fresh(run).events())[: len(saved)] == saved
    told = [(e["type"], e["trial"], e["epoch"]) for e in fresh(run).events() if e["type"] == "epoch"]
    assert len(told) == len(set(told)), "no epoch is counted twice"
    assert not (run.folder / "lease.json").exists()

    where = ("--storage", str(storage))
    assert [each["run"] for each in json.loads(call("runs", "--json", *where)[1])["runs"]] == ["r"]
    shown = json.loads(call("show", "r", "--json", *where)[1])
    assert shown["evaluation"].keys() == {"synthetic.private", "synthetic.lab.6"}
    assert call("report", "r", *where, "--data", str(tiny_data))[1].startswith(f"report: {storage.url}/r/report/")


# What is told


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(words))
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("bucket", "there is no bucket of that name; make it, or correct --storage"),
        ("denied", "access denied (planted); check the credentials in the environment"),
        ("credentials", "no credentials (Unable to locate credentials); set those of this store in the environment"),
        ("port", "no answer for"),
    ],
)
def test_what_stands_in_the_way_is_one_line(
    proxy: FaultyProxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    call: Callable[..., tuple[int, str, str]],
    wrong: str,
    said: str,
) -> None:
    url = proxy.url("nosuch/runs" if wrong == "bucket" else "bucket/runs")
    if wrong == "denied":
        proxy.always = "denied"
    if wrong == "credentials":
        for name in CREDENTIALS:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    if wrong == "port":
        url = url.replace(str(proxy.port), str(object_store._free_port()))
        monkeypatch.setattr(remote_path, "ANSWERS_WITHIN_S", 0.3)
    code, _, err = call("run", "search_spaces/quick.yaml", "--storage", url, "--data", str(tmp_path))
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert said in line
    assert url.partition("?")[0] in line


def test_doctor_looks_whether_the_store_can_be_written(storage: RemotePath, proxy: FaultyProxy) -> None:
    assert doctor._storage(storage).level == "ok"
    proxy.always = "denied"
    found = doctor._storage(storage)
    assert found.level == "problem"
    assert "access denied" in found.text
