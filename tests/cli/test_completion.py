"""What a shell completes, asked as bash, zsh and fish ask it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "import sys; sys.argv[0] = 'facex-tune'; from facex_tune.cli import main; main()"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for path in ("runs/night/run.json", "runs/noon/run.json", "runs/unbegun/x", "data/faces/manifest.json"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("{}")
    for at, name in enumerate(("night", "noon")):
        os.utime(tmp_path / "runs" / name / "run.json", (at, at))
    for path in ("mine.yaml", "studies/first.yaml", "studies/notes.txt", ".hidden/x.yaml", "studies/a/b/c/deep.yaml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    return tmp_path


def completed(place: Path, words: str, **environment: str) -> list[str]:
    """What bash is told for the last of these words."""
    asked = {"_FACEX_TUNE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FACEX_")}
    done = subprocess.run(
        [sys.executable, "-c", MAIN], cwd=place, env=clean | asked | environment, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("facex-tune show n", ["noon", "night"]),  # the newest first
        ("facex-tune show ni", ["night"]),
        ("facex-tune report night no", ["noon"]),
        ("facex-tune show --storage elsewhere n", []),
        ("facex-tune show --storage s3://bucket/runs n", []),
        ("facex-tune data show f", ["faces"]),
        ("facex-tune delete ", ["noon", "night", "faces"]),
        ("facex-tune init --for f", ["faces"]),
        ("facex-tune run m", ["mine.yaml"]),
        ("facex-tune run studies/", ["studies/first.yaml"]),
        ("facex-tune run ", ["mine.yaml", "studies/first.yaml"]),
        ("facex-tune show night --state st", ["stopped"]),
        ("facex-tune retr", ["retrain"]),
    ],
)
def test_names_are_completed(place: Path, words: str, found: list[str]) -> None:
    assert completed(place, words) == found


def test_runs_and_sets_of_other_folders_are_completed(place: Path) -> None:
    elsewhere = {"FACEX_STORAGE": str(place / "runs"), "FACEX_DATA": str(place / "data")}
    (place / "in").mkdir()
    assert completed(place / "in", "facex-tune show ni", **elsewhere) == ["night"]
    assert completed(place / "in", "facex-tune data audit f", **elsewhere) == ["faces"]


@pytest.mark.parametrize(("shell", "said"), [("bash", "complete -o default"), ("zsh", "#compdef facex-tune")])
def test_the_script_of_a_shell_is_shown(shell: str, said: str) -> None:
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "--show-completion", shell], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout
    assert "_FACEX_TUNE_COMPLETE" in done.stdout


def test_states_that_are_completed_are_those_that_there_are() -> None:
    from facex_tune.cli import completing
    from facex_tune.runs import overview
    from facex_tune.space import FAMILIES

    assert set(completing.TRIAL_STATES) == set(overview.TRIAL_STATES)
    assert completing.RUN_STATES == overview.RUN_STATES
    assert completing.FAMILIES == FAMILIES
