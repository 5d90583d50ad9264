"""Studies that somebody sent."""

from __future__ import annotations

import json
import os
import time

import pytest

from facex_tune import parts
from facex_tune.errors import InputError
from facex_tune.models._patience import bounded_checks
from facex_tune.service import received
from facex_tune.service.received import Ceiling
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
        ("[" + "x," * 12_000 + "]", "more than 10,000 values"),
        ("x: !!binary aGVsbG8=", "no YAML tags"),
        ('"\\ud800": 1', "surrogates"),
    ],
)
def test_what_could_hang_or_lead_astray_is_refused_at_once(text: str, why: str) -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match=why):
        received.study(text)
    assert time.monotonic() - start < 20  # seconds; a bomb takes for ever


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
    ],
)
def test_a_study_keeps_below_the_operators_ceiling(asked: dict[str, object], ceiling: Ceiling, why: str) -> None:
    with pytest.raises(InputError) as refused:
        received.study(said(**asked), ceiling)
    assert [line for line in refused.value.problems if why in line]
    assert received.study(said(**asked)).name == "x"


def test_what_the_ceiling_grants_is_taken() -> None:
    asked = said(budget={"time": "2h", "trials": 2}, fidelity={"max_epochs": 8})
    assert received.study(asked, Ceiling(hours=2, trials=2, epochs=8)).budget.trials == 2


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
