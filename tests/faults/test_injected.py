"""Faults in the trials themselves, each in a tenth of them: all are found, and none is chosen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from facex_tune.runs.history import FAILED, FINISHED, STOPPED
from facex_tune.search import retrain
from tests.faults.conftest import only_full
from tests.faults.drivers import Place, study
from tests.faults.parts.models.faulty_net import fault

REASONS = {"nan": "diverged", "explodes": "diverged", "constant": "collapsed", "no_memory": "out_of_memory"}
INJECTED = ("nan", "constant", "no_memory", "hangs")


def with_faults(trials: int, faults: tuple[str, ...], **changes: Any) -> dict[str, Any]:
    """Every trial is given; of each fault there are a tenth, the first after a sound one."""
    each = [name for name in faults for _ in range(max(1, trials // 10))]
    starts = [fault("none", tag=0.001 * number) for number in range(trials - len(each))]
    for place, name in enumerate(each):
        starts.insert(1 + 2 * place, fault(name, tag=0.5 + 0.001 * place, sound_steps=8 if name == "hangs" else 0))
    said = study(**changes)
    [network] = said["space"]["model"]
    network["faulty_net"]["fault"] = ["none", *faults]
    network["faulty_net"]["sound_steps"] = [0, 8]
    return {**said, "budget": {"trials": trials}, "search": {**said["search"], "start_with": starts}}


def check(place: Place, faults: tuple[str, ...]) -> None:
    """Every fault stands in the log by its reason, with a detail; no faulty trial is retrained."""
    trials = place.trials()
    for trial in trials.values():
        injected = str(trial.config["model.faulty_net.fault"])
        if injected == "none":
            assert trial.state in (FINISHED, STOPPED)
        else:
            expected = REASONS.get(injected, "hung")
            assert (trial.state, trial.reason) == (FAILED, expected), trial
            assert trial.detail
    found = Counter(str(trial.config["model.faulty_net.fault"]) for trial in trials.values())
    assert all(found[name] == max(1, len(trials) // 10) for name in faults)
    chosen = retrain.choose(place.run.history(), place.run.study)
    assert all(trial.config["model.faulty_net.fault"] == "none" for trial in chosen)


@pytest.mark.slow
def test_faults_of_a_tenth_of_the_trials_each_are_found_by_a_worker(tiny_data: Path, tmp_path: Path) -> None:
    """All but the hang, which costs its process: see `test_a_hung_trial_ends_its_process_and_is_forgiven_once`."""
    faults = ("nan", "explodes", "constant", "no_memory")
    said = with_faults(10, faults, search={**study()["search"], "scheduler": "none"})
    said["space"]["model"][0]["faulty_net"]["step_ms"] = 0
    place = Place(tmp_path / "run", tiny_data, said, on_ray=False)
    place.finish()
    check(place, faults)
    details = {trial.reason: trial.detail for trial in place.trials().values()}
    assert "half" in details["out_of_memory"]


@only_full
@pytest.mark.slow
def test_a_hung_trial_ends_its_process_and_is_forgiven_once(tiny_data: Path, tmp_path: Path) -> None:
    said = with_faults(2, ("hangs",), search={**study()["search"], "scheduler": "none", "hung_after": 1.5})
    said["space"]["model"][0]["faulty_net"]["step_ms"] = 0
    place = Place(tmp_path / "run", tiny_data, said, on_ray=False)
    for _ in range(2):
        driver = place.start()
        _, errors = driver.communicate(timeout=120)
        assert driver.returncode == 76, errors
    place.finish()
    check(place, ("hangs",))
    [hung] = [trial for trial in place.trials().values() if trial.reason == "hung"]
    assert hung.last_epoch == 2, "after the first hang it went on from its last epoch, to the next hang"
    assert "2 times" in hung.detail
    assert "threading.py" in hung.detail, "it says where it stood"
    [forgiven] = [event for event in place.run.events() if event["type"] == "trial_recovered"]
    assert (forgiven["reason"], forgiven["trial"]) == ("hung", hung.number)


@only_full
@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_faults_of_a_tenth_of_the_trials_each_are_found_on_ray(tiny_data: Path, tmp_path: Path, scheduler: str) -> None:
    search = {**study()["search"], "scheduler": scheduler, "concurrency": 2, "hung_after": 5}
    place = Place(tmp_path / "run", tiny_data, with_faults(20, INJECTED, search=search), on_ray=True)
    place.finish()
    if scheduler == "none":
        check(place, INJECTED)
    trials = place.trials().values()
    faulty = [trial for trial in trials if trial.config["model.faulty_net.fault"] != "none"]
    assert all(trial.state in (FAILED, STOPPED) for trial in faulty), "cut short by a rung at the latest"
    chosen = retrain.choose(place.run.history(), place.run.study)
    assert all(trial.config["model.faulty_net.fault"] == "none" for trial in chosen)
