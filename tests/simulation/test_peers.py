"""Opponents in processes of their own: the protocol, with a stand-in that is started with this interpreter."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from facex_tune.simulation.clock import Clock, Outcome, run
from facex_tune.simulation.curves import Curves
from facex_tune.simulation.worlds import Surrogate
from facex_tune.space import Choice
from tests.benchmarks import simulated_peers, simulated_records, simulated_search, simulated_tasks
from tests.benchmarks.simulated_peers import FOLDER, Kind, Peer, PeerError
from tests.benchmarks.simulated_records import Cost
from tests.benchmarks.simulated_tasks import Task
from tests.simulation.conftest import EPOCHS, drawn_study

STAND_IN = Path(__file__).with_name("peer_stand_in.py")
COMMAND = [sys.executable, str(FOLDER / "serve.py"), str(STAND_IN)]
EPOCH_S = 10.0  # of the drawn curves
Made = Callable[..., Peer]


def kind(variant: str = "", *, is_cut: bool = False) -> Kind:
    return Kind("stand_in", str(STAND_IN), (), "a stand-in", variant, is_cut)


@pytest.fixture
def made() -> Iterator[Made]:
    peers: list[Peer] = []

    def make(of: Kind, seed: int = 1) -> Peer:
        study = drawn_study(search={"sampler": "random", "seed": seed})
        peers.append(Peer(COMMAND, of, study, workers=2, whole_trainings=6.0))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()


@pytest.fixture
def world(table: Curves) -> Surrogate:
    return Surrogate(table, ("macro_f1",))


def searched(peer: Peer, world: Surrogate, until_s: float = 240.0) -> Outcome:
    return run(peer, world, Clock(), workers=2, seed=(1,), until_s=until_s)


def test_a_trial_that_goes_on_pays_for_what_is_new_and_a_search_repeats_itself(made: Made, world: Surrogate) -> None:
    one, same = (searched(made(kind()), world) for _ in range(2))
    assert one == same
    assert one != searched(made(kind(), seed=2), world)
    assert one.failing, "a training that fails is told"
    assert one.steps
    # two workers, never idle; the stand-in raises where an epoch comes twice
    assert one.trained_s > 2 * 240.0 - 2 * EPOCH_S


def test_where_an_opponent_cuts_nothing_asha_of_ours_does(made: Made, world: Surrogate) -> None:
    free, cut = (searched(made(kind(is_cut=is_cut)), world) for is_cut in (False, True))
    assert cut.trials > free.trials


def test_it_counts_its_questions_and_leaves_no_file(made: Made, world: Surrogate) -> None:
    peer = made(kind())
    outcome = searched(peer, world)
    spent = peer.spent()
    assert spent["asked"] >= outcome.trials
    assert 0 < spent["ask_s"] < spent["process_s"]
    assert peer.versions == {"pytest": pytest.__version__}
    folder = Path(peer._noise.name).parent
    assert (folder / "kept.txt").exists()
    peer.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        ("raises", "at 'ask': ValueError: this opponent gives up"),
        ("ends", "it ended at 'ask'"),
        ("repeats", "asked 20 times for what it had been told"),
    ],
)
def test_an_opponent_that_fails_ends_its_search_with_a_reason(
    variant: str, says: str, made: Made, world: Surrogate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulated_peers, "AT_ONCE", 20)
    with pytest.raises(PeerError, match=says):
        searched(made(kind(variant)), world)


def test_an_opponent_that_does_not_answer_is_ended(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = made(kind())
    monkeypatch.setattr(simulated_peers, "ANSWER_S", 0.0)
    with pytest.raises(PeerError, match="it ended at 'ask'"):
        [peer.start() for _ in range(10_000)]


def test_knobs_reach_an_opponent_with_their_conditions_and_come_back() -> None:
    space = drawn_study().space
    told = {knob["name"]: knob for knob in simulated_peers.knobs_of(space)}
    model, augment = ["model.patch_cnn.width"], ["augment", "augment.flip_shift.pixels"]
    assert list(told) == [*model, *augment, "train.optimizer", "train.lr"]
    pixels, width, lr = told["augment.flip_shift.pixels"], told["model.patch_cnn.width"], told["train.lr"]
    assert (pixels["parent"], pixels["parent_is"]) == ("augment", 1)
    assert (pixels["low"], pixels["high"]) == (1, 6)
    assert width["parent"] is None, "there is one model only"
    assert (lr["low"], lr["high"], lr["log"]) == (0.001, 1.0, True)
    json.dumps(told)
    rng = np.random.default_rng(0)
    for config in (space.random(rng) for _ in range(20)):
        answered = {
            name: knob.options.index(config[name]) if isinstance(knob, Choice) else config.get(name, knob.low)
            for name, knob in space.knobs()
            if name in told and (name in config or not isinstance(knob, Choice))
        }
        assert simulated_peers.config_of(space, answered) == config
    beyond = {**dict.fromkeys(told, 0), "train.lr": 1.0000001}
    assert simulated_peers.config_of(space, beyond)["train.lr"] == 1.0


@pytest.fixture
def benchmark_of_one_task(world: Surrogate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`simulated_search.py` with two stand-ins and a small task; gives its report."""
    study = drawn_study(budget={"trials": 1_000_000})
    task = Task("drawn", "drawn curves", study, world, 0.35, 0.2, EPOCHS * EPOCH_S, {1: 4.0, 8: 2.0})
    monkeypatch.setattr(simulated_tasks, "find", lambda *_: task)
    monkeypatch.setattr(simulated_tasks, "NAMES", ("drawn",))
    peers = {"good": kind(), "bad": kind("raises")}
    monkeypatch.setattr(simulated_search, "PEERS", peers)
    monkeypatch.setattr(simulated_peers, "PEERS", peers)
    python = tmp_path / "stand_in" / "bin" / "python"
    python.parent.mkdir(parents=True)
    # no link: an interpreter looks for its packages from where it lies
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)

    def report(*words: object) -> str:
        out = tmp_path / "out"
        said = ["search", "--tasks", "drawn", "--out", out, "--environments", tmp_path, "--against", "random", *words]
        monkeypatch.setattr(sys, "argv", [str(word) for word in said])
        simulated_search.main()
        return (out / "report.txt").read_text(encoding="utf-8")

    return report


def test_the_benchmark_goes_on_beside_an_opponent_that_fails_and_searches_nothing_twice(
    benchmark_of_one_task: Callable[..., str], tmp_path: Path
) -> None:
    words = ["--seeds", 2, "--workers", 1, "--arms", "random", "good", "bad"]
    text = benchmark_of_one_task(*words)
    assert "| 1 | good | 2 |" in text
    assert "- drawn, bad, 1 workers, seed 1: at 'ask': ValueError: this opponent gives up" in text
    row = next(line for line in text.splitlines() if line.startswith("| bad |"))
    assert row.split("|")[2:5] == [" 0 ", " 2 ", " 2 "]
    assert f"pytest {pytest.__version__}" in text
    assert "average rank of 2 arms (n = 2)" in text
    kept = tmp_path / "out" / "drawn.jsonl"
    lines = kept.read_text(encoding="utf-8")
    assert len(lines.splitlines()) == 6
    assert benchmark_of_one_task(*words) == text
    assert kept.read_text(encoding="utf-8") == lines
    header, *rows = (tmp_path / "out" / "anytime.csv").read_text(encoding="utf-8").splitlines()
    assert header == "task,workers,arm,n,share_of_time,regret_percent,low,high"
    assert len(rows) == 2 * 20
    assert (tmp_path / "out" / "anytime.png").read_bytes().startswith(b"\x89PNG")


def test_a_slow_arm_makes_fewer_searches_and_the_table_says_so(
    benchmark_of_one_task: Callable[..., str], tmp_path: Path
) -> None:
    kept = simulated_records.read(tmp_path / "out" / "drawn.jsonl")
    kept.path.parent.mkdir()
    kept.add(("good", 1, 0), Outcome(((0.0, 0.3),), 160.0, 160.0, 3, 0), Cost(3600.0, 9.0, 3), {})
    text = benchmark_of_one_task("--seeds", 2, "--workers", 1, "--arms", "random", "good", "--core-hours", 1)
    row = next(line for line in text.splitlines() if line.startswith("| good |"))
    assert row.split("|")[2:7] == [" 1 ", " 2 ", " 0 ", " 3 ", " 3.6e+03 "]
    assert "average rank of 2 arms (n = 1)" in text


def test_an_opponent_without_an_environment_is_told_before_anything_is_searched(
    benchmark_of_one_task: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "stand_in" / "bin" / "python").unlink()
    with pytest.raises(SystemExit, match=r"no environment in .* for good; --make-environments"):
        benchmark_of_one_task("--seeds", 1, "--workers", 1, "--arms", "random", "good")
    assert not (tmp_path / "out" / "drawn.jsonl").exists()
