"""What others do to a run's folder: a clear error, or the last good state, and never a silent restart."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facex_tune import study
from facex_tune.errors import InputError
from facex_tune.pipeline import stages
from facex_tune.pipeline.options import Options
from facex_tune.runs.store import Run
from facex_tune.storage.files import DamagedRun
from tests.faults.drivers import Place, told_once
from tests.faults.drivers import study as study_data

LONG = 20  # epochs of a third of a second: a driver that shall be killed on its way is not over before


def begun(folder: Path) -> tuple[Run, Options]:
    """A run whose log has begun, without any stage."""
    options = Options(storage=folder, data_dir=folder)
    run = Run.create(folder, "r", study.parse(study_data()), data={}, environment={"packages": {}})
    stages.execute(run, [], options, [])
    return run, options


def edited(run: Run, change: Callable[[dict[str, Any]], object]) -> None:
    path = run.folder / "run.json"
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header: header["study"]["budget"].update(trials=600), "budget.trials: 6 then, 600 now"),
        (lambda header: header["study"]["search"].update(seed=6), "search.seed: 5 then, 6 now"),
        (lambda header: header["study"]["space"]["train"].pop("momentum"), "space.train.momentum"),
        (lambda header: header.update(data={"synthetic": {}}), "something outside the study"),
    ],
)
def test_an_edited_header_is_refused_with_what_was_changed(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    run, options = begun(tmp_path)
    stages.execute(run, [], options, [])
    events = list(run.events())
    edited(run, change)
    with pytest.raises(InputError, match="changed after the run began") as refused:
        stages.execute(run, [], options, [])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(run.events()) == events


@pytest.mark.parametrize("content", ["", '{"schema": 1, "study"', "[]", '{"schema": 1, "study": {"name": 3}}'])
def test_a_header_that_is_none_is_refused_by_its_file(tmp_path: Path, content: str) -> None:
    run, options = begun(tmp_path)
    (run.folder / "run.json").write_text(content)
    with pytest.raises(DamagedRun, match=r"run\.json"):
        stages.execute(run, [], options, [])


@pytest.mark.slow
def test_a_truncated_checkpoint_costs_its_epochs_and_is_told(tiny_data: Path, tmp_path: Path) -> None:
    """A driver is killed in the middle of a trial; then the checkpoint is cut."""
    search = {**study_data()["search"], "scheduler": "none"}
    said = study_data(budget={"trials": 1}, search=search, fidelity={"min_epochs": 1, "max_epochs": LONG})
    place = Place(tmp_path / "cut", tiny_data, said, on_ray=False)
    driver = place.start()
    while driver.poll() is None and not (place.run.exists() and place.trials() and place.trials()[0].last_epoch >= 2):
        time.sleep(0.01)
    driver.kill()
    _, errors = driver.communicate()
    epochs = place.trials()[0].last_epoch
    assert 2 <= epochs < LONG, errors
    path = place.run.trial_checkpoint(0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    place.finish()
    assert sorted(place.trials()[0].epochs) == list(range(1, LONG + 1))
    assert told_once(place.run)
    [lost] = [event for event in place.run.events() if event["type"] == "trial_recovered"]
    assert lost["reason"] == "checkpoint_lost"
    assert str(path) in lost["detail"]


@pytest.mark.slow
def test_a_second_writer_is_refused_by_name_and_the_first_goes_on(tiny_data: Path, tmp_path: Path) -> None:
    place = Place(tmp_path / "two", tiny_data, study_data(), on_ray=False)
    first = place.start()
    while first.poll() is None and not (place.run.exists() and place.written()):
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it is alive, and cannot end before the second has looked
    second = place.start_cli("resume", "r")
    _, refusal = second.communicate(timeout=300)
    first.send_signal(signal.SIGCONT)
    _, errors = first.communicate(timeout=300)
    assert first.returncode == 0, errors
    assert second.returncode == 2, refusal
    assert f"is being written by process {first.pid} on " in refusal
    assert told_once(place.run)
    assert len(place.trials()) == 6
