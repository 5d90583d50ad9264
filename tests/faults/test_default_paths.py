"""Runs begun as in README, storage and data the defaults, from a folder with a space in its name that a link leads to:
what is trained lies in the run's folder, an interruption costs nothing, and a run that was moved goes on.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facex_tune.cli import main
from facex_tune.errors import InputError
from tests.faults.conftest import only_full
from tests.faults.drivers import LIFE_S, ROOT, STEPS, Place, study, told_once

MODEL_EPOCHS = 6


def whole_study() -> dict[str, Any]:
    """One trial, one final model of some seconds, one sealed set."""
    said = study(
        budget={"trials": 1},
        fidelity={"min_epochs": 1, "max_epochs": 6},
        search={**study()["search"], "scheduler": "none"},
        retrain={"top": 1, "seeds": 1, "epochs": MODEL_EPOCHS},
        evaluate={"protocols": ["synthetic.private"]},
    )
    said["space"]["model"][0]["faulty_net"]["step_ms"] = 60
    return said


def interrupt_when(place: Place, reached: Callable[[], bool], *words: str) -> None:
    """Starts a driver, sends it SIGINT once it is so far, and expects it to end as interrupted."""
    driver = place.start_cli(*words)
    deadline = time.monotonic() + LIFE_S
    while driver.poll() is None and not reached() and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 75, errors


def ends_well(place: Place, *words: str) -> None:
    driver = place.start_cli(*words)
    _, errors = driver.communicate(timeout=LIFE_S)
    assert driver.returncode == 0, errors


@pytest.mark.slow
def test_a_whole_run_interrupted_in_search_and_retraining_loses_nothing(tiny_data: Path, tmp_path: Path) -> None:
    place = Place(tmp_path / "whole", tiny_data, whole_study(), on_ray=True)
    before = place.strays()
    interrupt_when(
        place,
        lambda: place.run.exists() and any(trial.last_epoch >= 2 for trial in place.trials().values()),
        *("run", "study.yaml", "--run", "r"),
    )
    assert (place.storage / "r" / "trials" / "t0000" / "last.safetensors").is_file()
    trained = place.ticked()
    interrupt_when(place, lambda: place.ticked() > trained + (6 - 2 + 2) * STEPS, "resume", "r")
    assert "retrain" in place.run.history().stages
    assert list((place.storage / "r" / "final").rglob("*.safetensors"))
    ends_well(place, "resume", "r")
    kinds = [event["type"] for event in place.run.events()]
    assert "trial_recovered" not in kinds
    assert "model_recovered" not in kinds
    assert told_once(place.run)
    assert place.ticked() <= (6 + MODEL_EPOCHS + 2) * STEPS, "at most the epochs in flight are trained again"
    assert (place.storage / "r" / "report" / "index.html").is_file()
    assert place.strays() <= before


@only_full
def test_a_factor_study_interrupted_goes_on_from_its_checkpoints(tiny_data: Path, tmp_path: Path) -> None:
    said = whole_study()
    said["space"]["balance"] = ["none", "class_weights"]
    place = Place(tmp_path / "factors", tiny_data, said, on_ray=True)
    before = place.strays()
    ends_well(place, "run", "study.yaml", "--run", "r")
    trained = place.ticked()
    interrupt_when(place, lambda: place.ticked() > trained + 2 * STEPS, "factors", "r", "--seeds", "1")
    assert list((place.storage / "r" / "factors").rglob("*.safetensors"))
    ends_well(place, "resume", "r")
    assert "factor_recovered" not in [event["type"] for event in place.run.events()]
    assert place.strays() <= before


CUT = ("budget={trials: 2}", "fidelity={min_epochs: 1, max_epochs: 1}", "retrain={top: 1, seeds: 1, epochs: 1}")


def quick_place(data: Path, folder: Path) -> tuple[Place, list[str]]:
    """A place whose user goes by a link to the study of README, and the words that run it, the budget cut."""
    place = Place(folder, data, study(), on_ray=True)
    (place.home / "study.yaml").unlink()
    (place.home / "spaces").symlink_to(ROOT / "search_spaces")
    (place.home / "data").unlink()
    return place, ["run", "spaces/quick.yaml", "--run", "r", *(word for said in CUT for word in ("--set", said))]


def strays_beside_data(place: Place) -> set[Path]:
    """Faces are drawn where the user is: the default of `--data`."""
    drawn = place.home.resolve() / "data"
    return {path for path in place.strays() if not path.is_relative_to(drawn)}


def test_the_readmes_study_is_checked_by_a_link_from_another_folder(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, words = quick_place(tiny_data, tmp_path / "dry")
    before = place.strays()
    monkeypatch.chdir(place.home)
    monkeypatch.setenv("PWD", str(place.home))
    for name in ("FACEX_STORAGE", "FACEX_DATA"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as ended:
        main([*words, "--set", "space.model=[facex_cnn]", "--dry-run"])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert re.search(r"^trials +2$", said.out, re.MULTILINE), said.out
    assert strays_beside_data(place) <= before
    assert not place.storage.exists()


@only_full
def test_the_readmes_study_runs_by_a_link_from_another_folder(tiny_data: Path, tmp_path: Path) -> None:
    """Data and storage are the defaults: both come to lie where the user is, and nowhere else."""
    place, words = quick_place(tiny_data, tmp_path / "quick")
    before = place.strays()
    ends_well(place, *words)
    assert (place.home / "data" / "synthetic" / "images.npy").is_file()
    assert (place.storage / "r" / "report" / "index.html").is_file()
    assert {trial.state for trial in place.trials().values()} == {"finished"}
    assert strays_beside_data(place) <= before


@pytest.mark.slow
def test_a_run_that_was_moved_goes_on_from_its_new_place(tiny_data: Path, tmp_path: Path) -> None:
    said = study(budget={"trials": 1}, search={**study()["search"], "scheduler": "none"})
    said["fidelity"] = {"min_epochs": 1, "max_epochs": 8}
    place = Place(tmp_path / "here", tiny_data, said, on_ray=False)
    driver = place.start()
    while driver.poll() is None and not any(trial.last_epoch >= 2 for trial in place.trials().values()):
        time.sleep(0.01)
    driver.kill()
    driver.communicate()
    place.folder.rename(tmp_path / "there")
    place.folder = tmp_path / "there"
    run = place.finish()
    assert "trial_recovered" not in [event["type"] for event in run.events()]
    assert told_once(run)
    assert place.steps(place.trials()[0]) <= (8 + 1) * STEPS
    assert not (tmp_path / "here").exists()


def test_paths_are_absolute_by_the_links_that_they_are_given_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facex_tune.pipeline.options import Options
    from facex_tune.storage import files

    (tmp_path / "disk").mkdir()
    (tmp_path / "mount").symlink_to("disk")
    monkeypatch.chdir(tmp_path / "mount")
    monkeypatch.setenv("PWD", str(tmp_path / "mount"))
    assert files.absolute("runs") == tmp_path / "mount" / "runs"
    assert files.place("a/b") == tmp_path / "mount" / "a" / "b"
    options = Options(Path("runs"), Path("data"), parts=(Path("mine"),))
    assert (options.storage, options.data_dir) == (tmp_path / "mount" / "runs", tmp_path / "mount" / "data")
    assert options.parts == (tmp_path / "mount" / "mine",)
    monkeypatch.setenv("PWD", "/nowhere/at/all")  # left over from somewhere else
    assert files.absolute("runs") == tmp_path / "disk" / "runs"
    assert files.absolute(tmp_path / "mount" / "x") == tmp_path / "mount" / "x"


def test_a_working_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facex_tune.storage import files

    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="the working folder is gone"):
        files.absolute("runs")
    assert files.absolute(tmp_path) == tmp_path
