"""The command line: every wrong input is one line and exit code 2; `--json` is one document; help has examples."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
from rich.console import Console

from facex_tune import cli, parts, study
from facex_tune.cli import outcome, run_tables
from facex_tune.errors import InputError, Interrupted
from facex_tune.pipeline import dry_run, estimating, side_by_side
from facex_tune.runs import overview
from facex_tune.runs.events import (
    EpochDone,
    ModelFinished,
    RunInterrupted,
    RunResumed,
    RunStarted,
    StageFinished,
    StageStarted,
    TrialFailed,
    TrialFinished,
    TrialStarted,
    TrialStopped,
)
from facex_tune.runs.store import Run
from facex_tune.storage.files import DamagedRun

ROOT = Path(__file__).resolve().parents[2]
QUICK = ROOT / "search_spaces" / "quick.yaml"
FER2013 = ROOT / "search_spaces" / "fer2013.yaml"
ON_CLUSTER = ["--storage", "/shared/runs", "--data", "/shared/data"]
Call = Callable[..., "Result"]


class Result:
    """What a command left: its exit code and both outputs."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The command line, in this process, with data and runs in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("FACEX_DATA", "FACEX_STORAGE"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> Result:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, captured.out, captured.err)

    return run


ENVIRONMENT = {"packages": {}, "faces": {"train": 4000, "validation": 1234}}


def make_run(storage: Path, name: str = "demo") -> Run:
    """A run with four trials, two final models and one evaluation, written as the real one is."""
    made = Run.create(storage, name, study.load(QUICK), data={}, environment=ENVIRONMENT)
    with made.log() as log:
        log.append(RunStarted())
        log.append(StageStarted(stage="search"))
        for trial, (lr, model) in enumerate([(0.1, "resnet"), (0.05, "resnet"), (0.2, "facex_cnn"), (0.3, "resnet")]):
            config = {"model": model, "augment": "none", "train.lr": lr, f"model.{model}.dropout": 0.2}
            log.append(TrialStarted(trial=trial, config=config, source="sampler"))
            metrics = {"macro_f1": 0.3 + trial / 10, "accuracy": 0.5, "worst_class_recall": 0.1}
            log.append(EpochDone(trial=trial, epoch=1, metrics=metrics, seconds=1.0))
        log.append(TrialFinished(trial=0))
        log.append(TrialFinished(trial=1))
        log.append(TrialStopped(trial=2, epoch=1, reason="rung"))
        log.append(TrialFailed(trial=3, reason="diverged", detail="training loss is nan in epoch 2"))
        log.append(StageFinished(stage="search"))
        for seed in (0, 1):
            metrics = {"macro_f1": 0.5 + seed / 100, "accuracy": 0.6}
            log.append(ModelFinished(candidate=1, seed=seed, metrics=metrics))
    interval = {"mean": 0.41, "interval": [0.38, 0.44], "per_model": [0.4, 0.42]}
    scores = {"n": 800, "models": ["t0001-s0", "t0001-s1"], "opened": 1, "metrics": {"accuracy": interval}}
    (made.evaluation_folder / "synthetic.private.json").write_text(json.dumps(scores))
    return made


@pytest.fixture
def demo(tmp_path: Path) -> Run:
    return make_run(tmp_path / "runs")


# Wrong input


def test_an_unknown_command_is_one_line_with_the_nearest_names(call: Call) -> None:
    result = call("runz")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: No such command 'runz'. Did you mean 'run', 'runs'?; see `facex-tune --help`\n"


@pytest.mark.parametrize(("option", "value"), [("--top", "0"), ("--top", "many")])
def test_a_number_that_an_option_refuses_is_repeated(call: Call, option: str, value: str) -> None:
    result = call("show", "x", option, value)
    assert result.code == 2
    assert f"'{option}': '{value}' is not allowed: input should be" in result.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], ["Missing argument 'STUDY'"]),
        (["run", QUICK, "--nosuch"], ["--nosuch"]),
        (["run", "absent.yaml"], ["absent.yaml", "No such file"]),
        (["run", QUICK, "--set", "space.model=[resnt]"], ["'resnt'", "did you mean resnet"]),
        (["run", QUICK, "--set", "space.train.lr={low: 0.3, high: 0.1}"], ["impossible range", "0.3", "0.1"]),
        (["run", QUICK, "--set", "space.train.lr={low: 0.1, high: 7}"], ["train.lr", "1e-05 to 1"]),
        (["run", QUICK, "--set", "budgte.trials=3"], ["budgte", "did you mean budget"]),
        (["run", QUICK, "--set", "budget"], ["write key=value"]),
        (["run", QUICK, "--set", "objective=acuracy"], ["'acuracy'", "did you mean accuracy"]),
        (["run", QUICK, "--set", "evaluate.protocols=[ckplus.7]"], ["'ckplus.7'", "did you mean ckplus.6"]),
        (["run", QUICK, "--seed", "-1"], ["search.seed", "-1"]),
        (["run", QUICK, "--seed", "x"], ["--seed"]),
        (["run", QUICK, "--parts", "nowhere"], ["no parts in", "nowhere"]),
        (["search", "absent.yaml"], ["absent.yaml"]),
        (["parts", "modle"], ["'modle'", "did you mean model"]),
        (["parts", "model", "vvg"], ["no part named 'vvg'", "did you mean vgg"]),
        (["parts", "model", "--show"], ["--show: model has no sheets", "facex-tune parts augment --show"]),
        (["parts", "--show"], ["--show: no family has no sheets"]),
        (["parts", "augment", "--faces", "x"], ["--faces x goes with --show"]),
        (["parts", "augment", "--show", "afine"], ["nothing named 'afine'", "did you mean affine"]),
        (["parts", "augment", "--show", "--faces", "x"], ["'x'", "not prepared"]),
        (["data", "prepare", "fer2031"], ["'fer2031'", "did you mean fer2013"]),
        (["data", "prepare", "fer2013"], ["facex-tune data prepare fer2013 SOURCE"]),
        (["data", "prepare", "fer2013", "absent.zip"], ["absent.zip"]),
        (["show", "nothing"], ["no run named 'nothing'"]),
        (["retrain", "nothing"], ["no run named 'nothing'"]),
        (["evaluate", "nothing"], ["no run named 'nothing'"]),
        (["evaluate", "demo", "--protocol", "ckplus.7"], ["'ckplus.7'", "did you mean ckplus.6"]),
        (["report", "nothing"], ["no run named 'nothing'"]),
        (["resume", "nothing"], ["no run named 'nothing'"]),
        (["show", "demo", "--top", "0"], ["--top"]),
        (["runs", "--state", "runing"], ["'runing'", "did you mean running"]),
        (["mirror", "nothing"], ["no run named 'nothing'"]),
        (["show", "../runs"], ["'../runs'", "letters"]),
        (["run", QUICK, "--run", "a/b"], ["'a/b'", "letters"]),
        (["submit", QUICK, "--run", "a/b", *ON_CLUSTER], ["'a/b'", "letters"]),
        (["submit", "absent.yaml", "--run", "a", *ON_CLUSTER], ["absent.yaml", "No such file"]),
        (["submit", QUICK, "--run", "a", "--set", "objective=acuracy", *ON_CLUSTER], ["'acuracy'", "accuracy"]),
        (["submit", FER2013, "--run", "a", "--device", "cuda:1", *ON_CLUSTER], ["cuda:1", "write --device cuda"]),
        (["submit", QUICK, "--run", "a"], ["--storage and --data"]),
        (["run", QUICK, "--device", "gpu7"], ["--device", "'gpu7'", "cuda"]),
    ],
    ids=lambda value: " ".join(str(getattr(word, "name", word)) for word in value),
)
def test_wrong_input_is_one_line_and_exit_code_2(call: Call, words: list[Any], said: list[str]) -> None:
    result = call(*words)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("error: ")
    assert [each for each in said if each not in result.err] == []


def test_every_problem_of_a_study_is_told_at_once(call: Call) -> None:
    wrong = ["--set", "space.model=[resnt]", "--set", "objective=acuracy", "--set", "space.train.lr=[7]"]
    result = call("run", QUICK, *wrong)
    assert result.code == 2
    assert len(result.err.splitlines()) == 3


def test_an_unknown_run_is_told_with_the_nearest(call: Call, demo: Run) -> None:
    assert "did you mean demo" in call("show", "dmeo").err


# Errors that are not a wrong input


def outcome_of(error: BaseException, capsys: pytest.CaptureFixture[str], folder: Path | None = None) -> Result:
    ending = outcome.Outcome()

    def command() -> None:
        ending.run_folder = folder
        raise error

    code = ending.of(command)
    captured = capsys.readouterr()
    return Result(code, captured.out, captured.err)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError(["one", "two"]), 2, ["error: one", "error: two"]),
        (Interrupted("demo", "SIGTERM"), 75, ["interrupted by SIGTERM: continue with `facex-tune resume demo`"]),
        (KeyboardInterrupt(), 75, ["interrupted: continue with `facex-tune resume demo`"]),
        (DamagedRun("events/000001.jsonl, line 3: malformed"), 1, ["error: events/000001.jsonl, line 3: malformed"]),
    ],
)
def test_an_error_has_its_exit_code_and_its_line(
    error: BaseException, code: int, said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = outcome_of(error, capsys, tmp_path / "demo")
    assert (result.code, result.err.splitlines()) == (code, said)


def test_an_interruption_counts_as_one_although_compiled_code_wrapped_it(capsys: pytest.CaptureFixture[str]) -> None:
    wrapped = SystemError("returned a result with an exception set")
    wrapped.__cause__ = Interrupted("demo", "SIGINT")
    result = outcome_of(wrapped, capsys)
    assert (result.code, result.err) == (75, "interrupted by SIGINT: continue with `facex-tune resume demo`\n")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "permissions"),
        (errno.ENOTDIR, "name another place"),
    ],
)
def test_a_full_or_forbidden_disk_is_one_line(number: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = outcome_of(OSError(number, os.strerror(number), "/some/file"), capsys)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert said in result.err
    assert "/some/file" in result.err


def test_an_error_of_ours_names_what_is_saved_and_keeps_the_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = outcome_of(ZeroDivisionError("division\nby zero"), capsys, tmp_path)
    assert result.code == 1
    log = tmp_path / "crash.log"
    assert result.err.splitlines() == [
        "internal error: ZeroDivisionError: division; "
        f"everything reported so far is saved in {tmp_path}; traceback in {log}"
    ]
    assert "Traceback" in log.read_text()


def test_a_traceback_goes_through_no_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "foreign").write_text("as it was")
    (tmp_path / "crash.log").symlink_to(tmp_path / "foreign")
    outcome_of(ZeroDivisionError("x"), capsys, tmp_path)
    assert (tmp_path / "foreign").read_text() == "as it was"
    assert "Traceback" in (tmp_path / "crash.log").read_text()


def test_without_a_run_a_traceback_has_a_name_that_nobody_foresees(capsys: pytest.CaptureFixture[str]) -> None:
    logs = [outcome_of(ZeroDivisionError("x"), capsys).err.rpartition("traceback in ")[2].strip() for _ in range(2)]
    assert logs[0] != logs[1]
    for log in map(Path, logs):
        assert "Traceback" in log.read_text()
        log.unlink()


def test_what_a_full_disk_did_not_take_is_told(demo: Run, tmp_path: Path) -> None:
    for words in ("show demo --json", "runs"):
        command = [sys.executable, "-c", "from facex_tune.cli import main; main()", *words.split()]
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("error: no space left")


def test_a_reader_that_leaves_early_hears_no_traceback(demo: Run, tmp_path: Path) -> None:
    line = f"{sys.executable} -c 'from facex_tune.cli import main; main()' show demo --json | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "{\n"
    assert done.stderr == ""


# What commands print


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "--json"],
        ["show", "demo", "--json"],
        ["show", "demo", "--trial", "t0001", "--json"],
        ["mirror", "demo", "--csv", "trials.csv", "--json"],
        ["data", "prepare", "synthetic_lab", "--json"],
        ["parts", "--json"],
        ["parts", "models", "--no-measure", "--json"],
        ["doctor", "--json"],
        ["data", "list", "--json"],
    ],
    ids=" ".join,
)
def test_json_is_one_document_and_nothing_else(call: Call, demo: Run, words: list[str]) -> None:
    result = call(*words)
    assert result.code == 0
    assert json.loads(result.out)["version"] == 1
    assert result.err == ""


def test_sheets_of_augmentations_are_written_and_named(call: Call, tmp_path: Path) -> None:
    said = call("parts", "augment", "--show", "noise", "none", "--out", "pictures")
    written = "".join(f"written: {tmp_path}/pictures/{name}.png\n" for name in ("noise", "none"))
    assert (said.code, said.out) == (0, written)
    assert (Path("pictures") / "noise.png").stat().st_size > 1000
    told = json.loads(call("parts", "augment", "none", "--show", "--json").out)
    assert told == {"version": 1, "sheets": {"none": f"{tmp_path}/sheets/none.png"}}


def test_parts_can_be_listed_by_name(call: Call) -> None:
    found = json.loads(call("parts", "model", "vgg", "resnet", "--no-measure", "--json").out)["families"]
    assert {family: list(names) for family, names in found.items()} == {"model": ["resnet", "vgg"]}


def test_report_tells_as_json_where_its_page_is(call: Call, tmp_path: Path) -> None:
    Run.create(tmp_path / "runs", "new", study.load(QUICK), data={}, environment={})
    result = call("report", "new", "--json", "--without-faces")
    assert (result.code, result.err) == (0, "")
    assert "This page was written without faces" in Path(json.loads(result.out)["report"]).read_text(encoding="utf-8")


def board_rows(out: str) -> list[list[str]]:
    """The lines of a leaderboard, in words."""
    return [words for line in out.splitlines() if len(words := line.split()) > 1 and re.fullmatch(r"t\d{4}", words[1])]


def test_show_ranks_finished_trials_first_and_names_only_the_knobs_that_differ(call: Call, demo: Run) -> None:
    rows = board_rows(call("show", "demo").out)
    assert [row[1] for row in rows] == ["t0001", "t0000", "t0002", "t0003"]
    assert rows[0] == ["1", "t0001", "finished", "1", "0.400", "0.500", "0.100", "resnet", "|", "lr=0.05"]
    assert "none" not in rows[0]  # every trial's augmentation, and no dropout: all of a model have the same


def test_show_begins_with_what_a_run_is_and_what_its_best_value_rests_on(call: Call, demo: Run) -> None:
    heading, best = call("show", "demo").out.splitlines()[:2]
    assert heading.startswith(
        "demo | study quick on synthetic | searched | 2 finished, 1 stopped, 1 failed (1 diverged)"
    )
    assert re.search(r"begun \d+s ago$", heading)
    assert best == "best t0001: macro_f1 0.400 on 1,234 validation faces after 1/6 epochs, one seed"


def test_show_tells_failures_models_and_scores_with_their_interval(call: Call, demo: Run) -> None:
    lines = call("show", "demo").out.splitlines()
    assert any("failed: diverged" in line for line in lines)
    assert not any("rung" in line for line in lines)
    assert any(line.split() == ["t0001", "seed", "1", "0.510", "0.600", "-"] for line in lines)
    scores = next(line for line in lines if line.startswith("synthetic.private"))
    assert " ".join(scores.split()) == "synthetic.private 800 2 0.410 [.380, .440] - 1"


def test_show_has_a_column_for_adjusted_scores_where_there_are_any(call: Call, demo: Run) -> None:
    assert "adjusted" not in call("show", "demo").out
    with demo.log() as log:
        metrics = {"macro_f1": 0.5, "accuracy": 0.6, "macro_f1_adjusted": 0.587, "adjust_tau": 0.4}
        log.append(TrialStarted(trial=4, config={"model": "resnet", "augment": "none"}, source="sampler"))
        log.append(EpochDone(trial=4, epoch=1, metrics=metrics, seconds=1.0))
        log.append(TrialFinished(trial=4))
        log.append(ModelFinished(candidate=4, seed=0, metrics=metrics))
    path = demo.evaluation_folder / "synthetic.private.json"
    after = {"tau": [0.4, 0.5], "metrics": {"macro_f1": {"mean": 0.444, "interval": [0.4, 0.48]}}}
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "adjusted": after}))
    lines = [" ".join(line.split()) for line in call("show", "demo").out.splitlines()]
    assert lines[2].startswith("# trial state epochs macro_f1 accuracy worst recall adjusted")
    assert any(line.startswith("1 t0004 finished 1 0.500 0.600 - 0.587") for line in lines)
    assert "t0004 seed 0 0.500 0.600 - 0.587" in lines
    assert "synthetic.private 800 2 0.410 [.380, .440] - 0.444 [.400, .480] 1" in lines


def test_show_ranks_a_repeated_configuration_once_with_its_seeds_and_mean(call: Call, demo: Run) -> None:
    assert "mean" not in call("show", "demo").out
    with demo.log() as log:
        config = demo.history().trials[1].config
        log.append(TrialStarted(4, config, "sampler", repeats=1))
        log.append(EpochDone(4, 1, {"macro_f1": 0.6, "accuracy": 0.5, "worst_class_recall": 0.1}, 1.0))
        log.append(TrialFinished(4))
    out = call("show", "demo").out
    assert out.splitlines()[1].startswith("best t0001: macro_f1 0.500 on 1,234 validation faces")
    assert out.splitlines()[1].endswith("after 1/6 epochs, mean of 2 seeds")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert any(line.startswith("1 t0001 finished 1 2 0.500 0.400 0.500") for line in lines)
    assert any(line.startswith("t0004 finished 1 0.600 0.500") for line in lines), "under it, without a rank"
    assert any(line.startswith("2 t0000 finished 1 1 0.300 0.300") for line in lines)
    document = json.loads(call("show", "demo", "--trial", "4", "--json").out)
    assert (document["rank"], document["repeats"], document["n"], document["mean"]) == (1, "t0001", 2, 0.5)


def test_show_counts_the_rows_that_it_leaves_out(call: Call, demo: Run) -> None:
    assert "and 3 more (--top 4 shows all)" in call("show", "demo", "--top", 1).out


def test_show_keeps_to_the_states_asked_for_and_to_each_trials_rank(call: Call, demo: Run) -> None:
    words = ["show", "demo", "--state", "stopped", "--state", "failed"]
    assert [row[:2] for row in board_rows(call(*words).out)] == [["3", "t0002"], ["4", "t0003"]]
    document = json.loads(call(*words, "--top", 1, "--json").out)
    assert [(row["rank"], row["trial"]) for row in document["leaderboard"]] == [(3, "t0002")]
    assert document["matching"] == 2


def test_parts_times_those_of_the_users_own_alone(call: Call, tmp_path: Path) -> None:
    (tmp_path / "mine" / "models").mkdir(parents=True)
    (tmp_path / "mine" / "models" / "tiny_net.py").write_text(
        '"""One layer."""\nPRECISION = "fp32"\nSPACE = {}\n\n\ndef build(knobs, n_classes):\n'
        "    from torch import nn\n\n    return nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, n_classes))\n"
    )
    told = json.loads(call("parts", "model", "--parts", "mine", "--json").out)["costs"]["models"]
    parts._own_folders.clear()
    assert [name for name, cost in told.items() if "training" in cost] == ["tiny_net"]
    assert "parameters" in told["vgg"], "counted, which takes no time"


def test_show_keeps_the_columns_of_final_models_whatever_trials_it_shows(call: Call, demo: Run) -> None:
    with demo.log() as log:
        found = {"macro_f1": 0.5, "macro_f1_adjusted": 0.567, "adjust_tau": 0.5}
        log.append(ModelFinished(candidate=1, seed=2, metrics=found))
    for words in ([], ["--state", "failed"]):
        assert "0.567" in call("show", "demo", *words).out


def test_show_tells_one_trial_with_its_every_epoch(call: Call, demo: Run) -> None:
    lines = [" ".join(line.split()) for line in call("show", "demo", "--trial", 3).out.splitlines()]
    assert lines[0] == "t0003 | rank 4 | failed: diverged | 1/6 epochs in 1s | from sampler"
    assert lines[1] == "training loss is nan in epoch 2"
    assert "train.lr 0.3" in lines
    assert lines[-1] == "1 0.600 0.500 0.100 - -"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--state", "stoped"], "did you mean stopped"),
        (["--trial", "t0009"], "it has t0000 to t0003"),
        (["--trial", "best"], "it has t0000 to t0003"),
        (["--follow", "--json"], "leave --json"),
    ],
)
def test_a_wrong_question_about_a_run_is_one_line(call: Call, demo: Run, words: list[str], said: str) -> None:
    result = call("show", "demo", *words)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert said in result.err


def test_a_state_that_no_trial_has_is_said(call: Call, demo: Run) -> None:
    assert call("show", "demo", "--state", "running").out.splitlines()[-1] == "no trial is running"
    assert "no trial is" not in call("show", "demo", "--state", "stopped").out


def test_following_a_run_that_nobody_writes_shows_it_and_ends(call: Call, demo: Run) -> None:
    result = call("show", "demo", "--follow")
    assert result.code == 0
    assert len(board_rows(result.out)) == 4
    assert result.err.startswith("search | 4/8 trials ended | elapsed ")


def test_show_changes_nothing(call: Call, demo: Run) -> None:
    before = sorted(path for path in demo.folder.rglob("*"))
    call("show", "demo")
    call("runs")
    assert sorted(path for path in demo.folder.rglob("*")) == before


def test_runs_lists_every_run_and_a_damaged_one_hides_no_other(call: Call, demo: Run, tmp_path: Path) -> None:
    damaged = make_run(tmp_path / "runs", "torn")
    (damaged.folder / "run.json").write_text("{")
    odd = make_run(tmp_path / "runs", "odd")
    shutil.rmtree(odd.folder / "events", ignore_errors=True)
    (odd.folder / "events").write_text("")
    (tmp_path / "runs" / "no_run" / "run.json").mkdir(parents=True)
    result = call("runs")
    assert result.code == 0
    rows = {line.split()[0]: line for line in result.out.splitlines()[1:]}
    assert set(rows) == {"demo", "torn", "odd"}
    assert re.search(r"damaged: .*events: Not a directory", rows["odd"]), "a log that cannot be read is no empty one"
    state, lasted, *rest = rows["demo"].split()[1:8]
    assert (state, rest) == ("searched", ["4/8", "1", "0.400", "1/6", "1,234"])
    assert re.fullmatch(r"\d+s", lasted), "as long as this machine took to write the run"
    assert "malformed" in rows["torn"]
    found = json.loads(call("runs", "--state", "damaged", "--json").out)["runs"]
    assert [run["run"] for run in found] == ["torn", "odd"]
    assert call("runs", "--state", "running").out == f"no runs in {Path.cwd()}/runs are running\n"


def test_a_run_is_running_while_somebody_writes_it_and_then_interrupted(call: Call, demo: Run) -> None:
    with demo.log() as log:
        log.append(RunResumed())
        log.append(StageStarted(stage="retrain"))
        assert f"running: retrain, by process {os.getpid()} on " in call("show", "demo").out
        assert json.loads(call("runs", "--json").out)["runs"][0]["writer"]["pid"] == os.getpid()
        log.append(RunInterrupted(signal="SIGTERM"))
    assert re.search(r"interrupted in retrain by SIGTERM \d+s ago \(facex-tune resume demo\)", call("show", "demo").out)
    assert call("runs", "--state", "interrupted").out.splitlines()[1].split()[:3] == ["demo", "interrupted:", "retrain"]


def test_a_factor_study_leaves_a_run_as_finished_as_it_was(call: Call, demo: Run) -> None:
    with demo.log() as log:
        for stage in ("retrain", "evaluate", "report", "factors"):
            log.append(RunResumed())
            log.append(StageStarted(stage=stage))
            if stage == "factors":
                assert "running: factors, by process" in call("show", "demo").out
            log.append(StageFinished(stage=stage))
    assert " | finished | " in call("show", "demo").out
    with demo.log() as log:
        log.append(StageStarted(stage="factors"))
        log.append(RunInterrupted(signal="SIGTERM"))
    assert "interrupted in factors by SIGTERM" in call("show", "demo").out


@pytest.mark.parametrize("width", [80, 140])
def test_lists_of_runs_fit_a_terminal(demo: Run, width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(run_tables.runs(overview.of_runs(demo.storage), width))
    console.print(*run_tables.run(overview.of_run(demo), width), sep="\n")
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    shown = lines[1].split()
    assert shown[:2] + shown[3:5] == ["demo", "searched", "4/8", "1"]
    assert re.fullmatch(r"\d+s", shown[2]), "as long as this machine took to write the run"


def test_no_runs_is_no_error(call: Call) -> None:
    result = call("runs")
    assert result.code == 0
    assert "facex-tune run search_spaces/quick.yaml" in result.out


@pytest.mark.parametrize("said", ["relative", "absolute"])
def test_folders_come_from_the_environment(
    call: Call, demo: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    top = Path() if said == "relative" else tmp_path
    monkeypatch.setenv("FACEX_STORAGE", str(top / "elsewhere"))
    monkeypatch.setenv("FACEX_DATA", str(top / "sets"))
    assert call("show", "demo").code == 0
    result = call("data", "prepare", "synthetic_lab")
    assert f"in {tmp_path}/sets/synthetic_lab" in result.out, "absolute, wherever it is read later"


def test_preparing_tells_what_was_written(call: Call, tmp_path: Path) -> None:
    result = call("data", "prepare", "synthetic_lab", "--data", "sets")
    assert result.code == 0
    assert result.out == f"synthetic_lab: 600 faces (test 600), in {Path.cwd()}/sets/synthetic_lab\n"
    assert (tmp_path / "sets" / "synthetic_lab" / "images.npy").exists()


def test_version_is_told(call: Call) -> None:
    assert call("--version").out.startswith("facex-tune 0.")


def test_no_words_at_all_is_help(call: Call) -> None:
    result = call()
    assert result.code == 0
    assert "Usage" in result.out


def all_commands() -> list[list[str]]:
    group: Any = typer.main.get_command(cli.app)
    found = [[name] for name, command in group.commands.items() if not hasattr(command, "commands")]
    return found + [["data", name] for name in group.commands["data"].commands]


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(call: Call, words: list[str]) -> None:
    result = call(*words, "--help")
    assert result.code == 0
    assert f"facex-tune {' '.join(words)}" in result.out.partition("Examples")[2]
    assert "<bool>" not in result.out, "a flag takes no value"


# What stops a run before it starts


def fer2013_study(folder: Path) -> Path:
    """A study of a data set that nobody has prepared."""
    path = folder / "study.yaml"
    path.write_text("version: 1\nname: mine\ndata: fer2013\nevaluate: {protocols: [fer2013.private, ckplus.6]}\n")
    return path


def test_an_unprepared_data_set_is_told_with_the_command_that_prepares_it(call: Call, tmp_path: Path) -> None:
    result = call("run", fer2013_study(tmp_path))
    assert (result.code, result.out) == (2, "")
    lines = result.err.splitlines()
    assert len(lines) == 2
    assert "`facex-tune data prepare fer2013 SOURCE`" in lines[0]
    assert "`facex-tune data prepare ckplus SOURCE`" in lines[1]


def test_a_storage_that_is_no_folder_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = call("run", fer2013_study(tmp_path), "--storage", "file/runs")
    assert result.code == 2
    assert any(f"--storage {Path.cwd()}/file/runs: cannot write there" in line for line in result.err.splitlines())


def test_a_source_that_cannot_be_read_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    result = call("data", "prepare", "ckplus", "broken.zip")
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "broken.zip" in result.err


def test_how_to_open_a_mirror_can_be_pasted_into_a_shell(call: Call, demo: Run, tmp_path: Path) -> None:
    place = tmp_path / "my folder" / "st.log"
    assert f": open it with `optuna-dashboard '{place}'`" in call("mirror", "demo", "--optuna", str(place)).out


def test_a_run_that_another_process_writes_is_told_by_name(call: Call, demo: Run) -> None:
    with demo.log():
        result = call("retrain", "demo")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: run 'demo' is being written by process")
    assert len(result.err.splitlines()) == 1


def test_a_run_keeps_the_study_that_it_began_with(call: Call, demo: Run) -> None:
    result = call("run", QUICK, "--run", "demo", "--set", "budget.trials=99")
    assert result.code == 2
    assert "budget.trials: 8 then, 99 now" in result.err


def test_no_space_left_is_told(tmp_path: Path) -> None:
    """On a real file system of one megabyte, mounted in a namespace of this test's own."""
    (tmp_path / "small").mkdir()
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}/small"
    command = f"{sys.executable} -c 'from facex_tune.cli import main; main()'"
    command += f" data prepare synthetic_lab --data {tmp_path}/small"
    unshare = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if subprocess.run([*unshare, mount], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a file system of their own")
    done = subprocess.run([*unshare, f"{mount} && {command}"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no space left in")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that take what they are said to: for tests of what else an estimate says."""
    monkeypatch.setattr(side_by_side, "MOST", 0)
    monkeypatch.setattr(estimating, "_measure", lambda _s, _m, faces, *_: {"seconds": faces / 100, "parameters": 1e6})


@pytest.mark.usefixtures("measured")
def test_a_dry_run_of_a_name_that_another_study_has_says_so(call: Call, demo: Run) -> None:
    words = ["run", QUICK, "--dry-run", "--run", "demo"]
    assert call("data", "prepare", "synthetic").code == 0
    assert call(*words).code == 0, "the same study"
    result = call(*words, "--set", "budget.trials=5")
    assert result.code == 2
    assert result.err.startswith("error: run 'demo' exists with another study (budget.trials: 8 then, 5 now)")


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("command", ["run", "search"])
def test_a_dry_run_warns_of_final_models_that_are_trained_less_than_trials(call: Call, command: str) -> None:
    said = "final models are trained for 2 epochs (retrain.epochs), the search's longest trials for 6"
    assert call("data", "prepare", "synthetic").code == 0
    words = [command, QUICK, "--dry-run"]
    told = call(*words, "--set", "retrain.epochs=2")
    assert told.code == 0
    assert f"note: {said}" in told.err
    notes = json.loads(call(*words, "--set", "retrain.epochs=2", "--json").out)["told"]
    assert any(note.startswith(said) for note in notes)
    usual = call(*words)
    assert "final models are trained for" not in usual.out + usual.err


def test_a_set_that_nobody_knows_is_not_reckoned_with(call: Call) -> None:
    document = json.loads(call("run", QUICK, "--dry-run", "--json", "--set", "data=fer2014").out)
    assert document["estimate"] is None
    assert "did you mean fer2013" in document["problems"][0]


@pytest.mark.slow
def test_a_dry_run_measures_each_model_says_so_and_under_what_load_and_starts_nothing(
    call: Call, tmp_path: Path
) -> None:
    result = call("search", QUICK, "--dry-run", "--json")
    measured = [line for line in result.err.splitlines() if line.startswith("measuring")]
    assert measured == ["measuring resnet (1 of 2)", "measuring facex_cnn (2 of 2)"]
    document = json.loads(result.out)
    assert document["problems"] == []
    assert not (tmp_path / "runs").exists()
    figures = document["estimate"]
    assert (figures["trials"], figures["measured_on"]) == (8, "this machine")
    assert figures["cpu_cores"] == os.cpu_count()
    assert figures["load_average"] >= 0
    assert "hours_retrain" not in figures, "the search alone was asked for"
    assert figures["hours"] == figures["hours_search"]


def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a measurement fails the test."""
    monkeypatch.setattr(dry_run, "estimate", lambda *_: pytest.fail("measured a study that no run would begin"))


REFUSED = {
    "what this machine cannot hold": ["--set", "resources.gpus=64"],
    "an unknown set": ["--set", "data=fer2014"],
    "unprepared sets": ["--set", "data=fer2013", "--set", "evaluate.protocols=[ckplus.6]"],
    "no faces to train on": ["--set", "data=synthetic_lab", "--set", "validation.holdout=0.1"],
    "labels without votes": ["--set", "data=mine", "--set", "labels=ferplus_votes"],
    "storage": ["--storage", "/proc/none"],
    "a device": ["--device", "mps"],
    "a wrong study": ["--set", "budget.trials=0"],
    "a run to learn from": ["--set", "search.learn_from=nobody"],
}


@pytest.mark.parametrize("command", ["run", "search"])
@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED)
def test_a_dry_run_refuses_at_once_what_a_run_refuses(
    call: Call, monkeypatch: pytest.MonkeyPatch, command: str, words: list[str]
) -> None:
    unmeasured(monkeypatch)
    told = call(command, QUICK, *words)
    assert told.code == 2
    dry = call(command, QUICK, *words, "--dry-run")
    assert (dry.code, dry.out, dry.err) == (2, "", told.err)
    assert "measuring" not in dry.err


def test_a_dry_run_of_a_run_whose_faces_changed_refuses_as_the_run_does(
    call: Call, demo: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmeasured(monkeypatch)
    header = json.loads((demo.folder / "run.json").read_text())
    header["data"] = {"synthetic": {"sha256": "another"}}
    (demo.folder / "run.json").write_text(json.dumps(header))
    call("data", "prepare", "synthetic")
    told = call("run", QUICK, "--run", "demo")
    assert told.code == 2
    assert "is not the one that run 'demo' began with" in told.err
    assert call("run", QUICK, "--run", "demo", "--dry-run").err == told.err


@pytest.mark.usefixtures("measured")
def test_a_cluster_may_have_what_this_machine_has_not(call: Call) -> None:
    words = ["run", QUICK, "--dry-run", "--set", "resources.gpus=64", "--address", "10.0.0.1:6379", "--json"]
    joined = json.loads(call(*words).out)
    assert joined["problems"] == [], "a cluster may have them, or grow to them"
    assert joined["estimate"]["measured_on"] == "this machine, not the cluster"


def test_init_writes_a_study_and_never_over_another(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    words = ["init", path, "--for", "synthetic", "--machine", "cpu", "--time", "30m"]
    result = call(*words)
    assert result.code == 0
    assert study.load(path).budget.time == 1800
    path.write_text("mine", encoding="utf-8")
    assert call(*words).code == 2
    assert path.read_text(encoding="utf-8") == "mine"
    assert call(*words, "--force").code == 0
    assert study.load(path).name == "mine"


def test_init_without_a_terminal_wants_to_be_told(call: Call, tmp_path: Path) -> None:
    result = call("init", tmp_path / "mine.yaml", "--machine", "cpu")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "--for: nobody is here to ask (no terminal); say it, for example --for synthetic" in result.err
    assert not (tmp_path / "mine.yaml").exists()


def test_init_gives_editors_the_schema_and_never_writes_over_another(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "new" / "mine.yaml"
    words = ["init", path, "--for", "synthetic", "--machine", "gpu", "--time", "30m", "--force"]
    beside = tmp_path / "new" / "study.schema.json"
    told = call(*words[:-1])
    assert path.read_text(encoding="utf-8").splitlines()[0] == "# yaml-language-server: $schema=study.schema.json"
    assert json.loads(beside.read_text(encoding="utf-8")) == json.loads(json.dumps(study.json_schema()))
    assert f"schema, for editors: {beside}\n" in told.out
    assert f"{beside} (was there)\n" in call(*words).out
    beside.write_text("{}", encoding="utf-8")
    words[1] = tmp_path / "new" / "second.yaml"
    assert f"{beside} (another file is there, left as it is; --force replaces it)\n" in call(*words[:-1]).out
    assert beside.read_text(encoding="utf-8") == "{}"
    assert f"schema, for editors: {beside}\n" in call(*words).out
    assert beside.read_bytes() == call("schema").out.encode(), "as `schema` prints it"
    beside.unlink()
    beside.mkdir()
    assert f"{beside} (a folder is there)\n" in call(*words).out


def test_init_asks_in_a_terminal(tmp_path: Path) -> None:
    """For what was not said, with what is usual; an empty answer takes that."""
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "facex_tune", "init", "asked.yaml", "--data", "nowhere"]
    with subprocess.Popen(command, stdin=end, stdout=subprocess.PIPE, stderr=end, cwd=tmp_path) as process:
        os.close(end)
        said = ""
        for question, answer in (("Data set", ""), ("Machine", "gpu"), ("Time of the search", " 45m ")):
            while not re.search(rf"{question}.*: $", said):
                said += os.read(terminal, 4096).decode()
            os.write(terminal, f"{answer}\n".encode())
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(terminal)
    assert process.returncode == 0
    assert "Data set (synthetic, fer2013) [synthetic]: " in said
    assert out.startswith(f"study: {tmp_path / 'asked.yaml'}\n"), "questions are no part of what is printed"
    written = study.load(tmp_path / "asked.yaml")
    assert (written.data, written.resources.gpus, written.budget.time) == ("synthetic", 0.5, 2700)


def test_the_schema_is_printed(call: Call) -> None:
    assert json.loads(call("schema").out) == json.loads(json.dumps(study.json_schema()))


def test_a_busy_machine_is_told() -> None:
    cores = os.cpu_count() or 1
    assert dry_run.busy_note(float(cores)).startswith("measured while this machine was at work (load average")
    assert dry_run.busy_note(0.0) == dry_run.busy_note(None) == ""


def test_a_dry_run_tells_every_problem(call: Call, tmp_path: Path) -> None:
    study_file = fer2013_study(tmp_path)
    result = call("run", study_file, "--dry-run", "--set", "space.model=[{resnet: {width: 16}}]")
    assert result.code == 2
    assert len(result.err.splitlines()) == 2
    document = json.loads(call("run", study_file, "--dry-run", "--json").out)
    assert len(document["problems"]) == 2
    assert document["estimate"] is None


@pytest.mark.slow
def test_a_dry_run_on_a_set_that_is_for_tests_only_is_one_line(call: Call) -> None:
    result = call("run", QUICK, "--dry-run", "--set", "data=synthetic_lab", "--set", "validation.holdout=0.1")
    assert result.code == 2
    assert "no faces to train on (it has test 567)" in result.err
    assert len(result.err.splitlines()) == 1
