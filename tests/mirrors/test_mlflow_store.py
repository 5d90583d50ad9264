"""The run as an MLflow experiment: read back with MLflow's own client, without any connection."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from facex_tune.errors import InputError
from facex_tune.mirrors.mirror import Targets, mirror
from facex_tune.runs.events import ModelFinished
from facex_tune.runs.store import Run
from tests.mirrors.conftest import SearchMaker, score
from tests.records import record

try:
    import mlflow
except ImportError:
    mlflow = None
pytestmark = [pytest.mark.filterwarnings(f"ignore::{each}Warning") for each in ("Deprecation", "Future")]  # its own
needs_mlflow = pytest.mark.skipif(mlflow is None, reason="MLflow is not installed (the extra mlflow)")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever connects fails, and the environment asks for a server."""

    def refuse(self: socket.socket, address: Any) -> NoReturn:
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    yield
    assert mlflow is None or os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def client(path: Path) -> Any:
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}")


def runs(path: Path) -> dict[str, Any]:
    """MLflow's runs by name, none of which is there twice."""
    found = client(path).search_runs([client(path).get_experiment_by_name("demo").experiment_id])
    assert len({each.info.run_name for each in found}) == len(found)
    return {each.info.run_name: each for each in found}


def history(path: Path, run: Any, metric: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in client(path).get_metric_history(run.info.run_id, metric)]


def add_model(run: Run) -> None:
    folder = run.final_folder(0, 1)
    folder.mkdir(parents=True)
    (folder / "history.csv").write_text("epoch,macro_f1,recall.happy\n1,0.5,\n2,0.625,0.25\n")
    with run.log() as log:
        log.append(ModelFinished(candidate=0, seed=1, metrics={"macro_f1": 0.625}))


@needs_mlflow
def test_mlflow_s_client_reads_trials_models_and_scores_and_a_second_mirror_updates_them(
    make_search: SearchMaker, tmp_path: Path
) -> None:
    run, path = make_search(), tmp_path / "mlflow.db"
    mirror(run, Targets(mlflow=path))
    found = runs(path)
    assert [found[f"t{n:04d}"].info.status for n in range(4)] == ["FINISHED", "KILLED", "FAILED", "RUNNING"]
    assert history(path, found["t0000"], "validation/macro_f1") == [(1, 0.2), (2, 0.4), (3, 0.6)]
    assert found["t0000"].data.metrics["recall/happy"] == 0.6
    assert found["t0000"].data.params["model"] == "resnet"
    assert found["t0000"].data.params["train.lr"] == "0.05"
    assert found["t0001"].data.tags["reason"] == "rung"
    assert found["t0002"].data.tags["detail"] == "training loss is nan in epoch 1"

    with run.log() as log:
        later = {"macro_f1": 0.75, "log_loss": 1.25}
        log.append(record({"type": "epoch", "trial": 3, "epoch": 2, "metrics": later, "seconds": 1.5}))
        log.append(record({"type": "trial_finished", "trial": 3}))
    add_model(run)
    score(run, "synthetic.private", accuracy=0.25)
    mirror(run, Targets(mlflow=path))
    first = runs(path)
    score(run, "synthetic.private", accuracy=0.5)
    mirror(run, Targets(mlflow=path))
    found = runs(path)
    told = [f"t{n:04d}" for n in range(4)] + ["final-t0000-s1", "evaluation-synthetic.private-t0000"]
    assert sorted(found) == sorted(first) == sorted(told)
    assert found["t0003"].info.status == "FINISHED"
    assert history(path, found["t0003"], "validation/macro_f1") == [(1, 0.5), (2, 0.75)]
    assert history(path, found["t0000"], "validation/macro_f1") == [(1, 0.2), (2, 0.4), (3, 0.6)]
    assert found["final-t0000-s1"].info.run_id == first["final-t0000-s1"].info.run_id
    assert history(path, found["final-t0000-s1"], "validation/macro_f1") == [(1, 0.5), (2, 0.625)]
    scores = found["evaluation-synthetic.private-t0000"]
    values = [scores.data.metrics[f"evaluation/{name}"] for name in ("accuracy", "accuracy.low", "n", "seeds")]
    assert values == [0.5, 0.4, 80, 2], "the newest evaluation alone"
    assert {each.path for each in client(path).list_artifacts(scores.info.run_id)} == {"confusion.png", "scores.md"}
    _another_run_is_refused(make_search, tmp_path, path)


def _another_run_is_refused(make_search: SearchMaker, tmp_path: Path, path: Path) -> None:
    """Here, because a new file costs MLflow seconds."""
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="holds another experiment named demo, which is not this run"):
        mirror(make_search(), Targets(mlflow=path))


@needs_mlflow
@pytest.mark.parametrize("content", ["text", "another program's database"])
def test_a_file_that_is_not_mlflow_s_is_left_alone(make_search: SearchMaker, tmp_path: Path, content: str) -> None:
    path = tmp_path / "file.db"
    if content == "text":
        path.write_text("version: 1\n")
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE trials (number INTEGER)")
        connection.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"/file\.db: is there already and is no file of MLflow's"):
        mirror(make_search(), Targets(mlflow=path))
    assert path.read_bytes() == before


@needs_mlflow
def test_a_path_that_is_no_url_is_told(make_search: SearchMaker, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"MLflow takes a path for a URL; name one without \?"):
        mirror(make_search(), Targets(mlflow=tmp_path / "a?b.db"))


@pytest.mark.skipif(mlflow is not None, reason="MLflow is installed")
def test_without_mlflow_the_extra_is_named(make_search: SearchMaker, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mirror --mlflow needs the extra: pip install 'facex-tune\[mlflow\]'"):
        mirror(make_search(), Targets(mlflow=tmp_path / "mlflow.db"))
    assert not (tmp_path / "mlflow.db").exists()
