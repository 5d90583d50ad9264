"""The simulated clock: workers, seconds and ends; and the project's own search on it, decision for decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from facex_tune.runs.store import Run
from facex_tune.search.referee import Referee
from facex_tune.search.worker_report import Epoch, Failure
from facex_tune.simulation.clock import Clock, Started, run
from facex_tune.simulation.curves import Curves
from facex_tune.simulation.ours import Ours
from facex_tune.simulation.worlds import Course, Surrogate
from facex_tune.space import Config
from tests.simulation.conftest import EPOCHS, drawn_study


@dataclass
class World:
    """Trial n takes n + 1 seconds an epoch, of three; trial 1 fails after its first."""

    def course(self, config: Config, seed: Any) -> Course:
        number = int(config["n"] or 0)
        scores = tuple({"macro_f1": number + epoch / 10} for epoch in range(1, 4))
        if number == 1:
            return Course(scores[:1], (2.0,), "diverged", 7.0)
        return Course(scores, (float(number + 1),) * 3)

    def final(self, config: Config) -> float:
        return float(config["n"] or 0)


@dataclass
class Search:
    """Trials 0, 1, … one after another; trial 0 pauses after its first epoch and is taken up last."""

    trials: int
    clock: Clock
    seen: list[tuple[float, int, int]] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    begun: int = 0
    paused: bool = False

    def start(self) -> Started | None:
        if self.begun < self.trials:
            self.begun += 1
            return Started(self.begun - 1, {"n": self.begun - 1})
        if self.paused:
            self.paused = False
            return Started(0, {"n": 0}, done=1)
        return None

    def epoch(self, number: int, epoch: int, scores: dict[str, float], seconds: float) -> bool:
        self.seen.append((self.clock(), number, epoch))
        assert scores["macro_f1"] == number + epoch / 10
        self.paused = self.paused or (number, epoch) == (0, 1)
        if goes_on := epoch < 3 and (number, epoch) != (0, 1):
            return goes_on
        self.ended.append(number)
        return False

    def fail(self, number: int, reason: str, seconds: float) -> None:
        assert (number, reason, seconds) == (1, "diverged", 7.0)
        self.seen.append((self.clock(), number, -1))

    def best(self) -> Config | None:
        return {"n": max(self.ended)} if self.ended else None


def test_workers_take_turns_and_a_paused_trial_goes_on_where_it_was() -> None:
    clock = Clock()
    search = Search(3, clock)
    outcome = run(search, World(), clock, workers=2)
    assert search.seen == [(1, 0, 1), (2, 1, 1), (4, 2, 1), (7, 2, 2), (9, 1, -1), (10, 2, 3), (10, 0, 2), (11, 0, 3)]
    assert (outcome.ended_s, outcome.trained_s, outcome.trials, outcome.failing) == (11, 3 + 9 + 9, 3, 1)
    assert outcome.steps == ((1, 0.0), (10, 2.0))
    assert [outcome.value_at(at, -1.0) for at in (0.5, 1, 9, 10, 99)] == [-1, 0, 0, 2, 2]
    assert outcome.first_time_s(2.0, True) == 10


def test_what_has_not_ended_when_the_clock_is_stopped_does_not_count() -> None:
    clock = Clock()
    search = Search(3, clock)
    outcome = run(search, World(), clock, workers=2, until_s=9.5)
    assert (outcome.ended_s, outcome.steps) == (9.5, ((1, 0.0),))
    assert search.seen[-1] == (9, 1, -1)


@pytest.fixture(scope="module")
def surrogate(table: Curves) -> Surrogate:
    return Surrogate(table, ("macro_f1",))


def test_the_projects_search_decides_as_it_does_on_a_disk(surrogate: Surrogate, tmp_path: Path) -> None:
    study = drawn_study(search={"sampler": "tpe", "start_with": [{"train.lr": 0.9}]}, budget={"trials": 20})
    clock = Clock()
    simulated = Ours(study, clock, 1)
    outcome = run(simulated, surrogate, clock, workers=1)
    on_disk = Run.create(tmp_path, "r", study, data={}, environment={})
    with on_disk.log() as log:
        referee = Referee(on_disk, log, lambda: 0.0)
        while (trial := referee.next_trial()) is not None:
            course = surrogate.course(trial.config, (trial.number,))
            for epoch, (scores, seconds) in enumerate(zip(course.scores, course.seconds, strict=True), start=1):
                if not referee.take(trial.number, Epoch(epoch, scores, seconds)):
                    break
            else:
                referee.take(trial.number, Failure(course.failure, "", course.lost_s))
    told = {number: (trial.config, trial.state, trial.epochs) for number, trial in simulated.trials.items()}
    assert told == {number: (each.config, each.state, each.epochs) for number, each in referee.trials.items()}
    assert {trial.state for trial in simulated.trials.values()} == {"finished", "stopped", "failed"}
    assert outcome.trained_s == pytest.approx(sum(trial.seconds for trial in simulated.trials.values()))
    assert outcome.ended_s == pytest.approx(outcome.trained_s), "one worker is never idle"


def test_a_budget_of_time_is_that_of_the_simulated_clock(surrogate: Surrogate) -> None:
    study = drawn_study(budget={"time": 200}, search={"sampler": "random", "scheduler": "none"})
    clock = Clock()
    search = Ours(study, clock, 3)
    outcome = run(search, surrogate, clock, workers=3)
    assert 200 <= outcome.ended_s < 215, "each trial ends with the epoch in which the budget ends"
    assert outcome.trials > 3 * 200 / (EPOCHS * 10)


def test_more_workers_find_as_much_sooner(surrogate: Surrogate) -> None:
    study = drawn_study(budget={"trials": 30}, search={"sampler": "random", "scheduler": "none"})
    found = []
    for workers in (1, 10):
        clock = Clock()
        found.append(run(Ours(study, clock, workers), surrogate, clock, workers=workers))
    one, ten = found
    assert one.steps[-1][1] == ten.steps[-1][1], "random search draws the same configurations"
    assert one.trained_s == pytest.approx(ten.trained_s)
    assert ten.ended_s < one.ended_s / 5
