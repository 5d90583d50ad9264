"""Studies that somebody sent."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import yaml

from facex_tune import parts
from facex_tune.data import near
from facex_tune.errors import InputError
from facex_tune.pipeline.options import Options
from facex_tune.service import drafting, received
from facex_tune.service.manager import Manager
from facex_tune.service.received import Ceiling
from facex_tune.storage import patience
from facex_tune.storage.patience import bounded_checks
from tests.search.conftest import tiny_study

SAID = tiny_study().to_data()


def said(**changes: object) -> str:
    return json.dumps({"version": 1, "name": "x", "data": "synthetic", "space": {"model": ["facex_cnn"]}, **changes})


def test_a_study_in_yaml_or_json_is_taken() -> None:
    assert received.study(said()).name == "x"
    assert received.study("version: 1\nname: x\ndata: synthetic\nspace: {model: [facex_cnn]}\n").name == "x"
    assert received.of_body({"run": "r", "study": json.loads(said())})[0] == "r"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("[" * 5000, "deeper"),
        (("{a: " * 40) + "1" + "}" * 40, "deeper"),
        ("x: " + "y" * 70_000, "65,536 at most"),
        ("just a sentence", "no study"),
        ("a: [", "no YAML"),
        ("a: 9999-99-99", "no YAML"),
        ("!!python/object/apply:os.system ['true']", "no YAML"),
        (said(retrain={"seeds": 10**9}), "retrain.seeds: 1,000,000,000 is more"),
        (said(fidelity={"max_epochs": 10**7}), "fidelity.max_epochs"),
        (said(data="../elsewhere"), "data"),
        (said(search={"learn_from": "/etc/passwd"}), "names of runs of its own storage only"),
        (said(search={"learn_from": ["http://127.0.0.1:1/x"]}), "names of runs of its own storage only"),
        (said(evaluate={"protocols": ["folder.../../etc"]}), "names of sets of its own data only"),
        (said(evaluate={"protocols": ["folder..."]}), "names of sets of its own data only"),
        (said(resources={"cpus": 10**6}), "resources.cpus: 1,000,000 is more"),
        (said(name="x" * 300), "300 characters; 256 at most"),
        ("x: " + ":".join(["59"] * 80) + ".5", "unknown key"),
        (said(budget={"time": "3650d"}), "budget.time: 87,600.0 hours is more than this service grants"),
        (said(budget={"trials": 20_000}), "budget.trials: 20,000 is more"),
        (said(retrain={"epochs": 100_000}), "retrain.epochs: 100,000 is more"),
        (said(search={"hung_after": "300d"}), "search.hung_after"),
        ("version: 1\nname: a\nname: b\n", "'name' is said twice, again in line 3"),
        ('{"space": {"model": ["vgg"], "model": ["resnet"]}}', "'model' is said twice"),
        ("[" + "x," * 12_000 + "]", "more than 4,000 values"),
        ("x: !!binary aGVsbG8=", "no YAML tags"),
        ('"\\ud800": 1', "surrogates"),
    ],
)
def test_what_could_hang_or_lead_astray_is_refused_at_once(text: str, why: str) -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match=why):
        received.study(text)
    assert time.monotonic() - start < 20  # seconds; a bomb takes for ever


def test_no_final_models_without_end_are_granted() -> None:
    asked = said(retrain={"top": 100, "seeds": 50, "epochs": 1000})
    with pytest.raises(InputError, match="5,000 final models of 1,000 epochs are more than this service grants"):
        received.study(asked)
    assert received.study(said(retrain={"top": 10, "seeds": 5, "epochs": 1000})).n_final_models == 50


def listed(n: int, name: str = "s") -> list[str]:
    return [f"{name}{number}" for number in range(n)]


LARGE: dict[str, Callable[[int], dict[str, Any]]] = {
    "unknown keys": lambda n: dict.fromkeys(listed(n, "kez"), 1),
    "unknown knobs": lambda n: {"space": {"model": ["facex_cnn"], "train": dict.fromkeys(listed(n, "lr"), 1)}},
    "unknown parts": lambda n: {"space": {"model": listed(n, "facex")}},
    "one part": lambda n: {"space": {"model": ["facex_cnn"] * n}},
    "starts": lambda n: {"search": {"start_with": [{}] * n}},
    "starts in full": lambda n: {"search": {"start_with": [{"train.lr": 0.001, "train.batch_size": 32}] * n}},
    "starts of unknown knobs": lambda n: {"search": {"start_with": [{"train.lrx": 0.001}] * n}},
    "runs to learn from": lambda n: {"search": {"learn_from": listed(n)}},
    "sets": lambda n: {"data": listed(n)},
    "drawn sets": lambda n: {"data": listed(n, "synthetic")},
    "protocols": lambda n: {"evaluate": {"protocols": listed(n, "folder.s")}},
    "unknown protocols": lambda n: {"evaluate": {"protocols": listed(n, "foo")}},
    "objectives": lambda n: {"objective": listed(n, "macro")},
    "constraints": lambda n: {"constraints": {name: {"min": 1} for name in listed(n, "macro")}},
    "values of a knob": lambda n: {
        "space": {"model": ["facex_cnn"], "train": {"lr": [1e-4 + 1e-7 * number for number in range(n)]}}
    },
    "networks that there are not": lambda n: {"space": {"model": [{"timm": {"name": listed(n, "resnet")}}]}},
    "files": lambda n: {"space": {"model": [{"timm": {"pretrained": listed(n, "/a")}}]}},
    "words for files": lambda n: {"space": {"model": [{"resnet": {"pretrained": listed(n, "imagenet")}}]}},
}


def largest(make: Callable[[int], dict[str, Any]]) -> str:
    """The largest study of its kind, up to a few words, that is within the limits of a text."""
    few, more = (len(list(yaml.parse(said(**make(n))))) for n in (10, 20))
    by_values = (received.MOST_VALUES - few) * 10 // max(more - few, 1)
    few, more = (len(said(**make(n))) for n in (2000, 3000))
    by_bytes = 2000 + (received.LARGEST_BYTES - few) * 1000 // (more - few)
    return said(**make(min(by_values, by_bytes) - 10))


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    """Of a service that has checked a study before."""
    place = tmp_path_factory.mktemp("received")
    made = Manager(Options(storage=place / "runs", data_dir=place / "data", device="cpu"))
    received.load_libraries("timm")
    assert drafting.of_check(made, None, {"study": said()})["problems"] == []
    yield made
    made.close()


@pytest.mark.parametrize("kind", LARGE)
def test_the_largest_studies_are_checked_within_seconds(kind: str, manager: Manager) -> None:
    text = largest(LARGE[kind])
    began_s = time.thread_time()
    checked = drafting.of_check(manager, None, {"study": text})
    assert time.thread_time() - began_s <= 5
    assert not [line for line in checked["problems"] if "the study has more than" in line]
    assert len(checked["problems"]) <= drafting.MOST_PROBLEMS + 1


def test_what_is_done_once_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(patience.time, "thread_time", lambda: now[0])
    with bounded_checks(1, 3):
        with patience.apart():
            now[0] = 10.0
        now[0] += 3.0
        patience.go_on("data", "wait")
        now[0] += 0.1
        with pytest.raises(InputError, match="takes more than 3 s"):
            patience.go_on("data", "wait")


def test_reading_joining_and_building_share_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    faces_NHW = np.random.default_rng(0).integers(0, 255, (300, 48, 48), np.uint8)
    assert len(near.near_pairs(faces_NHW)) == 0
    for compare in (near.near_pairs, lambda images: near.near_between(images, images)):
        with bounded_checks(1, 0), pytest.raises(InputError, match="data: checking this study takes more than 0 s"):
            compare(faces_NHW)
    with bounded_checks(1, 1.0):
        patience.go_on("data", "wait")
        with pytest.raises(InputError, match="takes more than 1 s; wait"):
            patience.go_on("data", "wait", 1.1)  # of other threads
        with pytest.raises(InputError, match="the study: checking this study takes more than 1 s"):
            received.study(said())


def resnet(pretrained: object, **changes: object) -> str:
    return said(space={"model": [{"resnet": {"pretrained": pretrained}}]}, **changes)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        (resnet("/etc/passwd"), "space.model.resnet.pretrained", "/etc/passwd"),
        (resnet([False, "imagenet", "/etc/passwd"]), "space.model.resnet.pretrained", "/etc/passwd"),
        (resnet("w.pth"), "space.model.resnet.pretrained", "w.pth"),
        (resnet("~/w.pth"), "space.model.resnet.pretrained", "~/w.pth"),
        (resnet("../w.pth"), "space.model.resnet.pretrained", "../w.pth"),
        (said(space={"model": ["vgg", {"timm": {"pretrained": "/w"}}]}), "space.model.timm.pretrained", "/w"),
        (
            resnet([False, "w.pth"], search={"start_with": [{"model.resnet.pretrained": "w.pth"}]}),
            "search.start_with[0]: model.resnet.pretrained",
            "w.pth",
        ),
    ],
)
def test_no_file_of_the_services_host_is_opened(text: str, key: str, value: str) -> None:
    with pytest.raises(InputError) as refused:
        received.study(text)
    expected = f'{key}: a service opens no file of its host, and so not {value!r}; choices: false, "imagenet"'
    assert expected in refused.value.problems
    assert os.getcwd() not in str(refused.value)


@pytest.mark.parametrize("pretrained", [False, "imagenet", [False, "imagenet"]])
def test_weights_that_the_service_finds_itself_are_granted(pretrained: object) -> None:
    chosen = {"model.resnet.pretrained": "imagenet" if pretrained else False}
    found = received.study(resnet(pretrained, search={"start_with": [chosen]}))
    assert found.search.start_with[0]["model.resnet.pretrained"] == chosen["model.resnet.pretrained"]


@pytest.mark.parametrize(
    "body", [None, [], "x", {}, {"run": "r"}, {"study": said(), "parts": "x"}, {"run": 1, "study": ""}]
)
def test_what_is_no_submission_is_told_so(body: object) -> None:
    with pytest.raises(InputError, match=r"submission|run: a name"):
        received.of_body(body)


@pytest.mark.parametrize(
    ("asked", "ceiling", "why"),
    [
        ({"budget": {"time": "3h"}}, Ceiling(hours=2), "budget.time: 3.0 hours is more than this service grants (2 "),
        ({"budget": {"trials": 3}}, Ceiling(hours=2), "budget.time: this service wants it said, and grants 2h"),
        ({"budget": {"time": "3h"}}, Ceiling(trials=2), "budget.trials: this service wants it said"),
        ({"budget": {"trials": 3}}, Ceiling(trials=2), "budget.trials: 3 is more"),
        ({"fidelity": {"max_epochs": 9}}, Ceiling(epochs=8), "fidelity.max_epochs: 9 is more"),
        ({"retrain": {"epochs": 9}}, Ceiling(epochs=8), "retrain.epochs: 9 is more"),
        ({"budget": {"trials": 9}, "retrain": {"top": 2}}, Ceiling(trials=12), "4 final models beside 9 trials"),
        ({"budget": {"time": "1h"}, "retrain": {"top": 7}}, Ceiling(trials=12), "(12 models and 50,000 epochs at most"),
        ({"retrain": {"top": 9, "seeds": 9, "epochs": 7}}, Ceiling(epochs=8), "81 final models of 7 epochs are more"),
    ],
)
def test_a_study_keeps_below_the_operators_ceiling(asked: dict[str, object], ceiling: Ceiling, why: str) -> None:
    with pytest.raises(InputError) as refused:
        received.study(said(**asked), ceiling)
    assert [line for line in refused.value.problems if why in line]
    assert received.study(said(**asked)).name == "x"


def test_what_the_ceiling_grants_is_taken() -> None:
    asked = said(budget={"time": "2h", "trials": 2}, fidelity={"max_epochs": 8})
    assert received.study(asked, Ceiling(hours=2, trials=4, epochs=8)).budget.trials == 2


@pytest.mark.parametrize("part", ["timm", "resnet"])
def test_checking_a_study_has_a_bound_of_networks_and_of_seconds(part: str) -> None:
    names = {"name": ["resnet10t", "resnet14t", "resnet18"], "halve_stem": [True, False]}
    knobs: dict[str, object] = names if part == "timm" else {"pretrained": "imagenet", "depth": [18, 34], "width": 64}
    knobs |= {"squeeze_excitation": False} if part == "resnet" else {}
    space = received.study(said(space={"model": [{part: knobs}]})).space
    with bounded_checks(1, 100), pytest.raises(InputError, match=rf"space.model.{part}: \d combinations"):
        parts.problems(space)
    with bounded_checks(100, 0), pytest.raises(InputError, match="takes more than 0 s"):
        parts.problems(space)
