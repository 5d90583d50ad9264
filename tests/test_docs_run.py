"""The documented commands are run, where a minute on drawn faces is enough; of the others it is said why not.

They run one after another in one folder, where a small set is prepared and a run called `demo` has been searched and
retrained, as they would in a reader's terminal.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from facex_tune import cli, study
from facex_tune.data import faces
from facex_tune.runs.events import StageFinished, StageStarted
from facex_tune.runs.store import Run
from tests.evaluation.conftest import SAID, _one_thread, log_models, log_search, write_data
from tests.test_docs import ROOT, commands

__all__ = ["_one_thread"]

# What a reader puts in these places.
MEANT = {
    "RUN1 RUN2": "demo other",
    "A B": "demo other",
    "STUDY": "my_study.yaml",
    "RUN": "demo",
    "MODEL": "demo",
    "IMAGE...": "face.png",
    "SET...": "synthetic",
    "NAME": "demo",
    "DIR": "faces",
}
NOT_RUN = {
    r"run (?!.*--dry-run)|search |bench |factors ": "trains, or measures trainings: minutes; tests/pipeline do it",
    r"submit|status|logs|stop|pull|.*--address": "needs a cluster or a service; tests/service and tests/e2e do it",
    r"show demo --storage results": "of a run that was pulled from a cluster",
    r"serve": "serves until it is ended; tests/service do it",
    r".*--follow": "watches until the run ends; tests/display do it",
    r".*s3://": "needs an object store; tests/runs do it",
    r"--(install|show)-completion": "writes into the reader's shell; tests/cli tries what it writes",
    r"data get|data prepare (fer2013|ckplus|ferplus|rafdb|moods|NAME)": "needs a data set that may not be passed on",
    r"data prepare table SOURCE": "needs a table that a reader has; tests/data do it",
    r"mirror demo --(mlflow|wandb)": "needs an extra; tests/mirrors do it",
    r".*--find-faces": "needs an extra; tests/inference do it",
    r"simulate .*(--seeds|--workers|--curves)|simulate my_study|simulate STUDY": "simulates for minutes",
    r"delete (SET|RUN)|data prepare folder DIR|data show SET": "run below, with its own words",
    r"evaluate RUN --protocol folder.mine": "run below, with its own words",
    r"mirror RUN$": "wants to be told what to write for",
    r"init( mine.yaml)?$": "asks in a terminal; run below, with what it asks for",
    r"resume RUN --set": "goes on with a search: minutes; the pipeline's tests do it",
    r"retrain RUN": "starts Ray, though nothing is left to do; tests/pipeline do it",
    r"retrain NAME|resume first|show first|delete night|report night|.*--parts": "of a run or parts that a reader has",
}
WORDS = [
    "data prepare folder faces --as mine",
    "evaluate demo --protocol folder.mine",
    "data show synthetic",
    "init other.yaml --for synthetic --machine cpu --time 10m",
    "report demo --without-faces",
    "delete other --yes",
    "delete mine --yes",
]


def lines() -> list[str]:
    """Of the documentation, those that are run as they stand, what deletes last."""
    found = [line.removeprefix("facex-tune ") for line in commands()]
    return [line for line in found if not any(re.match(pattern, line) for pattern in NOT_RUN)]


def meant(line: str) -> list[str]:
    for place, word in MEANT.items():
        line = re.sub(rf"(?<![\w.]){re.escape(place)}(?![\w.])", word, line)
    return shlex.split(line)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder."""
    place = tmp_path_factory.mktemp("reader")
    write_data(place / "data")
    said = {**SAID, "retrain": {"top": 1, "seeds": 1, "epochs": 3}, "evaluate": {"protocols": ["synthetic.private"]}}
    (place / "my_study.yaml").write_text(yaml.safe_dump({**said, "name": "my_study"}))
    shutil.copytree(ROOT / "search_spaces", place / "search_spaces")
    manifests = {name: faces.read_manifest(place / "data", name) for name in ("synthetic", "synthetic_lab")}
    for name in ("demo", "other"):
        run = Run.create(place / "runs", name, study.parse(said), data=manifests, environment={"packages": {}})
        with run.log() as log:
            log_search(run, log)
            log.append(StageStarted("retrain"))
            log_models(run, log, 1)
            log.append(StageFinished("retrain"))
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for emotion in ("angry", "happy"):
            for number in range(3):
                path = place / "my_faces" / split / emotion / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (48, 48), np.uint8)).save(path)
    shutil.copytree(place / "my_faces", place / "faces")
    shutil.copy(place / "faces" / "test" / "happy" / "0.png", place / "face.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name in ("FACEX_DATA", "FACEX_STORAGE", "PWD"):
            patch.delenv(name, raising=False)
        yield place


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("line", [*lines(), *WORDS])
def test_a_documented_command_runs(line: str) -> None:
    code: Any = 0
    try:
        cli.main(meant(line))
    except SystemExit as ended:
        code = ended.code or 0
    # `doctor` says 1 where something of the machine is amiss, which is no fault of the page
    assert code == 0 or (line, code) == ("doctor", 1)


def test_most_commands_are_run_and_each_other_has_its_reason() -> None:
    documented = [line.removeprefix("facex-tune ") for line in commands()]
    reasons = {line: [why for pattern, why in NOT_RUN.items() if re.match(pattern, line)] for line in documented}
    assert all(reasons[line] for line in documented if line not in lines())
    assert len(lines()) >= 20
    unused = [pattern for pattern in NOT_RUN if not any(re.match(pattern, line) for line in documented)]
    assert unused == []
