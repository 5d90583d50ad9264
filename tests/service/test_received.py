"""Studies that somebody sent."""

from __future__ import annotations

import json
import os
import time

import pytest

from facex_tune.errors import InputError
from facex_tune.service import received
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
    expected = f"{key}: a service opens no file of its host, and so not {value!r}; choices: false, \"imagenet\""
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
