"""Studies: every wrong word is one line that names its key; right ones survive JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from facex_tune import parts, study, train_knobs
from facex_tune.errors import InputError
from facex_tune.space import FAMILIES, Choice, Float, Int, Space
from facex_tune.study import Study
from facex_tune.study.schema import Body

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "search_spaces").glob("*.yaml"))
LEAST: dict[str, Any] = {"version": 1, "name": "x", "data": "synthetic"}


def parse(**said: Any) -> Study:
    return study.parse(LEAST | said)


def problems(**said: Any) -> list[str]:
    with pytest.raises(InputError) as told:
        parse(**said)
    found = told.value.problems
    assert all(line and "\n" not in line for line in found)
    return found


# Right ones


def test_the_least_study_gets_every_default() -> None:
    least = parse()
    assert least.objective == ("macro_f1",)
    assert least.validation == "public_test"
    assert least.budget.trials == 16
    assert list(least.space.parts) == ["model", "augment", "balance"]
    assert least.evaluate.protocols == ("synthetic.private", "synthetic.majority7", "synthetic.lab.6")
    assert least.final_epochs == least.fidelity.max_epochs == 12
    assert least.maximize
    assert set(least.space.train) == set(train_knobs.SPACE)
    assert all(isinstance(knob, Choice) and len(knob.options) == 1 for knob in least.space.train.values())


def test_a_set_without_own_protocols_is_scored_on_its_test_split() -> None:
    assert parse(data="mine").evaluate.protocols == ("folder.mine",)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_the_project_loads(path: Path) -> None:
    loaded = study.load(path)
    assert loaded.name == path.stem
    assert Study.from_data(json.loads(json.dumps(loaded.to_data(), allow_nan=False))) == loaded


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_the_project_says_its_command(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("\nversion:")[0]
    assert f"facex-tune run search_spaces/{path.name}" in head


def test_everything_that_can_be_said_survives_json() -> None:
    said: dict[str, Any] = {
        "validation": {"holdout": 0.1},
        "labels": "ferplus_votes",
        "duplicates": "drop",
        "objective": ["log_loss", "macro_f1"],
        "constraints": {"worst_class_recall": {"min": 0.3}, "ece": {"max": 0.2}},
        "budget": {"trials": 8, "time": "2h", "gpu_hours": 3, "target": 0.7},
        "fidelity": {"min_epochs": 2, "max_epochs": 18, "reduction": 3},
        "search": {
            "sampler": "random",
            "scheduler": "none",
            "seed": 5,
            "concurrency": 2,
            "learn_from": ["earlier", "../elsewhere/run"],
            "start_with": [{"model": "resnet", "train.lr": "1e-2"}],
        },
        "resources": {"cpus": 2, "gpus": 0.25},
        "space": {
            "model": [{"resnet": {"depth": 18, "dropout": {"low": 0.1, "high": 0.3}}}, "facex_cnn"],
            "augment": "facex",
            "balance": ["none", {"class_weights": None}],
            "train": {"lr": {"low": 0.001, "high": 0.1}, "ema_decay": [0.0, 0.99], "batch_size": 64},
        },
        "retrain": {"top": 2, "seeds": 3, "epochs": 20, "weights": "ema"},
        "evaluate": {"protocols": ["fer2013.both", "folder.mine"], "tta": "flip"},
    }
    parsed = parse(**said)
    data = json.loads(json.dumps(parsed.to_data(), allow_nan=False))
    again = Study.from_data(data)
    assert again == parsed
    assert again.to_data() == parsed.to_data()
    assert again.bounds == {"worst_class_recall": {"min": 0.3}, "ece": {"max": 0.2}}
    assert not again.maximize
    assert again.final_epochs == 20


def test_every_range_is_written_out() -> None:
    """A new part file, or another default, cannot change a study that runs."""
    data = parse(space={"model": ["resnet"]}).to_data()
    assert set(data["space"]["parts"]["model"]["resnet"]) == set(parts.find("model", "resnet").SPACE)
    assert data["evaluate"]["protocols"]
    assert data["fidelity"]["max_epochs"] == 12


def test_a_start_is_completed_with_defaults() -> None:
    started = parse(
        space={"train": {"lr": {"low": 0.01, "high": 0.1}}}, search={"start_with": [{"train.lr": 0.02}]}
    ).search.start_with[0]
    assert started["train.lr"] == 0.02
    assert started["model"] == "resnet"
    assert started["train.momentum"] == 0.9


def test_narrowed_knobs() -> None:
    space = parse(
        space={
            "model": [{"resnet": {"depth": 18, "dropout": {"low": 0.1, "high": 0.3}}}],
            "train": {"batch_size": [64, 128], "lr": {"low": 0.01, "high": 0.1}},
        }
    ).space
    assert space.parts["model"]["resnet"]["depth"] == Choice((18,), 18)
    assert space.parts["model"]["resnet"]["dropout"] == Float(0.1, 0.3, 0.2)
    assert space.train["lr"] == Float(0.01, 0.1, 0.05, log=True)
    assert space.train["batch_size"] == Choice((64, 128), 128)
    assert isinstance(train_knobs.SPACE["batch_size"], Int), "the part's own range is untouched"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(90, 90), (1.5, 1.5), ("30s", 30), ("45m", 2700), ("1.5h", 5400), ("2d", 172800), (" 10 m ", 600), (None, None)],
)
def test_durations(said: Any, seconds: float | None) -> None:
    assert parse(budget={"trials": 1, "time": said}).budget.time == seconds


# Wrong ones

TWO_MODELS: dict[str, Any] = {"model": [{"resnet": {"dropout": {"low": 0.1, "high": 0.3}}}, {"vgg": {"depth": 11}}]}
WRONG: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"nmae": "y"}, "nmae:", ["unknown key", "did you mean name"]),
    ({"budget": {"trails": 3}}, "budget.trails:", ["unknown key", "did you mean trials"]),
    ({"budget": 3}, "budget:", ["3"]),
    ({"budget": {"trials": 0}}, "budget.trials:", ["0", "greater than or equal to 1"]),
    ({"budget": {"trials": 2.5}}, "budget.trials:", ["2.5"]),
    ({"budget": {"trials": True}}, "budget.trials:", ["True", "write a number"]),
    ({"budget": {"time": True}}, "budget.time:", ["True"]),
    ({"resources": {"gpus": False}}, "resources.gpus:", ["False", "write a number"]),
    ({"version": True}, "version:", ["True"]),
    ({"budget": {"time": "fortnight"}}, "budget.time:", ["'fortnight'", "45m"]),
    ({"budget": {"time": "90"}}, "budget.time:", ["'90'", "write seconds"]),
    ({"budget": {"time": "-5m"}}, "budget.time:", ["'-5m'"]),
    ({"budget": {"time": 0}}, "budget.time:", ["greater than 0"]),
    ({"budget": {"time": float("inf")}}, "budget.time:", ["finite"]),
    ({"budget": {"trials": 4, "target": float("nan")}}, "budget.target:", ["finite"]),
    ({"budget": {"target": 0.7}}, "budget:", ["trials, time, gpu_hours"]),
    ({"budget": {"gpu_hours": 2}}, "budget.gpu_hours:", ["resources.gpus is 0"]),
    ({"version": 2}, "version:", ["2"]),
    ({"name": "a/b"}, "name:", ["'a/b'"]),
    ({"name": ".."}, "name:", ["'..'"]),
    ({"name": "x" * 65}, "name:", ["pattern"]),
    ({"labels": "ferplus"}, "labels:", ["'ferplus'", "'own'", "'ferplus_majority'"]),
    ({"classes": 9}, "classes:", ["9", "7 or 8"]),
    ({"classes": True}, "classes:", ["write a number"]),
    ({"duplicates": "remove"}, "duplicates:", ["'keep' or 'drop'"]),
    ({"validation": "private_test"}, "validation:", ["'private_test'", "public_test", "holdout"]),
    ({"validation": {"holdout": 0.9}}, "validation.holdout:", ["0.9", "less than 0.5"]),
    ({"validation": {"holdout": "much"}}, "validation.holdout:", ["'much'"]),
    ({"validation": {"held": 0.1}}, "validation:", ["'held'", "holdout"]),
    ({"objective": "macro_f2"}, "objective:", ["'macro_f2'", "did you mean macro_f1"]),
    ({"objective": []}, "objective:", ["at least one"]),
    ({"objective": 3}, "objective:", ["3"]),
    ({"objective": ["ece", "macro_f1", "ece"]}, "objective:", ["'ece' is named twice"]),
    ({"constraints": {"recall.fera": {"min": 0.1}}}, "constraints.recall.fera:", ["did you mean recall.fear"]),
    ({"constraints": {"ece": {"max": -0.1}}}, "constraints.ece.max:", ["-0.1 is out of reach", "between 0 and 1"]),
    ({"constraints": {"accuracy": {"min": 2}}}, "constraints.accuracy.min:", ["2 is out of reach", "between 0 and 1"]),
    ({"objective": ["parameters", "macro_f1"]}, "objective:", ["learns nothing", "[macro_f1, parameters]"]),
    ({"constraints": {"parameters": {"max": 0}}}, "constraints.parameters.max:", ["0 bounds nothing", "above 0"]),
    ({"budget": {"trials": 3, "target": 65}}, "budget.target:", ["65 is out of reach: macro_f1 lies"]),
    ({"objective": "f1.contempt"}, "objective:", ["f1.contempt is never measured", "classes: 8", "angry, disgust"]),
    ({"constraints": {"recall.contempt": {"min": 0.1}}}, "constraints.recall.contempt:", ["never measured"]),
    ({"constraints": {"ece": {"mx": 0.1}}}, "constraints.ece.mx:", ["unknown key", "did you mean max"]),
    ({"constraints": {"ece": 0.1}}, "constraints.ece:", ["0.1"]),
    ({"constraints": {"ece": {}}}, "constraints.ece:", ["min, max or both"]),
    ({"constraints": {"ece": {"min": 0.5, "max": 0.1}}}, "constraints.ece:", ["min 0.5 is above max 0.1"]),
    ({"fidelity": {"min_epochs": 5, "max_epochs": 2}}, "fidelity:", ["min_epochs 5", "max_epochs 2"]),
    ({"fidelity": {"reduction": 1}}, "fidelity.reduction:", ["1"]),
    ({"search": {"sampler": "tpee"}}, "search.sampler:", ["'tpee'", "did you mean tpe"]),
    (
        {"search": {"sampler": "gp"}, "space": TWO_MODELS, "objective": ["macro_f1", "ece"]},
        "search.sampler:",
        ["beside several objectives", "space.model (resnet, vgg)", "tpe"],
    ),
    ({"search": {"learn_from": [""]}}, "search.learn_from.0:", ["at least 1 character"]),
    ({"search": {"learn_from": 3}}, "search.learn_from:", ["3"]),
    ({"search": {"scheduler": "ahsa"}}, "search.scheduler:", ["'ahsa'", "did you mean asha"]),
    ({"search": {"seed": -1}}, "search.seed:", ["-1"]),
    ({"search": {"concurrency": 0}}, "search.concurrency:", ["0"]),
    ({"search": {"start_with": {"model": "resnet"}}}, "search.start_with:", ["tuple"]),
    ({"search": {"start_with": [{"model": "vgg"}]}}, "search.start_with[0]:", ["'vgg'", "resnet"]),
    ({"search": {"start_with": [{}, {"train.lrr": 1}]}}, "search.start_with[1]:", ["did you mean train.lr"]),
    ({"search": {"start_with": [{"train.lr": 9}]}}, "search.start_with[0]:", ["train.lr", "9"]),
    ({"resources": {"gpus": -1}}, "resources.gpus:", ["-1"]),
    ({"resources": {"gpus": 1.5}}, "resources.gpus:", ["1.5 is not allowed", "write 1 or 2"]),
    ({"resources": {"cpus": 0}}, "resources.cpus:", ["0"]),
    ({"retrain": {"weights": "emma"}}, "retrain.weights:", ["'last' or 'ema'"]),
    ({"retrain": {"weights": "ema"}}, "retrain.weights:", ["space.train.ema_decay"]),
    ({"retrain": {"epochs": 0}}, "retrain.epochs:", ["0"]),
    ({"evaluate": {"tta": "flop"}}, "evaluate.tta:", ["'flip', 'ten_crop' or 'auto'"]),
    ({"evaluate": {"protocols": ["ckplus.7"]}}, "evaluate.protocols:", ["'ckplus.7'", "did you mean ckplus.6"]),
    ({"evaluate": {"protocols": ["fer2013.both"]}}, "evaluate.protocols:", ["fer2013.both", "holdout"]),
    ({"space": "resnet"}, "space:", ["'resnet'", "model, augment, balance"]),
    ({"space": {"modle": ["resnet"]}}, "space.modle:", ["did you mean model"]),
    ({"space": {"model": ["resnt"]}}, "space.model:", ["'resnt'", "did you mean resnet"]),
    ({"space": {"model": []}}, "space.model:", ["empty list", "resnet"]),
    ({"space": {"model": [3]}}, "space.model:", ["3 is no part"]),
    ({"space": {"model": None}}, "space.model:", ["None is no part"]),
    ({"space": {"model": ["resnet", {"resnet": {"depth": 10}}]}}, "space.model:", ["'resnet' is named twice"]),
    ({"space": {"model": [{"resnet": {"deep": 10}}]}}, "space.model.resnet.deep:", ["unknown knob", "depth"]),
    ({"space": {"model": [{"resnet": {"depth": 11}}]}}, "space.model.resnet.depth:", ["11", "10, 18"]),
    ({"space": {"model": [{"resnet": 10}]}}, "space.model.resnet:", ["{knob: range}", "10"]),
    ({"space": {"model": {"resnet": {}, "facex_cnn": {}}}}, "space.model:", ["with one name"]),
    ({"space": {"balance": ["focal_los"]}}, "space.balance:", ["'focal_los'", "did you mean focal"]),
    ({"space": {"train": {"lrr": 0.1}}}, "space.train.lrr:", ["did you mean lr"]),
    ({"space": {"train": {"lr": {"low": 0.1, "high": 0.01}}}}, "space.train.lr:", ["impossible range"]),
    ({"space": {"train": {"lr": 7}}}, "space.train.lr:", ["7", "1e-05 to 1"]),
    ({"space": {"train": None}}, "space.train:", ["{knob: range}"]),
    ({"resources": {"cpus": "all"}}, "resources.cpus:", ["'all'", "a whole number from 1, or auto"]),
    ({"resources": {"cpus": 0}}, "resources.cpus:", ["0 is not allowed", "a whole number from 1, or auto"]),
    ({"resources": {"cpus": 1.5}}, "resources.cpus:", ["1.5 is not allowed"]),
    ({"resources": {"cpus": float("inf")}}, "resources.cpus:", ["inf is not allowed"]),
    ({"resources": {"cpus": "auto", "gpus": 0.5}}, "resources.cpus:", ["train on CPUs", "these hold 0.5 GPU"]),
    ({"retrain": {"on": "validation"}}, "retrain.on:", ["'train' or 'all'"]),
    (
        {"retrain": {"on": "all"}, "space": {"train": {"schedule": ["cosine", "plateau"]}}},
        "retrain.on:",
        ["plateau lowers the rate", "on: train"],
    ),
]


@pytest.mark.parametrize(("said", "key", "words"), WRONG, ids=[f"{key}{said}"[:60] for said, key, _ in WRONG])
def test_a_wrong_word_is_one_line_that_names_its_key(said: dict[str, Any], key: str, words: list[str]) -> None:
    found = problems(**said)
    assert len(found) == 1, found
    assert found[0].startswith(key)
    for word in words:
        assert word in found[0]


@pytest.mark.parametrize("key", LEAST)
def test_what_every_study_must_say(key: str) -> None:
    with pytest.raises(InputError, match=f"^{key}: missing"):
        study.parse({name: value for name, value in LEAST.items() if name != key})


def test_keys_are_words() -> None:
    with pytest.raises(InputError, match="keys of a study are words"):
        study.parse({**LEAST, 3: 4})  # type: ignore[dict-item]


def test_own_labels_were_once_called_fer2013s() -> None:
    assert parse(labels="fer2013") == parse(labels="own")
    kept = {**parse().to_data(), "labels": "fer2013"}
    del kept["classes"]
    assert Study.from_data(kept).to_data() == parse().to_data()


def test_eight_classes_measure_contempt_and_choose_their_protocols() -> None:
    eight = {"classes": 8, "objective": "f1.contempt"}
    named = {data: parse(**eight, data=data).evaluate.protocols for data in ("ferplus", "affectnet", "mine")}
    assert named == {"ferplus": ("ferplus.majority8",), "affectnet": ("affectnet.val8",), "mine": ("folder.mine",)}


def test_every_problem_is_told_at_once() -> None:
    found = problems(
        space={"model": ["resnt"], "train": {"lr": [7]}},
        fidelity={"min_epochs": 9, "max_epochs": 2},
        objective="acuracy",
        evaluate={"protocols": ["nothing"]},
        search={"start_with": [{"train.lr": 0.1}]},
    )
    assert [line.partition(":")[0] for line in found] == [
        "space.model",
        "space.train.lr",
        "objective",
        "fidelity",
        "evaluate.protocols",
    ]


def test_wrong_types_and_wrong_parts_are_told_together() -> None:
    found = problems(space={"augment": ["flop"]}, budget={"trials": 0}, labels="mine")
    assert [line.partition(":")[0] for line in found] == ["space.augment", "labels", "budget.trials"]


def test_both_tests_of_fer2013_are_scored_only_beside_a_holdout() -> None:
    chosen: dict[str, Any] = {"protocols": ["fer2013.both"]}
    assert parse(evaluate=chosen, validation={"holdout": 0.1}).evaluate.protocols == ("fer2013.both",)
    assert "fer2013.both" in problems(evaluate=chosen, validation="public_test")[0]


@pytest.mark.parametrize(
    ("decay", "is_right"),
    [(0.0, False), ([0.0], False), ([0.0, 0.99], True), (0.998, True), ({"low": 0.9, "high": 0.99}, True)],
)
def test_averaged_weights_need_a_decay(decay: Any, is_right: bool) -> None:
    said: dict[str, Any] = {"retrain": {"weights": "ema"}, "space": {"train": {"ema_decay": decay}}}
    if is_right:
        assert parse(**said).retrain.weights == "ema"
    else:
        assert "ema_decay" in problems(**said)[0]


# From files, with changes on top


def written(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_final_models_that_are_trained_less_than_trials_are_told() -> None:
    told = parse(fidelity={"max_epochs": 9}, retrain={"epochs": 3}).short_retraining
    assert told.startswith("final models are trained for 3 epochs (retrain.epochs), the search's longest trials for 9")
    one = parse(fidelity={"max_epochs": 9}, retrain={"epochs": 1}).short_retraining
    assert one.startswith("final models are trained for 1 epoch (retrain.epochs)")
    assert parse(fidelity={"max_epochs": 9}, retrain={"epochs": 9}).short_retraining == ""
    assert parse(fidelity={"max_epochs": 9}).short_retraining == ""


def test_a_file_that_is_no_utf_8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("version: 1\nname: café\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml: line 2 is not UTF-8 \(byte 0xe9\); save it so$"):
        study.load(path)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"metric": "accuracy"}, "metric: unknown key; did you mean objective? (choices: version,"),
        ({"trials": 3}, "trials: unknown key; did you mean budget.trials?"),
        ({"seeds": 3}, "seeds: unknown key; did you mean retrain.seeds?"),
        ({"epochs": 3}, "epochs: unknown key; did you mean fidelity.max_epochs?"),
        ({"dataset": "x"}, "dataset: unknown key; did you mean data?"),
        ({"objektive": "x"}, "objektive: unknown key; did you mean objective"),
        ({"budget": {"max_epochs": 3}}, "budget.max_epochs: unknown key; did you mean fidelity.max_epochs?"),
        ({"budget": {"trails": 3}}, "budget.trails: unknown key; did you mean trials?"),
    ],
)
def test_an_unknown_key_is_told_where_it_belongs(said: dict[str, Any], meant: str) -> None:
    (found,) = problems(**said)
    assert found.startswith(meant)


def test_a_key_that_every_study_says_is_told_with_an_example() -> None:
    with pytest.raises(InputError) as told:
        study.parse({"name": "x", "data": "synthetic"})
    assert told.value.problems == ["version: missing; every study says it, such as `version: 1`"]


def test_a_key_that_yaml_takes_for_a_truth_value_is_a_word(tmp_path: Path) -> None:
    """`on` is true in YAML 1.1."""
    path = written(tmp_path, "version: 1\nname: x\ndata: synthetic\nretrain: {on: all, seeds: 3}\n")
    assert study.load(path).retrain.on == "all"
    assert study.load(path).n_final_models == 4, "one more than without"
    assert study.load(path, sets=["retrain={on: train}"]).n_final_models == 2


def test_changes_come_on_top(tmp_path: Path) -> None:
    path = written(tmp_path, yaml.safe_dump(LEAST | {"budget": {"trials": 8}}))
    loaded = study.load(
        path, ["budget.trials=3", "budget.time=5m", "space.train.lr={low: 0.01, high: 0.1}", "objective=ece", "name=y"]
    )
    assert loaded.budget.trials == 3
    assert loaded.budget.time == 300
    assert loaded.space.train["lr"] == Float(0.01, 0.1, 0.05, log=True)
    assert loaded.objective == ("ece",)
    assert loaded.name == "y"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("trials", ["write key=value"]),
        ("=3", ["write key=value"]),
        ("budget.trails=3", ["budget.trails", "did you mean trials"]),
        ("name.first=x", ["'name' is no mapping"]),
        ("budget.trials.more=3", ["'trials' is no mapping"]),
        ("budget.trials=[3", ["not YAML"]),
        ("name=2024-13-45", ["not YAML"]),
        ("budget.trials=many", ["budget.trials", "'many'"]),
        ("space.model=[resnt]", ["space.model", "did you mean resnet"]),
        ("budget={trials: 3, trials: 4}", ["not YAML"]),
    ],
)
def test_a_wrong_change_is_one_line(tmp_path: Path, change: str, words: list[str]) -> None:
    path = written(tmp_path, yaml.safe_dump(LEAST | {"budget": {"trials": 8}}))
    with pytest.raises(InputError) as told:
        study.load(path, [change])
    assert len(told.value.problems) == 1
    for word in words:
        assert word in str(told.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: [1", ["not YAML", "line 1", "brackets that is not closed"]),
        ("version: 1\n\tname: x", ["not YAML: line 2: a tab; YAML is indented with spaces"]),
        ("name: a: b", ["not YAML: line 1: a second `: ` in one line"]),
        ("version: 1\nname", ["not YAML: line 2: a key without `: ` after it"]),
        ("a:\n    b: 1\n  c: 2", ["not YAML: line 3: a line whose indentation fits none above it"]),
        ("name: @x", ["not YAML: line 1: a value that begins with a character of YAML's own"]),
        ("[" * 3000, ["nested too deeply"]),
        ("name: 2024-13-45", ["not YAML"]),
        ("- a\n- b", ["a study is a mapping", "quick.yaml"]),
        ("", ["a study is a mapping"]),
        ("x: !!python/object/apply:os.system ['true']", ["not YAML"]),
        ("budget: {trials: 3}\nname: x\nbudget: {trials: 4}", ["'budget' is said twice", "line 3"]),
        ("budget:\n  trials: 3\n  trials: 4", ["'trials' is said twice", "line 3"]),
    ],
)
def test_a_file_that_is_no_study_is_one_line(tmp_path: Path, text: str, words: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as told:
        study.load(path)
    assert str(told.value).startswith(f"{path}: ")
    assert "\n" not in str(told.value)
    for word in words:
        assert word in str(told.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read this study: No such file"):
        study.load(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot read this study: Is a directory"):
        study.load(tmp_path)


def test_a_mapping_may_be_shared_and_overridden(tmp_path: Path) -> None:
    """YAML's own way of saying a key again, on purpose."""
    path = written(tmp_path, yaml.safe_dump(LEAST))
    loaded = study.load(path, ["budget={<<: {trials: 3, time: 60}, trials: 5}"])
    assert (loaded.budget.trials, loaded.budget.time) == (5, 60)


@pytest.mark.parametrize("name", ["gp", "qmc", "nsga2", "tpe", "random"])
def test_a_sampler_takes_what_it_knows(name: str) -> None:
    """One part of a family, or several whose knobs are fixed, leave nothing conditional."""
    varied = {"model": {"resnet": {"dropout": {"low": 0.1, "high": 0.3}}}, "train": {"lr": {"low": 0.01, "high": 0.1}}}
    fixed = {knob: each.default for knob, each in parts.find("model", "vgg").SPACE.items()}
    plain = {knob: each.default for knob, each in parts.find("model", "facex_cnn").SPACE.items()}
    several = {"model": [{"vgg": fixed}, {"facex_cnn": plain}]}
    for space in (varied, several, *([TWO_MODELS] if name == "gp" else [])):
        assert parse(search={"sampler": name}, space=space).search.sampler == name


def test_one_run_to_learn_from_needs_no_list() -> None:
    assert parse(search={"learn_from": "earlier"}).search.learn_from == ("earlier",)


# The schema for editors


def test_the_schema_knows_every_key() -> None:
    schema = json.loads(json.dumps(study.json_schema()))
    assert set(schema["properties"]) == {*Body.model_fields, "space"}
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"version", "name", "data"}
    space = schema["properties"]["space"]["properties"]
    assert set(space) == {"model", "augment", "balance", "train"}
    assert set(space["train"]["properties"]) == set(train_knobs.SPACE)
    assert all(name in space["model"]["description"] for name in parts.names("model"))


def knobs_of_the_schema() -> dict[str, dict[str, Any]]:
    """Qualified knob -> what the schema says of it."""
    schema = study.json_schema()
    train = schema["properties"]["space"]["properties"]["train"]["properties"]
    found = {f"train.{name}": said for name, said in train.items()}
    for family in FAMILIES:
        for entry in [each for each in schema["$defs"][family]["anyOf"] if "required" in each]:
            ((part, narrowed),) = entry["properties"].items()
            own = narrowed["anyOf"][0]["properties"]
            found |= {f"{family}.{part}.{name}": said for name, said in own.items()}
    return found


def test_the_schema_tells_every_knob_of_every_part() -> None:
    of_parts = {
        f"{family}.{part}.{name}": knob
        for family in FAMILIES
        for part in parts.names(family)
        for name, knob in parts.find(family, part).SPACE.items()
    }
    known = {**of_parts, **{f"train.{name}": knob for name, knob in train_knobs.SPACE.items()}}
    told = knobs_of_the_schema()
    assert set(told) == set(known)
    for name, knob in known.items():
        assert told[name]["default"] == knob.default, name
        assert f"allowed: {knob}" in told[name]["description"], name
        assert knob.doc in told[name]["description"], name


def in_one_form(schema: Any) -> Any:
    """A schema without what some versions of pydantic say twice, in `allOf`, `enum` and `additionalProperties`."""
    if isinstance(schema, list):
        return [in_one_form(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: in_one_form(value) for key, value in schema.items()}
    if len(found.get("allOf", [])) == 1:
        found |= found.pop("allOf")[0]
    if "const" in found and found.get("enum") == [found["const"]]:
        del found["enum"]
    if found.get("additionalProperties") is True:
        del found["additionalProperties"]
    return found


def test_the_schema_beside_the_studies_is_current_and_editors_find_it() -> None:
    beside = STUDIES[0].parent / "study.schema.json"
    current = "run: facex-tune schema > search_spaces/study.schema.json"
    written = json.loads(beside.read_text(encoding="utf-8"))
    assert in_one_form(written) == in_one_form(json.loads(json.dumps(study.json_schema()))), current
    for path in STUDIES:
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        assert first == "# yaml-language-server: $schema=study.schema.json", path.name


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_schema_takes_every_study_of_the_project(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(study.json_schema()).validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "said",
    [
        {"nmae": "y"},
        {"budget": {"trails": 3}},
        {"objective": "acuracy"},
        {"space": {"train": {"lrr": 1}}},
        {"labels": "x"},
        {"search": {"sampler": "tpee"}},
        {"space": {"train": {"lr": 7}}},
        {"space": {"train": {"lr": {"low": 1e-9}}}},
        {"space": {"train": {"batch_size": 12.5}}},
        {"space": {"train": {"optimizer": ["sgd", "adamm"]}}},
        {"space": {"model": "resnett"}},
        {"space": {"model": [{"resnet": {"dept": 10}}]}},
        {"space": {"model": [{"resnet": {"depth": 11}}]}},
        {"space": {"model": []}},
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(said: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert not jsonschema.Draft202012Validator(study.json_schema()).is_valid(LEAST | said)
    assert problems(**said)


def test_a_study_is_read_without_torch_or_ray() -> None:
    code = (
        "import sys; from pathlib import Path; from facex_tune import study;"
        f"study.load(Path({str(STUDIES[0])!r}));"
        "print([name for name in ('torch', 'ray', 'optuna') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_a_key_that_is_no_text_is_one_line() -> None:
    with pytest.raises(InputError, match=r"a key: .* is not allowed"):
        study.parse({"version": 1, "name": "x", "\ud800": 1})


# A space that is smaller than the budget


@pytest.mark.parametrize(
    ("train", "trials", "words"),
    [
        ({"lr": [0.05, 0.1]}, 5, "the space has 2 configurations: 3 of 5 trials repeat one with another seed"),
        ({"lr": 0.05}, 2, "the space has 1 configuration: 1 of 2 trials repeat one with another seed"),
        ({"lr": [0.05, 0.1]}, None, "the space has 2 configurations: trials after them repeat one with another seed"),
        ({"lr": [0.05, 0.1]}, 2, ""),
        ({"lr": {"low": 0.05, "high": 0.1}}, 500, ""),
        ({"lr": 0.05, "batch_size": {"low": 32, "high": 35}}, 4, ""),
        ({"lr": 0.05, "batch_size": {"low": 32, "high": 35}}, 5, "the space has 4 configurations: 1 of 5 trials"),
    ],
)
def test_what_a_small_space_repeats_is_told(train: dict[str, Any], trials: int | None, words: str) -> None:
    one = {"width": 0.25, "kernels": "3-3-3-3", "dropout": 0.25}
    space = {"model": [{"facex_cnn": one}], "augment": ["none"], "balance": ["none"], "train": train}
    budget = {"trials": trials} if trials else {"time": "1h"}
    said = study.parse({"version": 1, "name": "x", "data": "synthetic", "space": space, "budget": budget}).repetition
    assert said.startswith(words)
    assert bool(said) == bool(words)


def test_configurations_count_the_knobs_of_the_part_that_is_chosen() -> None:
    part = {"b": Choice((1, 2, 3), 1)}
    assert Space({"model": {"a": {}, "b": part}}, {"t": Choice((True, False), True)}).configurations() == 2 * (1 + 3)
    assert Space({"model": {"a": {"x": Float(0, 1, 0.5)}}}).configurations() is None


# Several sets


def test_a_name_stays_a_name_and_several_are_a_list() -> None:
    assert parse(data="synthetic").to_data()["data"] == "synthetic"
    assert parse(data=["synthetic"]).data == "synthetic"
    several = parse(data=["fer2013", "rafdb"], validation={"holdout": 0.1, "of": "rafdb"})
    assert several.to_data()["data"] == ["fer2013", "rafdb"]
    assert several.to_data()["validation"] == {"holdout": 0.1, "of": "rafdb"}
    assert Study.from_data(json.loads(json.dumps(several.to_data()))) == several
    assert (several.sets, several.data_text, several.validated_on) == (
        ("fer2013", "rafdb"), "fer2013 + rafdb", ("rafdb",),
    )  # fmt: skip
    assert several.evaluate.protocols == ("fer2013.private", "rafdb.test"), "the protocols of each"
    assert parse(data=["a", "b"], validation={"holdout": 0.1, "of": "all"}).validated_on == ("a", "b")
    assert parse(validation={"holdout": 0.1}).to_data()["validation"] == {"holdout": 0.1}, "as it always was"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"data": ["fer2013", "fer2013"]}, "data: ['fer2013', 'fer2013'] is not allowed: fer2013 is named twice"),
        ({"data": []}, "data: [] is not allowed: write the name of a prepared set, or a list of names"),
        ({"data": [3]}, "data: [3] is not allowed: write the name"),
        ({"data": ["a", "../b"]}, "'../b' is no name of a set"),
        ({"data": "a/b"}, "data: 'a/b' is not allowed: 'a/b' is no name of a set"),
        ({"data": ["fer2013", "rafdb"], "validation": {"holdout": 0.1, "of": "rafbd"}},
         "validation.of: no set named 'rafbd' in data; did you mean rafdb"),
        ({"validation": {"of": "synthetic"}}, "validation: {'of': 'synthetic'} is not allowed: write public_test, or"),
        ({"data": ["all", "rafdb"]}, "data: a set named 'all' cannot be joined with others"),
        ({"set_balance": "even"}, "set_balance: even needs several sets, and data names synthetic alone; write none"),
    ],
)  # fmt: skip
def test_several_sets_that_are_none(said: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(**said)
    assert [each for each in refused.value.problems if line in each], refused.value.problems
