"""What `cluster/README.md` and `docs/cluster.md` say of hosts that are reached by SSH, on three of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from facex_tune.runs.history import FINISHED, STOPPED
from facex_tune.runs.store import Event, Run
from tests.e2e.conftest import FULL, only_full
from tests.e2e.onprem import (
    CHECKOUT,
    HEAD,
    PARTS,
    PROMOTED_TRIALS,
    PROMOTING_STUDY,
    SLOW_EPOCHS,
    SLOW_STUDY,
    STUDY,
    TOKEN,
    TRIALS,
    WORKERS,
    Cluster,
    commands,
    until,
)

pytestmark = pytest.mark.slow
UP, SUBMIT = "`ray up`, `ray submit`", "`submit`"
OURS = ("trial_started", "epoch", "trial_finished", "model_finished")


@pytest.fixture(scope="module")
def running(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with Ray on all of its hosts."""
    up, *_, down = commands(UP)
    cluster.give(up)
    cluster.wait_for_hosts(HEAD, *WORKERS)
    yield cluster
    cluster.give(down)


def submitted(verb: str, run: str, study: str = SLOW_STUDY) -> str:
    """The README's command of that verb, for the slow study or another one, and a run of ours."""
    [command] = [line for line in commands(SUBMIT) if line.startswith(f"facex-tune {verb} ")]
    command = command.replace("search_spaces/quick.yaml", study).replace("demo", run)
    return f"{command} --parts {PARTS}" if verb == "submit" else command


def epochs(events: list[Event]) -> list[Event]:
    return [event for event in events if event["type"] == "epoch"]


def lasting(events: list[Event]) -> list[Event]:
    """What must not be lost, or told twice."""
    return [event for event in events if event["type"] in OURS]


def keys(events: list[Event]) -> list[tuple[object, ...]]:
    names = ("type", "trial", "epoch", "candidate", "seed")
    return [tuple(event.get(name) for name in names) for event in events]


def check_complete(cluster: Cluster, run: str) -> None:
    """Every trial at its last epoch, nothing trained in vain or told twice, and the report written."""
    events, history = cluster.log_of(run), Run(cluster.shared / "runs", run).history()
    ends = [(trial.state, trial.last_epoch) for trial in history.trials.values()]
    assert ends == [(FINISHED, SLOW_EPOCHS)] * TRIALS
    assert history.stages["report"] == "finished"
    told = keys(lasting(events))
    assert len(told) == len(set(told))
    assert not [event for event in events if event.get("reason") == "checkpoint_lost"]


def test_ray_up_ray_submit_ray_rsync_down_ray_down(cluster: Cluster) -> None:
    up, submit, rsync_down, down = commands(UP)
    installed = distribution("facex_tune").read_text("RECORD")
    cluster.give(up)
    try:
        cluster.give(submit.replace("search_spaces/quick.yaml", STUDY))
        cluster.give(rsync_down)
    finally:
        cluster.give(down)
    assert (cluster.operator.home / Path(CHECKOUT).name / "report" / "index.html").is_file()
    assert {event["host"] for event in epochs(cluster.log_of("demo"))} == set(WORKERS)
    history = Run(cluster.shared / "runs", "demo").history()
    assert [trial.state for trial in history.trials.values()] == [FINISHED] * TRIALS
    for name in (HEAD, *WORKERS):
        fetched = (cluster.hosts[name].home / ".cache" / "facex_tune").glob("*/synthetic/manifest.json")
        assert len(list(fetched)) == (name in WORKERS), f"{name}: workers alone fetch the faces, each once"
    for name in (HEAD, *WORKERS) if FULL else (HEAD,):  # workers' Ray ends by itself, a minute after its head
        until(lambda name=name: "raylet" not in cluster.on(name, "ps ax"), lambda name=name: f"Ray goes on on {name}")
    assert distribution("facex_tune").read_text("RECORD") == installed, "a host changed the environment of this test"


@only_full
def test_submit_status_logs_stop_submit_again_pull(running: Cluster) -> None:
    with running.dashboard():
        assert "job night-1" in running.give(submitted("submit", "night")).stdout
        until(lambda: bool(epochs(running.log_of("night"))), lambda: running.facex("logs", "night").stdout)
        assert "night-1" in running.give(submitted("status", "night")).stdout
        assert running.facex("logs", "night").stdout
        running.give(submitted("stop", "night"))
        before = running.log_of("night")
        assert [event["signal"] for event in before if event["type"] == "run_interrupted"] == ["SIGTERM"]
        assert len(epochs(before)) < SLOW_EPOCHS * TRIALS
        assert "job night-2" in running.give(submitted("submit", "night")).stdout
        assert "report:" in running.give(submitted("logs", "night")).stdout
        status = json.loads(running.facex("status", "night", "--json").stdout)
        assert [attempt["state"] for attempt in status["attempts"]] == ["STOPPED", "SUCCEEDED"]
        running.give(submitted("pull", "night"))
    check_complete(running, "night")
    assert running.log_of("night")[: len(before)] == before
    assert (running.operator.home / Path(CHECKOUT).name / "results" / "night" / "report" / "index.html").is_file()


@only_full
@pytest.mark.parametrize("environment", [{"HOME": "/tmp"}, {"RAY_AUTH_TOKEN": TOKEN[::-1]}], ids=["none", "wrong"])
def test_who_has_not_the_token_is_told_so_in_one_line(running: Cluster, environment: dict[str, str]) -> None:
    asked = (["status"], ["logs", "x"], ["stop", "x"], ["submit", STUDY, "--storage", "/x", "--data", "/x"])
    with running.dashboard():
        for words in asked:
            done = running.facex(*words, **environment)
            assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, ""), done
            assert "token" in done.stderr
        url = "http://127.0.0.1:8265"
        wrong = [environment["RAY_AUTH_TOKEN"]] if "RAY_AUTH_TOKEN" in environment else []
        plainly = running.operator.run(["python", "tests/service/doors.py", url, *wrong], CHECKOUT)
        assert (plainly.returncode, plainly.stdout) == (0, "{}\n"), plainly


def lose(cluster: Cluster, run: str, name: str, happen: Callable[[], None]) -> None:
    """A run during which something happens to a host: its trials go on elsewhere, and the run ends complete."""
    with cluster.dashboard():
        cluster.give(submitted("submit", run))
        # once it has told of its first epoch, its trial has all others before it
        until(lambda: name in {each["host"] for each in epochs(cluster.log_of(run))}, cluster.told)
        happen()
        done = cluster.give(submitted("logs", run))
        assert "report:" in done.stdout, done.stdout
    check_complete(cluster, run)
    events = cluster.log_of(run)
    lost = [event for event in events if event["type"] == "trial_recovered" and event["reason"] == "worker_lost"]
    assert lost
    for event in lost:
        where = events.index(event)
        before = [each for each in epochs(events[:where]) if each["trial"] == event["trial"]]
        after = [each for each in epochs(events[where:]) if each["trial"] == event["trial"]]
        assert {each["host"] for each in after} == set(WORKERS) - {name}
        assert after[0]["epoch"] == len(before) + 1


@only_full
def test_a_host_that_is_cut_off_costs_no_trial(running: Cluster) -> None:
    host = running.hosts["worker2"]
    lose(running, "cut", "worker2", host.cut_off)
    host.plug_in()
    running.wait_for_hosts(HEAD, *WORKERS)


@only_full
def test_a_host_that_dies_costs_no_trial(running: Cluster) -> None:
    host = running.hosts["worker1"]
    lose(running, "dead", "worker1", host.kill)
    host.boot()
    running.wait_for_hosts(HEAD, *WORKERS)


@only_full
def test_paused_trials_go_on_elsewhere_when_a_host_dies(running: Cluster) -> None:
    """The host dies once a trial that it had trained waits at a rung: what it wrote is on the shared disk, and who is
    promoted goes on from there on another host.
    """

    def one_waits_that_was_trained_there() -> bool:
        events = running.log_of("paused")
        there = {event["trial"] for event in epochs(events) if event["host"] == "worker1"}
        waits = {event["trial"] for event in events if event["type"] == "trial_paused"}
        return bool(there & waits)

    host = running.hosts["worker1"]
    with running.dashboard():
        running.give(submitted("submit", "paused", PROMOTING_STUDY))
        until(one_waits_that_was_trained_there, running.told)
        host.kill()
        assert "report:" in running.give(submitted("logs", "paused")).stdout
    events, history = running.log_of("paused"), Run(running.shared / "runs", "paused").history()
    assert len(history.trials) == PROMOTED_TRIALS
    assert {trial.state for trial in history.trials.values()} == {FINISHED, STOPPED}
    assert not [trial for trial in history.trials.values() if trial.paused]
    for number, trial in history.trials.items():
        own = [each["epoch"] for each in epochs(events) if each["trial"] == number]
        assert own == list(range(1, trial.last_epoch + 1)), "an epoch was lost, or trained twice"
    kinds = (*OURS, "trial_paused", "trial_promoted", "trial_stopped")
    told = keys([event for event in events if event["type"] in kinds])
    assert len(told) == len(set(told))
    assert "trial_promoted" in {event["type"] for event in events}
    assert not [event for event in events if event.get("reason") == "checkpoint_lost"]
    host.boot()
    running.wait_for_hosts(HEAD, *WORKERS)


@only_full
def test_a_head_that_dies_costs_nothing_that_was_done(running: Cluster) -> None:
    def some_are_done() -> bool:
        return any(event["type"] == "trial_finished" for event in running.log_of("headless"))

    def comes_to_its_report() -> bool:
        """Submitted again, as it is told to be, where the head is back before the dead driver's lease is stale."""
        running.give(submitted("submit", "headless"))
        told = running.give(submitted("logs", "headless")).stdout
        assert "report:" in told or "after 60 s without one it counts as dead" in told, told
        return "report:" in told

    with running.dashboard():
        running.give(submitted("submit", "headless"))
        until(some_are_done, running.told)
        running.hosts[HEAD].kill()
    before = running.log_of("headless")
    assert len(epochs(before)) < SLOW_EPOCHS * TRIALS
    running.hosts[HEAD].boot()
    running.give(commands(UP)[0])
    running.wait_for_hosts(HEAD, *WORKERS)
    with running.dashboard():
        until(comes_to_its_report, running.told)
    check_complete(running, "headless")
    assert running.log_of("headless")[: len(before)] == before
