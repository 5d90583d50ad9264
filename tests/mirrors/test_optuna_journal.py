"""The search as an Optuna study: loaded back with Optuna itself."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from facex_tune.mirrors.mirror import Targets, mirror
from facex_tune.mirrors.optuna_journal import OptunaJournal
from facex_tune.runs.frames import Times
from facex_tune.runs.history import fold
from facex_tune.runs.store import Log, Run
from tests.mirrors.conftest import SearchMaker
from tests.records import record


def loaded(path: Path, name: str = "demo") -> optuna.Study:
    """The study as optuna-dashboard opens it."""
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(path))))


def mirrored(run: Run, path: Path) -> optuna.Study:
    mirror(run, Targets(optuna=path))
    return loaded(path, run.name)


def test_every_trial_has_its_state_values_and_curve(make_search: SearchMaker, tmp_path: Path) -> None:
    study = mirrored(make_search(), tmp_path / "optuna.log")
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE]
    assert study.metric_names == ["macro_f1"]
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    assert [trial.values for trial in study.trials] == [[pytest.approx(0.6)], [pytest.approx(0.3)], None, None]
    assert study.trials[0].intermediate_values == pytest.approx({1: 0.2, 2: 0.4, 3: 0.6})
    assert study.trials[3].intermediate_values == pytest.approx({1: 0.5})
    assert study.best_trial.number == 0  # what was cut short or failed is no candidate


def test_parameters_are_those_of_each_trial_s_own_parts(make_search: SearchMaker, tmp_path: Path) -> None:
    run = make_search()
    trials = mirrored(run, tmp_path / "optuna.log").trials
    first, second = trials[0], trials[1]
    assert first.params["model"] == "resnet"
    assert first.params["model.resnet.dropout"] == 0.2
    assert not any(name.startswith("model.resnet.") for name in second.params)
    assert first.distributions["model"] == CategoricalDistribution(("resnet", "facex_cnn"))
    assert first.distributions["train.lr"] == FloatDistribution(0.01, 0.3, log=True)
    assert "train.optimizer" not in first.params  # this study does not vary it
    for trial in trials:
        config = run.history().trials[trial.number].config
        assert trial.params == {name: config[name] for name in trial.params}


def test_a_trial_tells_why_it_ended_and_when(make_search: SearchMaker, tmp_path: Path) -> None:
    run = make_search()
    trials = mirrored(run, tmp_path / "optuna.log").trials
    assert [trial.user_attrs.get("reason") for trial in trials] == [None, "rung", "diverged", None]
    assert trials[2].user_attrs["detail"] == "training loss is nan in epoch 1"
    assert trials[0].user_attrs["epochs"] == 3
    assert trials[0].user_attrs["accuracy"] == pytest.approx(0.7)
    times = Times.of(run.events())
    for trial in trials[:3]:
        assert same_moment(trial.datetime_start, times.started[trial.number])
        assert same_moment(trial.datetime_complete, times.ended[trial.number])


def same_moment(local: datetime | None, iso: str) -> bool:
    """Optuna gives local time without its zone."""
    assert local is not None
    return abs(local.astimezone() - datetime.fromisoformat(iso)) < timedelta(milliseconds=1)


def test_constraints_and_several_objectives_are_told(make_search: SearchMaker, tmp_path: Path) -> None:
    run = make_search(objective=["macro_f1", "log_loss"], constraints={"accuracy": {"min": 0.5, "max": 0.9}})
    study = mirrored(run, tmp_path / "optuna.log")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["macro_f1", "log_loss"]
    assert study.trials[0].values == pytest.approx([0.6, 1.4])
    assert study.trials[1].values is None
    assert study.trials[0].system_attrs["constraints"] == pytest.approx([-0.2, -0.2])
    assert study.trials[1].system_attrs["constraints"] == pytest.approx([0.1, -0.5])
    assert [trial.number for trial in study.best_trials] == [0]


def described(trial: FrozenTrial) -> dict[str, Any]:
    """A trial but for the moment at which its end was told."""
    return {name: value for name, value in vars(trial).items() if name != "_datetime_complete"} | {
        "datetime_complete": None
    }


def test_an_open_study_grows_to_what_a_whole_one_is(
    make_search: SearchMaker, events_of_search: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Event by event: a reader that has the file open sees each step, and in the end the same study."""
    run = make_search(events=[])
    journal = OptunaJournal(run, tmp_path / "grown.log")
    journal.update(run.history(), Times.of(run.events()))
    reader = loaded(tmp_path / "grown.log")
    seen: list[tuple[int, int]] = []
    with run.log() as log:
        for event in events_of_search:
            append(log, event)
            journal.update(run.history(), Times.of(run.events()))
            trials = reader.get_trials(deepcopy=False)
            seen.append((len(trials), sum(len(trial.intermediate_values) for trial in trials)))
    assert seen == sorted(seen)
    assert seen[-1] == (4, 5)
    mirror(run, Targets(optuna=tmp_path / "whole.log"))
    grown, whole = (loaded(tmp_path / name).trials for name in ("grown.log", "whole.log"))
    assert [described(trial) for trial in grown] == [described(trial) for trial in whole]


def append(log: Log, event: dict[str, Any]) -> None:
    log.append(record(event))


def test_a_mirror_that_is_there_is_written_anew(make_search: SearchMaker, tmp_path: Path) -> None:
    path = tmp_path / "optuna.log"
    run = make_search()
    mirrored(run, path)
    assert len(mirrored(run, path).trials) == 4
    assert [each.name for each in tmp_path.iterdir() if "optuna" in each.name] == ["optuna.log"]


def test_a_run_is_read_only(make_search: SearchMaker, tmp_path: Path) -> None:
    run = make_search()
    shutil.copytree(run.folder, tmp_path / "before")
    mirror(run, Targets(tmp_path / "optuna.log", tmp_path / "logs", tmp_path / "trials.csv"))
    before, after = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "before", run.folder)
    )
    assert before == after


# A mirror that is killed while it writes

KILLED = """
import resource, signal, sys
from pathlib import Path
from facex_tune.mirrors.optuna_journal import OptunaJournal
from facex_tune.runs.frames import Times
from facex_tune.runs.history import fold
from facex_tune.runs.store import Run

storage, path, half, n_bytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
run = Run.open(storage, "demo")
events = list(run.events())
journal = OptunaJournal(run, path)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; now it kills in the middle of a write
resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
for end in (half, len(events)):
    journal.update(fold(events[:end]), Times.of(events[:end]))
"""


@pytest.mark.slow
def test_a_mirror_killed_at_twenty_moments_leaves_a_file_that_opens_and_that_the_next_one_takes(
    make_search: SearchMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_search()
    monkeypatch.chdir(tmp_path)
    path = Path("mirrored/optuna.log")  # relative: Optuna's lock is a link, which does not lead from there to the file
    events = list(run.events())
    half = next(n for n, event in enumerate(events) if event["type"] == "trial_stopped")

    def follow() -> tuple[int, int]:
        """A mirror that sees the run go on: the file's size after its first and its last write."""
        journal, sizes = OptunaJournal(run, path), []
        for end in (half, len(events)):
            journal.update(fold(events[:end]), Times.of(events[:end]))
            sizes.append(path.stat().st_size)
        return sizes[0], sizes[1]

    first, whole = follow()
    moments = [*range(1, first, first // 15), *range(first + 1, whole, (whole - first) // 5)]
    assert len(moments) >= 20
    torn = 0
    for moment in moments:
        said = [sys.executable, "-c", KILLED, str(run.storage), str(path), str(half), str(moment)]
        assert subprocess.run(said).returncode == -signal.SIGXFSZ
        torn += not path.read_bytes().endswith(b"\n")
        assert len(loaded(path).trials) == 4, "a dashboard opens it as it lies"
        assert follow() == (first, whole)
        assert [each.name for each in path.parent.iterdir()] == ["optuna.log"], "neither a lock nor a part is left"
    assert torn >= 3
