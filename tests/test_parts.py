"""A part is a file: one that is added appears, one that is wrong is one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from facex_tune import parts, study
from facex_tune.errors import InputError
from facex_tune.inspection import costs
from facex_tune.space import Config

ROOT = Path(__file__).resolve().parents[1]
TINY = '''"""A single linear layer over all pixels of a face.

Source: this test.
"""

from facex_tune.space import Float

PRECISION = "fp32"
SPACE = {"dropout": Float(0.0, 0.5, 0.1, doc="before the layer")}


def build(knobs, n_classes):
    from torch import nn

    pool = nn.AdaptiveAvgPool2d(32)
    return nn.Sequential(pool, nn.Flatten(), nn.Dropout(knobs["dropout"]), nn.Linear(32 * 32, n_classes))
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for own parts, forgotten afterwards."""
    monkeypatch.setattr(parts, "_own_folders", [])
    folder = tmp_path / "mine"
    (folder / "models").mkdir(parents=True)
    yield folder
    for name in [name for name in sys.modules if name.startswith("facex_own_parts.")]:
        del sys.modules[name]


def refused(call: object, *words: str) -> None:
    assert callable(call)
    with pytest.raises(InputError) as told:
        call()
    assert len(told.value.problems) == 1
    assert "\n" not in str(told.value)
    for word in words:
        assert word in str(told.value)


# The package's own


def test_the_listing_is_the_registry() -> None:
    for family, folder in parts.FOLDERS.items():
        files = (ROOT / "facex_tune" / folder).glob("*.py")
        assert parts.names(family) == sorted(file.stem for file in files if not file.name.startswith("_"))
    assert {"facex_cnn", "resnet"} <= set(parts.names("model"))
    assert {"none", "flip_shift", "facex"} <= set(parts.names("augment"))
    assert {"none", "class_weights", "logit_adjust"} <= set(parts.names("balance"))


def test_an_unknown_part_is_one_line_with_the_nearest() -> None:
    refused(lambda: parts.find("model", "resnte"), "model: no part named 'resnte'", "did you mean resnet")
    refused(lambda: parts.find("model", "_affine"), "'_affine'")
    refused(lambda: parts.find("balance", "resnet"), "balance: no part named 'resnet'", "choices: balanced_softmax")


def test_a_file_added_to_the_package_appears_everywhere(tmp_path: Path) -> None:
    """In the listing, in a study that names it, and in the contract tests; nothing else is edited."""
    shutil.copytree(ROOT / "facex_tune", tmp_path / "facex_tune", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "contracts", tmp_path / "contracts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "facex_tune" / "models" / "tiny_one.py").write_text(TINY)
    code = (
        "import json, sys; from facex_tune import parts, study;"
        "s = study.parse({'version': 1, 'name': 'x', 'data': 'synthetic', 'space': {'model': ['tiny_one']}});"
        "dropout = s.space.defaults()['model.tiny_one.dropout'];"
        "print(json.dumps([parts.names('model'), dropout, 'torch' in sys.modules]))"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    names, dropout, imported_torch = json.loads(told.stdout)
    assert "tiny_one" in names
    assert dropout == 0.1
    assert not imported_torch, "a study is read without torch"
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "tiny_one", "contracts/test_parts.py"]
    held = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert held.returncode == 0, held.stdout
    assert int(held.stdout.split(" passed")[0].split()[-1]) >= 10


# A user's own


def test_an_own_part_appears_beside_the_packages(own: Path) -> None:
    before = parts.names("model")
    (own / "models" / "tiny.py").write_text(TINY)
    parts.use_folder(own)
    parts.use_folder(str(own))
    assert parts.own_folders() == [str(own.resolve())]
    assert parts.names("model") == sorted(["tiny", *before])
    assert parts.names("model").count("tiny") == 1
    assert parts.summary("model", "tiny") == "A single linear layer over all pixels of a face."
    space = {"model": [{"tiny": {"dropout": [0.2]}}, "resnet"]}
    said = {"version": 1, "name": "x", "data": "synthetic", "space": space}
    assert study.parse(said).space.complete({"model": "tiny"})["model.tiny.dropout"] == 0.2
    assert parts.model("tiny").PRECISION == "fp32"
    assert parts.find("model", "tiny") is parts.find("model", "tiny"), "the file runs once"


def test_a_part_of_another_folder_is_not_one_of_the_same_name_loaded_before(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = own.with_name("other")
    for folder in (own, other):
        (folder / "models").mkdir(parents=True, exist_ok=True)
        (folder / "models" / "tiny.py").write_text(TINY)
    parts.use_folder(own)
    first = parts.find("model", "tiny")
    monkeypatch.setattr(parts, "_own_folders", [])
    parts.use_folder(other)
    assert parts.find("model", "tiny") is not first
    assert parts.find("model", "tiny").__file__ == str(other / "models" / "tiny.py")


def test_own_parts_of_every_family_and_shared_code_beside_them(own: Path) -> None:
    (own / "models" / "tiny.py").write_text(TINY)
    (own / "models" / "_shared.py").write_text("raise RuntimeError('never imported by itself')")
    for folder, needed in (("augment", "build"), ("balance", "plan")):
        (own / folder).mkdir()
        (own / folder / "mine.py").write_text(f'"""Mine."""\nSPACE = {{}}\ndef {needed}(*said): return None\n')
    parts.use_folder(own)
    assert "mine" in parts.names("augment")
    assert "mine" in parts.names("balance")
    assert "_shared" not in parts.names("model")
    assert parts.find("balance", "mine").plan() is None
    assert parts.find("augment", "mine") is not parts.find("balance", "mine")


def test_a_name_that_the_package_has_is_refused(own: Path) -> None:
    (own / "models" / "resnet.py").write_text(TINY)
    refused(lambda: parts.use_folder(own), "models/resnet.py", "model 'resnet' exists already", "another name")
    assert parts.own_folders() == []


def test_two_own_folders_may_not_share_a_name(own: Path) -> None:
    other = own.with_name("other")
    for folder in (own, other):
        (folder / "models").mkdir(parents=True, exist_ok=True)
        (folder / "models" / "tiny.py").write_text(TINY)
    parts.use_folder(own)
    refused(lambda: parts.use_folder(other), "other/models/tiny.py", "exists already")


def test_a_folder_without_parts_is_refused(own: Path) -> None:
    refused(lambda: parts.use_folder(own), "no parts in", "models/my_net.py")
    refused(lambda: parts.use_folder(own / "nowhere"), "no parts in", "nowhere")


@pytest.mark.parametrize("name", ["my-net", "my.net", "2nd"])
def test_a_file_whose_name_cannot_qualify_a_knob_is_refused(own: Path, name: str) -> None:
    """`model.my.net.depth` would be a knob of a part named `my`."""
    (own / "models" / f"{name}.py").write_text(TINY)
    refused(lambda: parts.use_folder(own), f"{name}.py", "letters, digits and _")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def build(:\n", ["does not import", "SyntaxError"]),
        ("import no_such_library\n", ["does not import", "ModuleNotFoundError", "no_such_library"]),
        ("raise ValueError('two\\nlines')\n", ["does not import", "ValueError: two lines"]),
        ("SPACE = {}\n", ["needs SPACE, PRECISION, build", "missing: PRECISION, build"]),
        ("\0", ["does not import"]),
    ],
)
def test_a_broken_part_is_one_line_that_names_its_file(own: Path, text: str, words: list[str]) -> None:
    path = own / "models" / "tiny.py"
    path.write_text(text)
    parts.use_folder(own)
    refused(lambda: parts.find("model", "tiny"), str(path), *words)
    said = {"version": 1, "name": "x", "data": "synthetic", "space": {"model": ["tiny"]}}
    refused(lambda: study.parse(said), "space.", str(path), *words)


@pytest.mark.parametrize("text", ["def build(:\n", "\0"])
def test_a_part_that_does_not_parse_is_one_line_in_the_listing_too(own: Path, text: str) -> None:
    (own / "models" / "tiny.py").write_text(text)
    parts.use_folder(own)
    refused(lambda: parts.summary("model", "tiny"), "tiny.py: this part")


def test_a_precision_that_is_none_is_refused(own: Path) -> None:
    (own / "models" / "tiny.py").write_text(TINY.replace('"fp32"', '"fp16"'))
    parts.use_folder(own)
    refused(lambda: parts.find("model", "tiny"), "tiny.py: PRECISION 'fp16' is none of bf16, fp32")


def test_a_network_that_does_not_take_faces_is_one_line(own: Path) -> None:
    """The likeliest slip: a layer whose width is not that of what comes before it."""
    text = TINY.replace("AdaptiveAvgPool2d(32)", "AdaptiveAvgPool2d(31)")
    assert text != TINY
    (own / "models" / "tiny.py").write_text(text)
    parts.use_folder(own)
    config = costs.configuration("tiny")
    said = ("model tiny: build() makes no network from faces N x 1 x 48 x 48", "to logits N x 7", "RuntimeError")
    refused(lambda: costs.counted(config), *said)
    refused(lambda: costs.measured(config, torch.device("cpu"), batch=2, seconds=0.01), *said)


@pytest.mark.parametrize(
    ("family", "body", "said"),
    [
        ("models", "    return 3", ("model tiny: build() makes no network", "AttributeError")),
        ("models", "    from torch import nn\n    return nn.Linear(2, 7)", ("model tiny: build()", "RuntimeError")),
        ("models", "    from torch import nn\n    return nn.Flatten()", ("model tiny: build()", "mend its file")),
        ("augment", "    return lambda faces, draws: faces @ 3", ("augment tiny: build() makes nothing", "TypeError")),
        ("balance", "    return 1 / 0", ("balance tiny: plan() makes nothing", "ZeroDivisionError")),
    ],
)
def test_a_dry_run_tells_a_part_that_breaks(own: Path, family: str, body: str, said: tuple[str, ...]) -> None:
    """Whatever breaks, and in whichever part: it is the user's to mend, and no error of the program."""
    from facex_tune.pipeline import estimating

    (own / family).mkdir(exist_ok=True)
    head = "def plan(labels_N, n_classes, knobs):" if family == "balance" else "def build(knobs, *n_classes):"
    (own / family / "tiny.py").write_text(f'"""Breaks."""\n\nPRECISION, SPACE = "fp32", {{}}\n\n{head}\n{body}\n')
    parts.use_folder(own)
    quick = {"patch_cnn": {"width": 32, "patch": 4}}
    space = {"model": [quick], "augment": ["none"], "balance": ["none"]} | {family.removesuffix("s"): ["tiny"]}
    checked = study.parse({"version": 1, "name": "x", "data": "synthetic", "space": space})
    refused(lambda: estimating.estimate(checked, 64, "cpu"), *said)


def test_a_part_mended_after_a_failure_is_found(own: Path) -> None:
    path = own / "models" / "tiny.py"
    path.write_text("import no_such_library\n")
    parts.use_folder(own)
    refused(lambda: parts.find("model", "tiny"), "does not import")
    path.write_text(TINY)
    assert parts.model("tiny").PRECISION == "fp32"


def test_a_knob_that_a_configuration_predates_has_its_default() -> None:
    config: Config = {"model": "resnet", "model.resnet.width": 16}
    expected = {name: knob.default for name, knob in parts.find("model", "resnet").SPACE.items()} | {"width": 16}
    assert parts.knobs("model", config) == expected
