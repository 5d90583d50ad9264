"""The report of real run folders: after the search alone, after every stage, and with hostile words in it."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import sys
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
import numpy as np
import plotly.graph_objects
import pytest
from PIL import Image

from facex_tune import metrics, study
from facex_tune.errors import InputError
from facex_tune.evaluation import intervals, plots
from facex_tune.evaluation.evaluate import evaluate
from facex_tune.report import (
    compiled,
    figure_choice,
    figures,
    findings,
    galleries,
    model_cards,
    page,
    painting,
    rendering,
    several_runs,
    summary,
    table_files,
    views,
    wording,
)
from facex_tune.report.report import SCHEMA, report
from facex_tune.runs.events import (
    EpochDone,
    FactorFailed,
    FactorFinished,
    FactorsPlanned,
    ModelFailed,
    ModelFinished,
    TrialFailed,
    TrialPaused,
    TrialPromoted,
    TrialStarted,
)
from facex_tune.runs.history import Trial
from facex_tune.runs.store import Run
from facex_tune.search import factor_design
from facex_tune.service import bundle
from facex_tune.service import pull as pulling
from facex_tune.service.pull import FolderSource, pull
from facex_tune.space import Choice, Config, Float, Int
from facex_tune.storage import files
from tests.evaluation.conftest import SAID, RunMaker, new_run, write_data

KEYS = [
    *("version", "run", "study", "environment", "data", "search", "leaderboard", "models", "evaluation", "factors"),
    *("importance", "choices", "insight", "findings"),
]


class _Page(HTMLParser):
    """Every tag with its attributes, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] != "script":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


# Of four protocols: the others score the same faces by votes, or under a mask.
WITH_GALLERY = ["synthetic.private", "synthetic.lab.6"]


def every_face(gallery: galleries.Gallery) -> list[dict[str, Any]]:
    """Those of the galleries, then those that cells of the confusion matrix open."""
    kinds = [face for kind in gallery.kinds.values() for face in kind]
    return kinds + [face for pair in gallery.pairs.values() for face in pair.faces]


def _reported(run: Run, data_dir: Path | None) -> tuple[str, dict[str, Any]]:
    index = report(run, data_dir)
    return index.read_text(encoding="utf-8"), json.loads((index.parent / "report.json").read_bytes())


@dataclass(frozen=True)
class Finished:
    """A run that went through every stage with two seeds, and its report. Read only."""

    run: Run
    data_dir: Path
    text: str
    document: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    data_dir = write_data(folder / "data")
    run = new_run(folder / "runs", data_dir)
    with run.log() as log:
        evaluate(run, log, data_dir, "cpu")
    return Finished(run, data_dir, *_reported(run, data_dir))


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Run:
    """The same run in a folder of its own, to be changed."""
    shutil.copytree(finished.run.folder, tmp_path / "runs" / finished.run.name)
    return Run.open(tmp_path / "runs", finished.run.name)


def test_the_page_asks_the_network_for_nothing(finished: Finished) -> None:
    text, tags = finished.text.replace(views.script(), ""), _Page(finished.text).tags
    for _, attributes in tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
    assert not re.search(r"(url\(|@import|https?:)", text)
    assert {tag for tag, _ in tags} & {"iframe", "object", "embed", "base"} == set()
    figures = list((finished.run.report_folder / "figures").glob("*.svg"))
    assert {"search.svg", "learning.svg", "finals.svg", "classes.svg", "cost.svg"} <= {path.name for path in figures}
    faces = [face for gallery in galleries.of_sets(finished.run, WITH_GALLERY).values() for face in every_face(gallery)]
    pictures = sum(1 + ("looked" in face) for face in faces)
    plots = [path for path in figures if not path.stem.startswith("confusion-")]  # which is a table on the page
    assert sum(tag == "img" for tag, _ in tags) == len(plots) + pictures
    assert len(finished.text.encode()) < 10e6


def test_report_json_has_the_keys_of_the_contract(finished: Finished) -> None:
    document = finished.document
    assert list(document) == KEYS
    assert document["version"] == 1
    of_search = {"trials", "seconds", "gpu_hours", "best", "selection_bias", "failed_models", "order", "raised_budgets"}
    of_search |= {"settled"}
    assert set(document["search"]) == of_search
    assert document["search"]["order"]["taken_in"] == "arrival"
    assert document["search"]["trials"] == {"finished": 2, "stopped": 1, "failed": 1}
    assert {tuple(row) for row in document["leaderboard"]} == {
        ("rank", "trial", "repeats", "n", "mean", "config", "state", "epochs", "value", "metrics", "pareto")
    }
    assert [row["trial"] for row in document["leaderboard"]] == [1, 0, 2, 3]
    assert document["models"][0] == {
        "candidate": 1,
        "seed": 0,
        "path": "final/t0001-s0",
        "validation": {"accuracy": 0.4, "macro_f1": 0.35},
    }
    assert list(document["evaluation"]) == list(finished.run.study.evaluate.protocols)
    for scored in document["evaluation"].values():
        assert {"n", "metrics", "per_emotion", "confusion", "clean", "opened"} <= set(scored)
        assert set(scored["metrics"]) == set(metrics.SIX)
        assert all({"mean", "interval", "per_model"} <= set(metric) for metric in scored["metrics"].values())
    assert all(set(finding) == {"text", "figure", "evidence"} for finding in document["findings"])


def test_report_json_keeps_to_its_published_schema(finished: Finished, make_run: RunMaker, data_dir: Path) -> None:
    schema = json.loads((finished.run.report_folder / "report.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(finished.document)
    _, searched = _reported(make_run(retrained=False), data_dir)
    validator.validate(searched)
    broken = json.loads(json.dumps(finished.document))
    broken["evaluation"]["synthetic.private"]["metrics"]["accuracy"]["interval"] = [0.1]
    assert not validator.is_valid(broken)
    assert not validator.is_valid({**finished.document, "surplus": 1})


def test_tables_are_csv_and_markdown_of_the_same(finished: Finished) -> None:
    folder = finished.run.report_folder / "tables"
    names = {path.stem for path in folder.glob("*.csv")}
    assert {"leaderboard", "models", "protocols", "emotions", "variants", "comparisons"} <= names
    with (folder / "protocols.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (own,) = [r for r in rows if (r["protocol"], r["part"], r["metric"]) == ("synthetic.private", "all", "accuracy")]
    accuracy = finished.document["evaluation"]["synthetic.private"]["metrics"]["accuracy"]
    assert (float(own["mean"]), int(own["n"])) == (accuracy["mean"], 42)
    assert [float(own["interval_low"]), float(own["interval_high"])] == accuracy["interval"]
    lines = (folder / "protocols.md").read_text().splitlines()
    assert len(lines) == len(rows) + 2
    assert len({line.count("|") for line in lines}) == 1


def test_markdown_shortens_small_numbers_too() -> None:
    text = table_files.as_markdown([{"a": -4.2965287e-05, "b": 0.0003, "c": 0.12345, "d": 0.0, "e": None, "f": 7178}])
    assert text.splitlines()[-1] == "| -4.3e-05 | 0.0003 | 0.123 | 0.0 |  | 7178 |"


def test_a_search_of_one_trial_has_whole_numbers_on_its_axis() -> None:
    figure = figures.search_progress({0: 0.26}, {0: 0.26}, "accuracy")
    figure.canvas.draw()
    assert [tick for tick in figure.axes[0].get_xticks() if tick != round(tick)] == []


def test_the_best_so_far_is_one_that_finished() -> None:
    states = ["stopped", "finished", "stopped", "finished"]
    trials = [Trial(number, {}, "sampler", state) for number, state in enumerate(states)]
    values = {0: 0.9, 1: 0.4, 2: 0.95, 3: 0.5}
    assert figure_choice.best_so_far(trials, values, True) == {1: 0.4, 3: 0.5}
    assert figure_choice.best_so_far([trials[0], trials[2]], {0: 0.9, 2: 0.95}, True) == {0: 0.9, 2: 0.95}


def test_what_repeats_a_run_repeats_its_report(finished: Finished) -> None:
    assert page.commands(finished.run, finished.document) == ["facex-tune run study.yaml --run small-1-again --seed 0"]


def test_a_folder_of_ones_own_is_prepared_again_as_it_was(tmp_path: Path) -> None:
    """By the source that read it, under its own name; what its manifest does not tell is taken for the name."""
    sets = {"mine": {"source": {"name": "folder"}}, "fer2013": {"source": {"name": "fer2013"}}, "old": {}}
    run = Run.create(tmp_path, "r", study.parse(SAID), data=sets, environment={"packages": {}})
    assert page.commands(run, {"data": sets})[:-1] == [
        "facex-tune data prepare folder SOURCE --as mine",
        "facex-tune data prepare fer2013 SOURCE",
        "facex-tune data prepare old SOURCE",
    ]


def test_final_models_that_were_trained_less_and_a_constant_winner_are_told(finished: Finished) -> None:
    study = finished.document["study"] | {"retrain": {**finished.document["study"]["retrain"], "epochs": 2}}
    told = [each["text"] for each in findings.findings({**finished.document, "study": study})]
    assert any("were trained for 2 epochs, the search's longest trials for 3" in text for text in told)
    assert any(" better than answering" in text and "for every face: " in text for text in told)


def test_a_set_that_falls_short_is_told(finished: Finished) -> None:
    def told(data: dict[str, Any]) -> list[str]:
        texts = [each["text"] for each in findings.findings({**finished.document, "data": data})]
        return [text for text in texts if "incomplete" in text]

    short = "105 of 35,887 published faces, too few of train angry 5 of 3,995"
    proven = {name: manifest | {"incomplete": ""} for name, manifest in finished.document["data"].items()}
    assert told(proven) == []
    for name in ("synthetic", "synthetic_lab"):  # that is trained on, and that is scored alone
        (said,) = told(proven | {name: proven[name] | {"incomplete": short}})
        assert said.startswith(f"Of {name}: incomplete: {short}")


def test_a_model_card_for_each_model(finished: Finished) -> None:
    cards = sorted(path.stem for path in (finished.run.report_folder / "cards").glob("*.md"))
    assert cards == ["t0000-s0", "t0000-s1", "t0001-s0", "t0001-s1"]
    text = (finished.run.report_folder / "cards" / "t0001-s1.md").read_text()
    scored = finished.document["evaluation"]["synthetic.private"]["metrics"]["accuracy"]
    assert f"| accuracy | {wording.number(scored['per_model'][1])} |" in text
    assert "drawn faces" in text


def test_several_runs_beside_each_other(finished: Finished, copied: Run) -> None:
    """A run against its copy under another name: no difference anywhere, and nothing asks the network."""
    twin = copied.folder.rename(copied.folder.with_name("twin"))
    header = json.loads((twin / "run.json").read_bytes())
    header["study"]["retrain"]["epochs"] = 9
    (twin / "run.json").write_text(json.dumps({**header, "run": "twin", "faces": {"train": 70, "validation": 42}}))
    index = several_runs.report([finished.run, Run.open(twin.parent, "twin")], None)
    document = json.loads((index.parent / "report.json").read_bytes())
    assert [row["run"] for row in document["runs"]] == ["small-1", "twin"]
    assert {each["protocol"] for each in document["differences"]} == set(finished.run.study.evaluate.protocols)
    for each in document["differences"]:
        assert (each["metrics"]["accuracy"]["mean"], each["p_value"]) == (0, None)
    text = index.read_text()
    shown = _Page(text).text
    assert "small-1 minus twin on synthetic.private" in shown
    assert re.search(r"epochs of final models\s+3\s+9", shown)
    assert re.search(r"training faces\s+70", shown)
    assert "duplicates" not in shown, "the same in both"
    assert not re.search(r"(url\(|@import|https?:)", text)
    with pytest.raises(InputError, match="named twice"):
        several_runs.report([finished.run, finished.run], None)


def test_the_page_shows_a_factor_study(make_run: RunMaker, data_dir: Path) -> None:
    run = make_run(retrain={"top": 2, "seeds": 2, "epochs": 9})
    design = factor_design.design(run.study, run.history(), run.history().trials[1].config)
    with run.log() as log:
        told = {"reference": 1, "seeds": 2, "epochs": 3, "cells": [cell.to_data() for cell in design]}
        log.append(FactorsPlanned(**told))
        for number, cell in enumerate(design[:-1]):
            for seed in range(2):
                value = 0.5 - 0.2 * (cell.name == "augment=none") + 0.001 * ((7 * number + 3 * seed) % 5)
                found = {"macro_f1": value, "f1.happy": value}
                log.append(FactorFinished(cell=cell.name, seed=seed, metrics=found))
        log.append(FactorFailed(cell=design[-1].name, seed=0, reason="diverged", detail=""))
    text, document = _reported(run, data_dir)
    shown = _Page(text).text
    assert (document["factors"]["cells"], document["factors"]["runs_left"]) == (len(design), 1)
    assert "Final models train for 9 epochs: what pays only later is not seen here." in shown
    assert "failed: diverged" in shown
    figures = run.report_folder / "figures"
    assert (figures / "factors.svg").is_file()
    assert (figures / "factor-emotions.svg").is_file()
    assert document["factors"]["factorial"] is not None
    assert (figures / "factorial.svg").is_file()
    swapped = next(cell.name for cell in design if "augment" in cell.changed)
    assert swapped in shown
    schema = json.loads((run.report_folder / "report.schema.json").read_bytes())
    jsonschema.Draft202012Validator(schema).validate(document)


def test_selection_bias_by_hand(finished: Finished) -> None:
    """Found with .52, retrained .35 and .37: the mean is .36, the bias .16, and two seeds give no interval."""
    bias = finished.document["search"]["selection_bias"]
    assert bias["at_search"] == pytest.approx(0.52)
    assert bias["retrained"]["mean"] == pytest.approx(0.36)
    assert bias["bias"] == pytest.approx(0.16)
    assert bias["retrained_interval"] is None


def test_selection_bias_is_said_with_an_interval_or_not_at_all(finished: Finished) -> None:
    """Three new seeds of .35, .37 and .36: t of two degrees of freedom reaches .0248 to either side of .16."""
    assert not any("Selection bias" in finding["text"] for finding in finished.document["findings"]), "two seeds"
    search = finished.document["search"]
    values = [0.35, 0.37, 0.36]
    three = {**search["selection_bias"], "retrained": {"mean": 0.36, "per_model": values, "seeds": [0, 1, 2]}}
    three |= {"bias": 0.16, "retrained_interval": intervals.over_seeds(values)}
    told = findings.findings({**finished.document, "search": {**search, "selection_bias": three}})
    (said,) = [each["text"] for each in told if each["text"].startswith("Selection bias")]
    assert said.startswith("Selection bias: t0001 had macro-F1 0.520")
    assert said.endswith("(the mean of 3 new seeds): +0.160 [+0.135, +0.185].")


def test_shorter_training_is_called_shorter(finished: Finished) -> None:
    search = finished.document["search"]
    shorter = {**search["selection_bias"], "epochs_retrained": 1, "epochs_at_search": 9}
    told = findings.findings({**finished.document, "search": {**search, "selection_bias": shorter}})
    [said] = [finding["text"] for finding in told if finding["text"].startswith("Selection bias")]
    assert "cannot be told from shorter training" in said
    assert "after one epoch in place of 9" in said


def test_a_first_click_sorts_the_best_first_and_space_does_as_enter_does(finished: Finished) -> None:
    text = (finished.run.report_folder / "index.html").read_text()
    heads = re.findall(r'<th( data-first="descending")?><span role="button" tabindex="0">([^<]+)</span>', text)
    first = {name: bool(mark) for mark, name in heads}
    assert first["macro-F1"]
    assert not first["rank"]
    assert not first["time"]
    assert 'event.key === " "' in text


def test_longer_training_is_not_taken_for_selection_bias(finished: Finished) -> None:
    search = finished.document["search"]
    longer = {**search["selection_bias"], "epochs_retrained": 30, "bias": -0.1}
    told = findings.findings({**finished.document, "search": {**search, "selection_bias": longer}})
    said = next(each["text"] for each in told if each["text"].startswith("Selection bias"))
    assert said.startswith("Selection bias cannot be told from longer training: t0001 had macro-F1 0.520")
    assert said.endswith("but after 30 epochs in place of 3.")
    assert "-0.1" not in said


def test_every_finding_points_at_something(finished: Finished) -> None:
    document = finished.document
    for finding in document["findings"]:
        if finding["figure"]:
            assert (finished.run.report_folder / "figures" / finding["figure"]).is_file()
        assert _at(document, finding["evidence"]) is not None
    said = " ".join(finding["text"] for finding in document["findings"])
    assert "Training holds an exact, mirrored or near copy of 2 of the 42 faces of synthetic.private" in said
    assert "With 2 seeds there is no interval over seeds" in said
    assert "1 of 4 trials failed" in said
    assert "The faces are synthetic" in said
    assert "Generalization gap on synthetic.private" in said
    assert "gap on synthetic.lab" not in said


def _at(document: Any, path: str) -> Any:
    """Follows a path whose steps may contain dots (a protocol's name does)."""
    if not path:
        return document
    steps = path.split(".")
    for length in range(1, len(steps) + 1):
        step, rest = ".".join(steps[:length]), ".".join(steps[length:])
        if isinstance(document, list) and step.isdigit():
            return _at(document[int(step)], rest)
        if isinstance(document, dict) and step in document and (found := _at(document[step], rest)) is not None:
            return found
    return None


def test_the_page_shows_what_was_measured(finished: Finished) -> None:
    document, shown = finished.document, _Page(finished.text)
    accuracy = document["evaluation"]["synthetic.private"]["metrics"]["accuracy"]
    assert wording.number(accuracy["mean"]) in shown.text
    assert wording.interval(accuracy["interval"]) in shown.text
    rows = [re.sub(r"<[^>]+>", " ", row) for row in finished.text.split("<tr>")]
    (summary_row,) = [row for row in rows if re.match(r"\s*synthetic\.private .*×", row)]
    of_faces = wording.share(accuracy["mean"], 42)
    assert re.match(rf"\s*synthetic\.private\s+{of_faces}\s+{wording.between(accuracy['interval'])}", summary_row)
    (by_emotion, *_) = [row for row in rows if re.match(r"\s*happy\s", row)]
    recall = document["evaluation"]["synthetic.private"]["per_emotion"]["happy"]
    assert re.match(rf"\s*happy\s+{wording.share(recall['recall'], recall['support'])}", by_emotion)
    detailed = [row for row in rows if re.match(rf"\s*accuracy\s+{of_faces}\s+{accuracy['mean']:.3f}\s", row)]
    assert detailed, "a share first, its decimals below"
    assert "opened once in this run" in shown.text
    assert "duplicate groups" in shown.text
    faces = [attributes for tag, attributes in shown.tags if tag == "li" and attributes.get("class") == "right"]
    kept = galleries.of_sets(finished.run, WITH_GALLERY).values()
    assert len(faces) == sum(face["right"] for gallery in kept for face in every_face(gallery))


def test_adjusted_scores_stand_beside_the_plain_ones(make_run: RunMaker, data_dir: Path) -> None:
    run = make_run()
    for seed, tau in ((0, 0.5), (1, 1.25)):
        path = run.final_folder(1, seed) / "config.json"
        info = json.loads(path.read_bytes())
        info["metrics"]["adjust_tau"], info["class_counts"] = tau, [40, 1, 10, 5, 5, 4, 5]
        path.write_text(json.dumps(info))
    with run.log() as log:
        evaluate(run, log, data_dir, "cpu")
        found = {"accuracy": 0.6, "macro_f1": 0.5, "macro_f1_adjusted": 0.5432, "adjust_tau": 0.5, "train_loss": 1.0}
        log.append(EpochDone(trial=1, epoch=4, metrics=found, seconds=1.0))
        log.append(ModelFinished(candidate=1, seed=0, metrics=found))
    text, document = _reported(run, data_dir)
    shown = _Page(text).text
    after = document["evaluation"]["synthetic.private"]["adjusted"]["metrics"]["macro_f1"]
    assert "adjusted post hoc, tau 0.5, 1.25" in shown
    assert f"{wording.number(after['mean'])} {wording.interval(after['interval'])}" in shown
    assert "answers adjusted post hoc (tau 0.5, 1.25, chosen on validation)" in shown
    assert "adjusted macro-F1" in shown
    assert "0.543" in shown
    assert document["models"][0]["validation"] == {name: value for name, value in found.items() if name != "train_loss"}


def emotion(recall: float, half: float | None, support: int = 100) -> dict[str, Any]:
    ends = None if half is None else (recall - half, recall + half)
    return {"recall": recall, "recall_interval": ends, "support": support}


def test_all_that_may_beleast_recognised_are_named() -> None:
    """Two others: reach 1.96 of the differences' standard errors, .05 / 1.96 · 2 ** .5 = .036: up to .57 of .50."""
    rows = {"fear": emotion(0.50, 0.05), "disgust": emotion(0.56, 0.05), "happy": emotion(0.59, 0.05)}
    texts = [each["text"] for each in findings._weakest({"evaluation": {"x": {"per_emotion": rows}}})]
    assert texts == [
        "Least recognised on x: fear (50 % of 100 faces) and disgust (56 % of 100 faces); "
        "these cannot be told apart."
    ]
    alone = {"fear": emotion(0.40, 0.05), "happy": emotion(0.59, 0.05)}
    texts = [each["text"] for each in findings._weakest({"evaluation": {"x": {"per_emotion": alone}}})]
    assert texts == ["Least recognised on x: fear (40 % of 100 faces, 95 % interval 35 to 45 %)."]
    few = {"disgust": emotion(0.0, None, 3), "fear": emotion(0.25, 0.05)}
    assert findings.least_recognised(few) == ["disgust", "fear"], "none of three says little"


def test_theleast_recognised_is_among_those_named() -> None:
    """In 95 % of simulated test sets, also where four emotions are nearly alike."""
    rng, named, sizes = np.random.default_rng(0), 0, []
    truth, support = [0.55, 0.5, 0.5, 0.88, 0.52, 0.8, 0.49], [491, 55, 528, 879, 594, 416, 626]
    for _ in range(400):
        found = [(float(rng.binomial(n, p)) / n, n) for p, n in zip(truth, support, strict=True)]
        rows = {str(k): emotion(r, 1.96 * (r * (1 - r) / n) ** 0.5, n) for k, (r, n) in enumerate(found)}
        least = findings.least_recognised(rows)
        named, sizes = named + ("6" in least), [*sizes, len(least)]
    assert named / 400 >= 0.95
    assert np.mean(sizes) < 6


@pytest.mark.parametrize(
    ("keeps", "said"),
    [
        ([True, True, False], "2 of 3 trials keep every constraint of the study; the best is one of them."),
        ([False] * 3, "No trial keeps every constraint of the study; the best breaks them too."),
    ],
)
def test_the_finding_on_constraints_counts_every_trial(keeps: list[bool], said: str) -> None:
    """Stopped ones too, where they are compared."""
    best = {"trial": 1, "state": "stopped", "epochs": 3, "objective": "accuracy", "value": 0.5}
    best |= {"n": 1, "mean": 0.5}
    document = {
        "search": {"trials": {"stopped": 2, "finished": 1}, "best": best},
        "study": {"objective": ["accuracy"], "constraints": {"worst_class_recall": {"min": 0.2, "max": None}}},
        "leaderboard": [{"keeps": each, "pareto": False, "metrics": {}} for each in keeps],
    }
    texts = [finding["text"] for finding in findings._search(document)]
    assert said in texts
    assert "The best, t0001, was stopped early; 1 trial that finished broke a constraint." in texts


def test_of_several_objectives_it_is_said_that_trials_were_cut_short_where_any_were() -> None:
    """With `max_epochs: 1` there are no rungs."""
    best = {"trial": 1, "state": "finished", "epochs": 1, "objective": "accuracy", "value": 0.5, "n": 1, "mean": 0.5}
    document = {
        "search": {"trials": {"finished": 3}, "best": best},
        "study": {"objective": ["accuracy", "log_loss"], "constraints": {}, "search": {"scheduler": "asha"}},
        "leaderboard": [{"pareto": True, "metrics": {}}],
    }
    (front,) = [each["text"] for each in findings._search(document) if "Pareto" in each["text"]]
    assert front.endswith("1 trial, listed first; no trial was cut short.")
    document["search"]["trials"]["stopped"] = 2  # type: ignore[index]
    (front,) = [each["text"] for each in findings._search(document) if "Pareto" in each["text"]]
    assert front.endswith("trials were cut short at rungs by how many others dominate them.")


def test_a_run_that_was_only_searched_says_what_is_missing(make_run: RunMaker, data_dir: Path) -> None:
    run = make_run(retrained=False)
    text, document = _reported(run, data_dir)
    assert list(document) == KEYS
    assert (document["models"], document["evaluation"], document["search"]["selection_bias"]) == ([], {}, None)
    assert "No model was retrained yet" in _Page(text).text
    assert "facex-tune retrain small-1" in _Page(text).text
    assert document["search"]["best"]["trial"] == 1


def test_final_models_that_could_not_be_trained_are_told(finished: Finished, copied: Run) -> None:
    assert "could not be trained" not in finished.text
    with copied.log() as log:
        log.append(ModelFailed(candidate=0, seed=2, reason="diverged", detail="training loss is nan in epoch 1"))
    text, document = _reported(copied, finished.data_dir)
    assert document["search"]["failed_models"] == [{"candidate": 0, "seed": 2, "reason": "diverged"}]
    assert "Not among the final models, as they could not be trained: t0000 seed 2 (diverged)." in _Page(text).text


def test_a_run_without_a_trial_has_a_report(make_run: RunMaker, data_dir: Path, tmp_path: Path) -> None:
    searched = make_run(retrained=False)
    run = Run.create(tmp_path / "runs", "empty", searched.study, data={}, environment={})
    text, document = _reported(run, None)
    assert "No trial has been started yet" in _Page(text).text
    assert document["search"]["best"] is None
    words = f"empty --storage {tmp_path / 'runs'}"
    assert f"run facex-tune resume {words}" in _Page(text).text
    said = "No model was retrained yet, so nothing here is a test result: run "
    assert f"{said}<code>facex-tune retrain {words}</code>." in text
    assert f"Next: <code>facex-tune resume {words}</code>." in text
    assert not re.search(r"<code>facex-tune [a-z]+ empty</code>", text), "where no such run is"


def test_words_of_a_run_are_not_markup(make_run: RunMaker, data_dir: Path) -> None:
    hostile = "<script>alert(1)</script>"
    run = make_run("r&b <b>", retrained=False)
    with run.log() as log:
        config = {**run.study.space.defaults(), "model": hostile, f"model.{hostile}.x": '"><img src=x>'}
        log.append(TrialStarted(trial=4, config=config, source="sampler"))
        log.append(EpochDone(trial=4, epoch=1, metrics={"macro_f1": 0.9}, seconds=1.0))
        log.append(TrialFailed(trial=4, reason="error", detail=f'" onmouseover="x {hostile}'))
    text, _ = _reported(run, data_dir)
    shown = _Page(text)
    assert sum(tag == "script" for tag, _ in shown.tags) == 4, "the page's own"
    assert not any(name.startswith("on") for _, attributes in shown.tags for name in attributes)
    assert "r&b <b>" in shown.text
    assert hostile in shown.text
    assert not any(attributes.get("src") == "x" for _, attributes in shown.tags)


def test_trials_csv_has_every_knob(finished: Finished) -> None:
    with (finished.run.report_folder / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    history = finished.run.history()
    assert [int(row["number"]) for row in rows] == [0, 1, 2, 3]
    for row in rows:
        trial = history.trials[int(row["number"])]
        assert (row["state"], row["reason"], int(row["epochs"])) == (trial.state, trial.reason, trial.last_epoch)
        assert float(row["value"]) == trial.metrics["macro_f1"]
        assert float(row["train.lr"]) == trial.config["train.lr"]
        for knob, value in trial.config.items():
            assert row[knob] == str(value)


def test_the_study_in_the_report_is_the_study(finished: Finished, tmp_path: Path) -> None:
    """Saved and read again it is the same, so that the report's commands repeat the run."""
    path = tmp_path / "study.yaml"
    path.write_text(page.study_yaml(finished.run), encoding="utf-8")
    assert study.load(path).to_data() == finished.run.study.to_data()


def test_the_same_run_gives_the_same_report_without_its_data(finished: Finished, copied: Run) -> None:
    """Byte for byte, figures and galleries included: a second report differs only where the run does."""
    report(copied, None)
    first, second = (
        {
            # commands on the page name the folder that the run lies in
            path.relative_to(run.report_folder): path.read_bytes().replace(str(run.storage).encode(), b"STORAGE")
            for path in run.report_folder.rglob("*.*")
        }
        for run in (finished.run, copied)
    )
    names = {path.as_posix() for path in first}
    assert {"figures/search.svg", "figures/learning.png", "figures/confusion-synthetic.private.svg"} <= names
    assert first == second


def test_a_run_may_be_passed_on_without_faces(finished: Finished, copied: Run, tmp_path: Path) -> None:
    kept = {f"evaluation/{name}.faces.npz" for name in finished.document["evaluation"]}
    assert {item.path for item in bundle.items(copied.folder) if item.faces} == {"report/index.html", *kept}
    pull(FolderSource(copied.folder), tmp_path / "first", faces=False)
    assert not (tmp_path / "first" / "report" / "index.html").exists()
    faceless = page.html(copied, finished.document, defaultdict(str), faces=False)
    (copied.report_folder / "index.html").write_text(faceless, encoding="utf-8")
    told = pulling.summary(pull(FolderSource(copied.folder), tmp_path / "second", faces=False), tmp_path / "second")
    assert (told["faces"], list((tmp_path / "second").rglob("*.faces.npz"))) == ([], [])
    page_text = (tmp_path / "second" / "report" / "index.html").read_text(encoding="utf-8")
    assert "data:image/png" not in page_text
    assert "This page was written without faces" in page_text
    assert "This page shows faces" not in page_text
    assert str(copied.storage) not in page_text, "where it lies is nobody else's business"
    said = "This page shows faces of synthetic and synthetic_lab; facex-tune report RUN --without-faces writes one"
    assert said in _Page(finished.text).text
    with tarfile.open(fileobj=io.BytesIO(b"".join(bundle.tar("r", copied.folder, faces=False)))) as archive:
        assert {name for name in archive.getnames() if "faces" in name} == set()
    taken = {path.relative_to(tmp_path / "second").as_posix() for path in (tmp_path / "second").rglob("*.*")}
    assert taken == set(bundle.paths(copied.folder)) - kept


def test_models_that_were_not_evaluated_are_told(finished: Finished, copied: Run) -> None:
    with copied.log() as log:
        log.append(ModelFinished(candidate=1, seed=2, metrics={"macro_f1": 0.4}))
    document = summary.document(copied, finished.document["data"])
    told = [finding["text"] for finding in document["findings"]]
    assert any(text.startswith("synthetic.private covers 4 of 5 models") for text in told)


def test_a_model_that_saw_validation_faces_is_told_without_a_score(finished: Finished, copied: Run) -> None:
    with copied.log() as log:
        log.append(ModelFinished(candidate=1, seed=9, metrics={"train_loss": 0.4}, on="all"))
    document = json.loads(json.dumps(summary.document(copied, finished.document["data"])))
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_bytes())).validate(document)
    (on_all,) = document["models_on_all"]
    assert (on_all["name"], on_all["path"]) == ("t0001-all", "final/t0001-all")
    assert on_all["chosen_by"][0] == "t0001-s0"
    assert document["models"] == finished.document["models"], "no figure is of it"
    assert document["evaluation"] == finished.document["evaluation"]
    shown = _Page(page.html(copied, document | {"evaluation": {}}, {})).text
    assert "t0001-all was trained on training and validation faces together" in shown
    card = model_cards.card(document, on_all, files.read_json(copied.final_folder(1, 0) / "config.json"))
    assert card.startswith(f"# {copied.name}/t0001-all")
    assert "None of its own" in card.split("## Scores")[1]


def test_a_broken_constraint_is_told(make_run: RunMaker) -> None:
    run = make_run(retrained=False, constraints={"accuracy": {"min": 0.99}})
    document = summary.document(run, {})
    assert any("No trial keeps every constraint" in finding["text"] for finding in document["findings"])


def _views(text: str) -> dict[str, Any]:
    found = re.search(r'<script id="views-data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    views: dict[str, Any] = json.loads(found.group(1))
    return views


def test_the_page_has_five_views_and_one_plotly(finished: Finished) -> None:
    tags = _Page(finished.text).tags
    assert finished.text.count(views.script()) == 1
    assert [attributes.get("id") for tag, attributes in tags if tag == "script"] == [None, "views-data", "plotly", None]
    charts = {str(attributes["data-view"]) for _, attributes in tags if "data-view" in attributes}
    slices = {f"slice-{number}" for number in range(len(_views(finished.text)["figures"]["slices"]))}
    assert len(slices) > 1
    assert charts == {"history", "learning", "parallel", "timeline", "contours"} | slices
    policy = next(attributes["content"] for tag, attributes in tags if attributes.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "showSendToCloud: false" in finished.text
    still = [attributes for tag, attributes in tags if tag == "img" and attributes.get("class") == "plot still"]
    assert len(still) == 2, "history and learning curves, where scripts are off and on paper"


def test_plotly_accepts_every_view(finished: Finished) -> None:
    """A colour of the page's own is looked up before plotly.js sees it."""
    found = _views(re.sub(r'"--\w+"', '"#123456"', finished.text))["figures"]
    for figure in [*found.pop("slices"), *found.pop("contours"), *found.values()]:
        plotly.graph_objects.Figure(**figure)


def test_a_cell_of_a_confusion_matrix_opens_its_faces(finished: Finished) -> None:
    """Each link leads to a place on the page, without a script too; numbers are those of report.json."""
    tags = _Page(finished.text).tags
    links = [str(attributes["href"])[1:] for tag, attributes in tags if tag == "a" and "title" in attributes]
    sections = {str(attributes.get("id")) for tag, attributes in tags if tag == "section"}
    assert set(links) == {place for place in sections if place.startswith("synthetic-")}
    gallery = galleries.of_sets(finished.run, WITH_GALLERY)["synthetic.private"]
    scored = finished.document["evaluation"]["synthetic.private"]
    table = galleries.matrix(scored, gallery)
    counts = [[cell["count"] for cell in row["cells"]] for row in table["rows"]]
    assert np.array(counts).sum() == np.array(scored["confusion"]["counts"]).sum()
    assert [sum(cell["share"] for cell in row["cells"]) for row in table["rows"]] == pytest.approx([1] * len(counts))
    assert sum(pair.n or 0 for pair in gallery.pairs.values()) == scored["n"], "of the first model's answers"
    for (true, answered), pair in gallery.pairs.items():
        assert {(face["true"], face["predicted"]) for face in pair.faces} == {(true, answered)}


def test_faces_of_pairs_are_bounded_and_a_run_of_before_has_those_of_its_galleries() -> None:
    n = 900
    labels_N = np.arange(n) % 7
    kept = {
        "images_NHW": np.zeros((n, 4, 4), np.uint8),
        "labels_N": labels_N,
        "probabilities_NC": np.eye(7, dtype=np.float32)[(labels_N + (np.arange(n) < 70)) % 7],
        "rows_N": np.arange(n) // 2,
        "kind_N": np.full(n, "random"),
    }
    pairs = galleries.of_arrays(kept, most=3).pairs
    assert len(pairs) == 14
    assert {len(pair.faces) for pair in pairs.values()} == {3}
    assert {pair.n for pair in pairs.values()} == {None}, "nobody has counted them"
    assert sum(pair.on_paper for pair in pairs.values()) == galleries.PAIRS_ON_PAPER
    assert galleries.of_arrays({}).pairs == {}


def test_where_the_model_looked_stands_beside_its_most_confident_errors(finished: Finished) -> None:
    gallery = galleries.of_sets(finished.run, ["synthetic.private"])["synthetic.private"]
    looked = [face for face in gallery.kinds["confident"] if "looked" in face]
    assert looked
    assert all(face["lowest"] < face["plain"] for face in looked)
    assert not any("looked" in face for face in gallery.kinds["random"])
    assert "occlusion sensitivity" in _Page(finished.text).text


def test_contours_are_means_of_what_is_near() -> None:
    places = np.linspace(0, 1, 11)
    x_T, y_T = np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0])
    rows = views.smoothed(x_T, y_T, np.array([0.2, 0.4, 0.9]), places)
    assert (rows[0][0], rows[-1][-1]) == (pytest.approx(0.3), pytest.approx(0.9))
    assert rows[5][5] is None, "no trial is near"
    assert rows[0][-1] is None, "the first index goes upwards"


def test_contours_and_importances_are_drawn_where_there_are_trials_enough() -> None:
    rng = np.random.default_rng(0)
    configs: list[Config] = [{"lr": float(rng.random()), "width": int(rng.integers(1, 9))} for _ in range(20)]
    trials = [Trial(n, config, "", "finished") for n, config in enumerate(configs)]
    axes = [views.axis("lr", Float(0, 1, 0.1), trials), views.axis("width", Int(1, 8, 2), trials)]
    values = {trial.number: float(trial.config["lr"] or 0) for trial in trials}
    (pair,), (figure,) = views._contours(axes, trials, values)
    assert pair == {"across": "lr", "up": "width", "n": 20, "figure": 0, "said": "20 finished trials have both knobs."}
    surface, points = figure["data"]
    assert points["customdata"] == list(range(20))
    steps = np.array([[np.nan if z is None else z for z in row] for row in surface["z"]])
    means = [float(np.nanmean(column)) for column in steps.T if np.isfinite(column).any()]
    assert means == sorted(means), "the value is the learning rate's"
    (pair,), figures = views._contours(axes, trials[:9], values)
    assert (pair["figure"], figures) == (None, [])
    assert pair["said"] == "9 finished trials have both knobs; contours need 10."
    bars = views._importance({"lr": 0.9, "width": 0.1})["data"][0]
    assert (bars["y"], bars["x"]) == (["width", "lr"], [0.1, 0.9]), "the most important at the top"


def test_contours_are_of_the_trials_that_have_both_knobs() -> None:
    """A knob of one part alone, and one that is the same wherever another is."""
    configs: list[Config] = [
        {"lr": n / 30, "width": n % 7 + 1} | ({"depth": n % 3, "drop": 0.5} if n % 2 else {}) for n in range(30)
    ]
    trials = [Trial(n, config, "", "finished") for n, config in enumerate(configs)]
    knobs = {"lr": Float(0, 1, 0.1), "width": Int(1, 8, 2), "depth": Int(0, 4, 1), "drop": Float(0, 1, 0.1)}
    axes = [views.axis(name, knob, trials) for name, knob in knobs.items()]
    pairs, figures = views._contours(axes, trials, {trial.number: 0.5 for trial in trials})
    of = {(pair["across"], pair["up"]): pair for pair in pairs}
    assert len(of) == 6, "every pair"
    assert (of["lr", "width"]["n"], of["lr", "depth"]["n"]) == (30, 15)
    assert figures[of["lr", "depth"]["figure"]]["data"][1]["customdata"] == list(range(1, 30, 2))
    assert of["lr", "drop"]["figure"] is None
    few = [pair for pair in pairs if pair["figure"] is None]
    assert views._choice({}, [*few, of["lr", "depth"]])["first"] == ["lr", "depth"], "one that is drawn"
    assert of["lr", "drop"]["said"] == "drop is the same in all 15 finished trials that have both knobs."


def test_objectives_are_drawn_against_each_other() -> None:
    """Of two: what no trial beats in both is joined by the edge of what they beat. Of three: every two, not joined."""
    found = {0: (0.5, 100.0), 1: (0.6, 300.0), 2: (0.4, 200.0), 3: (0.7, 400.0), 4: (0.9, 50.0)}
    trials = [
        Trial(n, {"lr": 0.1}, "", "stopped" if n == 4 else "finished", epochs={1: {"macro_f1": f1, "macs": macs}})
        for n, (f1, macs) in found.items()
    ]
    (pair,), (figure,) = views._fronts(trials, ["macro_f1", "macs"], [3, 0, 1], "t0003")
    assert (pair["n"], pair["said"]) == (5, "3 trials of 5 are on the front.")
    by_name = {trace["name"]: trace for trace in figure["data"]}
    assert by_name["front"]["x"] == [0.5, 0.6, 0.7], "from left to right"
    assert by_name["front"]["line"]["shape"] == "vh", "more is better across"
    assert (by_name["finished"]["customdata"], by_name["stopped"]["customdata"]) == ([2], [4])
    assert by_name["winner"]["customdata"] == [3]
    assert figure["layout"]["yaxis"]["title"]["text"] == "multiply-accumulates (less is better)"
    for trial in trials:
        trial.epochs[1]["accuracy"] = 0.5
    pairs, figures = views._fronts(trials, ["macro_f1", "macs", "accuracy"], [0], "")
    assert [(each["across"], each["up"]) for each in pairs] == [
        ("macro_f1", "macs"),
        ("macro_f1", "accuracy"),
        ("macs", "accuracy"),
    ]
    assert all("front" not in {trace["name"] for trace in each["data"]} for each in figures)


def test_the_page_of_several_objectives_shows_their_front(make_run: RunMaker) -> None:
    run = make_run(retrained=False, objective=["macro_f1", "accuracy"])
    document = summary.document(run, {})
    found = views.of_run(run, document)
    assert found is not None
    assert found["fronts"]["names"] == {"macro_f1": "macro-F1", "accuracy": "accuracy"}
    (figure,) = found["figures"]["fronts"]
    plotly.graph_objects.Figure(**json.loads(re.sub(r'"--\w+"', '"#123456"', json.dumps(figure))))
    front = {row["trial"] for row in document["leaderboard"] if row["pareto"]}
    marked = next(trace for trace in figure["data"] if trace["name"] == "none is better in all")
    assert set(marked["customdata"]) == front
    assert 'data-view="fronts"' in page.html(run, document, {})


def test_both_forms_of_a_figure_come_from_one_walk() -> None:
    """What the PNG shows lies where the SVG has it: a red square of the axes, at the share of the width that it has."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    with plots.style():
        figure = Figure(figsize=(4, 2), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(np.array([[0.0, 1.0]]), cmap="Blues", aspect="auto", extent=(0, 10, 0, 10))
        axes.add_patch(Rectangle((4, 4), 2, 2, color="#ff0000"))
        axes.plot([1, 1], [1, 9], color="#00ff00")
        axes.set_ylabel("a label")
        svg, png = rendering.both(figure)
        box = axes.get_position()
    pixels_HWC = np.asarray(Image.open(io.BytesIO(png)))
    assert pixels_HWC.shape == (400, 800, 3)
    rows, columns = np.nonzero((pixels_HWC == [255, 0, 0]).all(axis=2))
    ends = (columns.min() / 800, columns.max() / 800, 1 - rows.max() / 400, 1 - rows.min() / 400)
    near, far = (np.array([box.x0, box.y0]) + share * np.array([box.width, box.height]) for share in (0.4, 0.6))
    expected = (near[0], far[0], near[1], far[1])
    assert ends == pytest.approx(expected, abs=0.006)
    assert b"#ff0000" in svg
    assert b"<image" in svg
    marked = np.nonzero((pixels_HWC == [0, 255, 0]).all(axis=2))[1]
    assert marked.mean() / 800 == pytest.approx(box.x0 + 0.1 * box.width, abs=0.006)
    ink_HW = (pixels_HWC < 128).all(axis=2)
    assert ink_HW.any(axis=0).argmax() in range(5, 20), "the label is inside, at the margin"


def test_a_face_is_packed_as_it_is() -> None:
    rng = np.random.default_rng(0)
    for shape in ((48, 48), (64, 64, 3)):
        smooth = np.cumsum(rng.integers(0, 3, shape), axis=0).astype(np.uint8)
        for image in (smooth, rng.integers(0, 256, shape).astype(np.uint8)):
            uri = figures.face_png(image)
            found = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
            assert (np.asarray(found) == image).all()


def test_compiled_templates_are_kept_beside_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (tmp_path / "a.html").write_text("one {{ 1 + 1 }}")

    def said(settings: dict[str, Any]) -> str:
        kept = compiled.cache(tmp_path / "kept", settings)
        environment = jinja2.Environment(loader=jinja2.FileSystemLoader(tmp_path), bytecode_cache=kept)
        return environment.get_template("a.html").render()

    assert said({}) == "one 2"
    (file,) = (tmp_path / "kept").iterdir()
    with monkeypatch.context() as without:
        without.setattr(jinja2.Environment, "_compile", None)
        assert said({}) == "one 2", "nothing is compiled again"
    (tmp_path / "a.html").write_text("two")
    assert said({}) == "two", "another source"
    file.write_bytes(b"damaged")
    assert said({}) == "two"
    said({"trim_blocks": True})
    assert len(list((tmp_path / "kept").iterdir())) == 2, "other settings are another file"
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert compiled.cache(tmp_path / "kept", {}) is None


def test_a_figure_of_the_same_numbers_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    painted: list[str] = []
    monkeypatch.setattr(painting, "paint", lambda drawing: painted.append(drawing.name) or (b"<svg/>", b"png"))
    drawings = [painting.Drawing(name, _refuse, (np.eye(n), "x")) for name, n in (("a", 2), ("b", 2), ("c", 3))]
    with painting.Helpers(0) as helpers:
        painting.Painted(helpers, drawings, tmp_path).finish()
    assert painted == ["a", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.{form}" for n in "abc" for form in ("png", "svg")]


def test_figures_are_drawn_beside_as_they_are_here(finished: Finished) -> None:
    drawings = figure_choice.of_run(finished.run, finished.document)[:2]
    with painting.Helpers(1) as helpers:
        beside = [helpers.submit(painting.paint, drawing).result() for drawing in drawings]
        with pytest.raises(ValueError, match="not a number"):
            helpers.submit(_refuse, "not a number").result()
    assert beside == [painting.paint(drawing) for drawing in drawings]


def _refuse(why: str) -> None:
    raise ValueError(why)


def test_a_helper_that_cannot_be_had_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with painting.Helpers(1) as helpers:
        painting.warm(helpers)
        assert helpers.submit(max, 3, 4).result() == 4


def test_views_show_the_values_of_the_log(finished: Finished) -> None:
    said, history = _views(finished.text), finished.run.history()
    assert list(said["trials"]) == ["0", "1", "2", "3"]
    assert (said["trials"]["3"]["ended"], said["trials"]["2"]["ended"]) == ("failed: diverged", "stopped at a rung")
    assert said["trials"]["2"]["rungs"] == ["epoch 1: stopped"]
    assert said["trials"]["1"]["rungs"] == ["epoch 1: goes on"], "which no event says"
    assert said["trials"]["1"]["knobs"].keys() == history.trials[1].config.keys()
    best, *points = said["figures"]["history"]["data"]
    assert (best["x"], best["y"]) == ([0, 1], pytest.approx([0.5, 0.52]))
    shown = {n: y for trace in points for n, y in zip(trace["customdata"], trace["y"], strict=True)}
    assert shown == {n: history.trials[n].metrics["macro_f1"] for n in (0, 1, 2)}, "a failed one has no value"
    curves = said["figures"]["learning"]["data"]
    assert {trial for trace in curves for trial in trace["customdata"]} == {0, 1, 2, 3}
    assert curves[-1]["name"] == "t0001 (winner)"
    assert curves[-1]["y"][:3] == pytest.approx([0.32, 0.42, 0.52])
    timeline = said["figures"]["timeline"]["data"]
    bars = [trace for trace in timeline if trace["type"] == "bar"]
    assert sorted(trial for trace in bars for trial in trace["customdata"]) == [0, 1, 2, 3]
    marks = {trace["name"]: trace for trace in timeline if trace["type"] == "scatter"}
    assert marks.keys() == {"rung: goes on", "rung: stopped"}
    assert (marks["rung: goes on"]["customdata"], marks["rung: stopped"]["customdata"]) == ([0, 1, 3], [2])
    assert marks["rung: goes on"]["text"] == ["epoch 1: goes on"] * 3


def test_rungs_that_were_passed_are_told_where_no_event_says_so(make_run: RunMaker, tmp_path: Path) -> None:
    """Rungs after 1 and 2 of 4 epochs. Promoted ones are logged, and told once; without rungs nothing is."""

    def decided(name: str, scheduler: str, *, promoted: bool = False) -> list[str]:
        said = {"fidelity": {"min_epochs": 1, "max_epochs": 4, "reduction": 2}, "search": {"scheduler": scheduler}}
        run = make_run(name, retrained=False, **said)
        with run.log() as log:
            log.append(TrialStarted(trial=4, config=run.study.space.defaults(), source="sampler"))
            for epoch in (1, 2, 3):
                log.append(EpochDone(trial=4, epoch=epoch, metrics={"macro_f1": 0.5}, seconds=1.0))
                if promoted and epoch < 3:
                    log.append(TrialPaused(trial=4, epoch=epoch))
                    log.append(TrialPromoted(trial=4, epoch=epoch))
        return views.decision_words(views.decisions(run).get(4, []))

    assert decided("a", "asha") == ["epoch 1: goes on", "epoch 2: goes on"]
    waited = ["epoch 1: waits", "epoch 1: goes on", "epoch 2: waits", "epoch 2: goes on"]
    assert decided("b", "asha_promotion", promoted=True) == waited
    assert decided("c", "median") == decided("d", "none") == []


def test_a_trial_that_failed_before_its_first_epoch_can_be_opened(make_run: RunMaker) -> None:
    run = make_run(retrained=False)
    with run.log() as log:
        log.append(TrialStarted(trial=4, config=run.study.space.defaults(), source="sampler"))
        log.append(TrialFailed(trial=4, reason="out_of_memory", detail="wanted 9 GB"))
    found = views.of_run(run, summary.document(run, {}))
    assert found is not None
    failed = found["trials"][4]
    assert (failed["value"], failed["curve"], failed["ended"]) == (None, ([], []), "failed: out of memory")
    assert (failed["detail"], failed["knobs"].keys()) == ("wanted 9 GB", run.study.space.defaults().keys())
    assert (found["shown"], found["with_value"]) == (4, 4), "in no figure"
    assert all(4 not in trace["customdata"] for trace in found["figures"]["timeline"]["data"])


def test_a_search_whose_trials_all_failed_has_curves_and_no_empty_history(make_run: RunMaker, tmp_path: Path) -> None:
    run = Run.create(tmp_path, "bad", make_run(retrained=False).study, data={}, environment={"packages": {}})
    with run.log() as log:
        log.append(TrialStarted(trial=0, config=run.study.space.defaults(), source="sampler"))
        log.append(EpochDone(trial=0, epoch=1, metrics={"macro_f1": 0.05}, seconds=1.0))
        log.append(TrialFailed(trial=0, reason="collapsed"))
    document = summary.document(run, {})
    found = views.of_run(run, document)
    assert found is not None
    assert found["figures"].keys() == {"learning", "timeline"}
    assert [each.name for each in figure_choice._search(run, document)] == ["learning"]
    said, _ = _reported(run, None)
    assert 'data-view="learning"' in said
    assert 'data-view="history"' not in said


def test_one_is_written_in_words(make_run: RunMaker, data_dir: Path) -> None:
    """One seed, one model, one epoch, one time: a report of a run with one of each."""
    said = {"fidelity": {"min_epochs": 1, "max_epochs": 3}, "retrain": {"top": 1, "seeds": 1, "epochs": 1}}
    run = make_run(seeds=1, **said)
    with run.log() as log:
        evaluate(run, log, data_dir, "cpu")
    text, document = _reported(run, data_dir)
    shown = _Page(text).text.partition("Save the study below as")[0]
    assert re.findall(r".{40}\b1 (?:new |final |paired )?(?:seed|model|time|epoch)s?\b.{20}", shown) == []
    assert "t0001, the winner, on each sealed set: one seed, with the 95 % interval" in shown
    assert "trained for one epoch" in shown
    assert "One model, on 42 faces." in shown
    assert "(one new seed)" in " ".join(finding["text"] for finding in document["findings"])


def test_words_of_shares_counts_and_means() -> None:
    assert wording.share(0.4421, 800) == "44 % of 800 faces"
    assert wording.share(0.004, 1) == "0.4 % of 1 face"
    assert wording.between([0.414, 0.470]) == "41 to 47 %"
    assert wording.between([0.4412, 0.4438]) == "44.1 to 44.4 %"
    assert wording.between(None) == ""
    metric = {"mean": 0.5, "interval": None}
    assert wording.share_with_interval(metric, 4) == "50 % of 4 faces"
    assert wording.share_with_interval(metric | {"interval": [0.25, 0.75]}, 4).endswith("(95 % interval 25 to 75 %)")
    assert [wording.counted(n, "new seed") for n in (1, 3)] == ["one new seed", "3 new seeds"]
    assert [wording.mean_of(n, "seed") for n in (1, 3)] == ["one seed", "the mean of 3 seeds"]
    assert [wording.times(n) for n in (1, 2)] == ["once", "2 times"]


def test_axes_of_knobs() -> None:
    configs: list[Config] = [
        {"lr": 0.01, "model": "a"},
        {"lr": 1.0, "model": "b", "depth": 18},
        {"lr": 0.1, "model": "a"},
    ]
    trials = [Trial(number, config, "sampler") for number, config in enumerate(configs)]
    lr = views.axis("lr", Float(0.001, 1, 0.1, log=True), trials)
    assert [lr.at(number) for number in range(3)] == pytest.approx([0, 1, 0.5])
    assert [text for _, text in lr.ticks()] == ["0.01", "0.1", "1"]
    depth = views.axis("depth", Choice((10, 18), 10), trials)
    assert [depth.at(0), depth.at(1)] == [views.ABSENT, 0]
    assert views.axis("model", Choice(("b", "a"), "a"), trials).categories == ["b", "a"]


def test_a_trial_that_waited_at_a_rung_has_two_bars() -> None:
    told = [("trial_started", 0), ("epoch", 60), ("trial_paused", 61), ("trial_promoted", 100), ("epoch", 130)]
    events = [
        {"type": kind, "trial": 4, "epoch": 1, "time_utc": f"2026-11-29T00:{at // 60:02d}:{at % 60:02d}+00:00"}
        for kind, at in told
    ]
    spans = views._spans(events)
    assert [(trial, end - start) for trial, start, end in spans] == [(4, 61), (4, 30)]
