"""`search: {stop_when_settled: noise}`: what is left to gain, and a search that ends by it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facex_tune.display.board import Board
from facex_tune.display.event_lines import line
from facex_tune.errors import InputError
from facex_tune.pipeline import raising
from facex_tune.runs.events import SearchSettled, StageFinished, StageStarted
from facex_tune.runs.history import FINISHED, RUNNING
from facex_tune.runs.overview import of_run
from facex_tune.runs.store import Run
from facex_tune.search.ledger import Ledger, View
from facex_tune.search.referee import Referee
from facex_tune.search.samplers import distribution
from facex_tune.search.settling import FEWEST_FINISHED, FEWEST_TOLD, REPEATS, Left, Repeat, Settling
from facex_tune.space import is_fixed
from tests.search.conftest import tiny_study
from tests.search.test_referee import Clock, new_run, play, trials_of

NOISE = 0.02


def settling(value: str | float = "noise", **changes: Any) -> Any:
    said = {"seed": 3, "concurrency": 1, "sampler": "random", "scheduler": "none", "stop_when_settled": value}
    return tiny_study(**{"budget": {"trials": 60}, "search": said, **changes})


def known(study: Any, rates: Any, rng: np.random.Generator) -> Ledger:
    """Finished trials whose value depends on the learning rate: best at .03, and noise."""
    ledger = Ledger(study.objective, {}, study.fidelity.max_epochs, View(models_values=True))
    for rate in rates:
        config = study.space.random(rng) | {"train.lr": float(rate)}
        varied = {name: knob for name, knob in study.space.knobs() if name in config and not is_fixed(knob)}
        entry = ledger.add({name: config[name] for name in varied}, {n: distribution(k) for n, k in varied.items()})
        value = 0.6 - 0.5 * np.log10(rate / 0.03) ** 2 + rng.normal(0, NOISE)
        ledger.report(entry.number, study.fidelity.max_epochs, {"macro_f1": value})
        ledger.end(entry.number, FINISHED)
    return ledger


def test_little_is_left_where_everything_was_looked_at_and_much_where_the_best_was_not() -> None:
    study = settling()
    look = Settling(study)
    rng = np.random.default_rng(0)
    everywhere = look.left(known(study, np.geomspace(0.01, 0.1, 120), rng))
    far = look.left(known(study, np.geomspace(0.08, 0.1, 40), rng))
    assert everywhere is not None
    assert far is not None
    assert everywhere.gain < everywhere.unexplained
    assert NOISE / 2 < everywhere.unexplained < 2 * NOISE
    assert far.gain > 1.5 * far.unexplained


class Sees(Settling):
    """Sees little left, whatever is known."""

    def left(self, ledger: Ledger) -> Left:
        return Left(gain=0.01, unexplained=0.05)


@pytest.mark.parametrize(("differ", "settles"), [(0.1, True), (1e-4, False)])
def test_the_best_are_tried_again_and_what_their_seeds_differ_by_is_the_noise(differ: float, settles: bool) -> None:
    study = settling()
    look, ledger = Sees(study), known(study, np.geomspace(0.01, 0.1, 60), np.random.default_rng(1))
    finals = ledger.finals()
    best = sorted(finals, key=lambda place: -finals[place])
    for place in best[:REPEATS]:
        assert look.look(ledger) == Repeat(place)
        again = ledger.add(dict(ledger.entries[place].params), ledger.entries[place].distributions)
        ledger.report(again.number, 3, {"macro_f1": finals[place] - differ})
        ledger.end(again.number, FINISHED)
    found = look.look(ledger)
    assert isinstance(found, SearchSettled) == settles
    if isinstance(found, SearchSettled):
        assert found.noise == pytest.approx(differ / np.sqrt(2))
        assert (found.ended, found.finished) == (60 + REPEATS, 60 + REPEATS)


def test_a_repeat_that_runs_is_waited_for_and_one_that_a_rung_cut_is_made_up_for() -> None:
    study = settling()
    look, ledger = Sees(study), known(study, np.geomspace(0.01, 0.1, 60), np.random.default_rng(1))
    repeated = []
    for _ in range(REPEATS):
        repeat = look.look(ledger)
        assert isinstance(repeat, Repeat)
        entry = ledger.entries[repeat.place]
        repeated.append(ledger.add(dict(entry.params), entry.distributions).number)
    assert look.look(ledger) is None, "all are on their way"
    ledger.report(repeated[0], 1, {"macro_f1": 0.1})
    ledger.end(repeated[0], "stopped")
    assert isinstance(look.look(ledger), Repeat)


def test_too_few_trials_say_nothing() -> None:
    study = settling(0.5)
    look, rng = Settling(study), np.random.default_rng(0)
    assert look.look(known(study, np.geomspace(0.01, 0.1, FEWEST_TOLD - 1), rng)) is None
    assert look.look(known(study, np.geomspace(0.01, 0.1, FEWEST_TOLD), rng)) is not None
    ledger = known(study, np.geomspace(0.01, 0.1, FEWEST_TOLD), rng)
    for number in range(FEWEST_TOLD - FEWEST_FINISHED + 1):
        ledger.end(number, "stopped")
    assert look.look(ledger) is None


# Whole searches


@pytest.mark.parametrize("scheduler", ["none", "asha", "asha_promotion"])
def test_a_search_that_has_settled_begins_no_further_trial_and_says_why(tmp_path: Path, scheduler: str) -> None:
    said = {"seed": 3, "concurrency": 1, "sampler": "random", "scheduler": scheduler, "stop_when_settled": 0.5}
    run = new_run(tmp_path, settling(search=said))
    with run.log() as log:
        log.append(StageStarted("search"))
        referee = play(run, log)
        log.append(StageFinished("search", referee.over()))
    assert referee.over() == "settled"
    (event,) = [each for each in run.events() if each["type"] == "search_settled"]
    assert event["left"] < event["noise"] == 0.5
    trials = trials_of(run)
    assert FEWEST_TOLD <= len(trials) < 60
    assert not [trial for trial in trials.values() if trial.state == RUNNING or trial.paused]
    told = of_run(run)
    assert told["settled"] == {name: event[name] for name in ("left", "noise", "ended", "finished")}
    board = Board.of(run.study, run.history())
    assert line(board, event).startswith("no further trial begins: the search had settled after ")
    assert "budget" not in line(board, {"type": "stage_finished", "stage": "search", "reason": "settled"})
    with pytest.raises(InputError, match=r"stop_when_settled: the search had settled after .* start a new run"):
        raising.raised(run, ["budget.trials=80"])


def test_off_unless_asked_for(tmp_path: Path) -> None:
    run = new_run(tmp_path, tiny_study(budget={"trials": 30}, search={"concurrency": 1, "sampler": "random"}))
    with run.log() as log:
        assert play(run, log).over() == "trials"
    assert run.study.settling == ""


def test_cut_off_after_any_event_it_settles_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = new_run(tmp_path / "whole", settling(0.5))
    with whole.log() as log:
        play(whole, log)
    lines = (whole.folder / "events" / "000001.jsonl").read_text().splitlines(keepends=True)
    for cut in [*range(1, len(lines), 29), len(lines) - 1, len(lines)]:
        resumed = Run(tmp_path / f"cut{cut}", "r")
        shutil.copytree(whole.folder, resumed.folder)
        (resumed.folder / "events" / "000001.jsonl").write_text("".join(lines[:cut]))
        with resumed.log() as log:
            assert Referee(resumed, log, Clock()).over() == ("settled" if cut == len(lines) else "")
            assert play(resumed, log).over() == "settled"
        assert trials_of(resumed) == trials_of(whole), f"cut after event {cut}"
        assert sum(event["type"] == "search_settled" for event in resumed.events()) == 1


@pytest.mark.parametrize("value", [True, 0, -0.1, "soon"])
def test_what_is_no_gain_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"search.stop_when_settled: .*(never, noise|true and false)"):
        settling(value)


@pytest.mark.parametrize(
    ("changes", "which"),
    [({"objective": ["macro_f1", "ece"]}, "several"), ({"constraints": {"ece": {"max": 0.2}}}, "constraints")],
)
def test_it_knows_of_one_objective_alone(changes: dict[str, Any], which: str) -> None:
    with pytest.raises(InputError, match=f"stop_when_settled: noise is not allowed with .*{which}"):
        settling(**changes)


def test_text_that_is_a_number_is_meant_as_one_and_a_dry_run_tells_it() -> None:
    study = settling("5e-3")
    assert study.search.stop_when_settled == 0.005
    assert "less than 0.005 is left to gain" in study.settling
    assert "what two seeds differ by" in settling().settling
