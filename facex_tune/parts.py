"""Parts by file name: the listing of `models/`, `augment/` and `balance/` is the registry.

Each file is one part. It has a `SPACE` (its own knobs), a docstring with its source, and

- a model: ``build(knobs, n_classes) -> nn.Module`` on ``faces_NCHW`` (normalised), and ``PRECISION``
  ("bf16" for dense convolutions, "fp32" for depthwise ones); one that takes faces in colour too has a third argument
  ``face``, an `emotions.FaceShape`, whose `channels` (1 or 3) its first layer reads; a set's faces may have other
  sides than 48 pixels, which a model takes as they come;
- an augmentation: ``build(knobs) -> (faces_NCHW, generator) -> faces_NCHW``, random per image, on the batch's own
  device, pixels in [0, 1], in whatever size and number of channels the faces have;
- a balancing strategy: ``plan(labels_N, n_classes, knobs) -> balance.Plan``; one whose loss reads how frequent classes
  are takes ``targets``, a `balance.Targets`, as well: what labels, votes and label smoothing make it learn.

A part may also have ``problems(knobs) -> list[str]``: of a study's ranges, what would stop it here (a library or a file
that is missing), told before anything starts (it may take ``face`` too); and ``notes(knobs) -> list[str]``: what is
worth knowing although it stops nothing. A model with a knob `pretrained` has ``load_pretrained(network, knobs)``, which
puts the weights that the knob names into a network that `build` made.

Parts import torch inside these functions, so that a study is read and checked without it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from facex_tune.emotions import GREY_48, FaceShape
from facex_tune.errors import InputError, nearest, one_line
from facex_tune.space import FAMILIES, Config, Knobs, Space, knobs_of
from facex_tune.storage import files

FOLDERS = {"model": "models", "augment": "augment", "balance": "balance"}
MUST_HAVE = {"model": ("SPACE", "PRECISION", "build"), "augment": ("SPACE", "build"), "balance": ("SPACE", "plan")}
PRECISIONS = ("bf16", "fp32")
_DOES_NOT = {
    "model": "build() makes no network from faces N x 1 x 48 x 48 (or as its sets have them) to logits N x 7",
    "augment": "build() makes nothing that changes faces N x 1 x 48 x 48 (or as its sets have them)",
    "balance": "plan() makes nothing that balances labels of 7 classes",
}
_OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")  # is the machine's, and no fault of a file

Scale = float | tuple[float, ...]
"""A mean or standard deviation of pixels: one number in grey, one a channel in colour."""

_own_folders: list[Path] = []


class Part(Protocol):
    """What every part's module offers; `build` or `plan` by family."""

    SPACE: Knobs
    __doc__: str | None


class ModelPart(Part, Protocol):
    """One architecture family."""

    PRECISION: str

    def build(self, knobs: Config, n_classes: int) -> Any:
        """An `nn.Module` from faces_NCHW to logits_NC. A part may take `face` too, by that name; see `network`."""

    def load_pretrained(self, network: Any, knobs: Config) -> Pretrained:
        """Only of parts with a knob `pretrained`: loads the weights that it names; where they are from, and the scale
        of pixels in [0, 1] that they expect.
        """


class Pretrained(Protocol):
    """Weights that a model starts from: the mean and standard deviation that they expect of pixels in [0, 1], the file
    and its SHA-256.
    """

    @property
    def mean(self) -> Scale: ...
    @property
    def std(self) -> Scale: ...
    @property
    def file(self) -> str: ...
    @property
    def sha256(self) -> str: ...


class AugmentPart(Part, Protocol):
    """One augmentation policy."""

    def build(self, knobs: Config) -> Any:
        """A function (faces_NCHW, torch.Generator) -> faces_NCHW."""


class BalancePart(Part, Protocol):
    """One class-balancing strategy."""

    def plan(self, labels_N: Any, n_classes: int, knobs: Config) -> Any:
        """A `facex_tune.balance.Plan` for labels_N (a LongTensor on the training device). A part may take `targets`
        too, by that name; see `balance_plan`.
        """


def use_folder(folder: Path | str) -> None:
    """Adds a folder of the user's own parts (``models/x.py`` and so on); the package itself stays untouched.

    Raises:
        InputError: no such folder, no part in it, or a part whose name the package has already.
    """
    root = files.absolute(folder)
    if any(root == known or (root.exists() and root.samefile(known)) for known in _own_folders):
        return
    found = [(family, path) for family in FAMILIES for path in _files(root / FOLDERS[family])]
    if not found:
        raise InputError(
            f"no parts in {root}: expected files such as models/my_net.py, augment/x.py or balance/y.py in it"
        )
    for family, path in found:
        if not path.stem.isidentifier():
            raise InputError(f"{path}: a part is called by its file's name; use letters, digits and _ alone")
        if path.stem in names(family):
            raise InputError(f"{path}: the {family} {path.stem!r} exists already; give the file another name")
    _own_folders.append(root)


def own_folders() -> list[str]:
    """The folders added by `use_folder`, for a worker process to add too."""
    return [str(folder) for folder in _own_folders]


def is_own(family: str, name: str) -> bool:
    """Whether the part is the user's, from a folder of `use_folder`."""
    return any(path.stem == name for root in _own_folders for path in _files(root / FOLDERS[family]))


@contextmanager
def blaming(config: Config) -> Iterator[None]:
    """What goes wrong in a part of the user's own, as wrong input that names the part. A network that breaks may do so
    in a layer of torch's; it is blamed where no other part of the user's own was under way.

    Raises:
        InputError: it does.
    """
    try:
        yield
    except Exception as error:
        blamed = _to_blame(config, error)
        if blamed is None or isinstance(error, InputError) or type(error).__name__ in _OUT_OF_MEMORY:
            raise
        family, name = blamed
        reason = f"{type(error).__name__}: {one_line(error, 300)}"
        raise InputError(f"{family} {name}: {_DOES_NOT[family]} ({reason}); mend its file") from error


def _to_blame(config: Config, error: BaseException) -> tuple[str, str] | None:
    """The family and name of the part of the user's own that was under way when the error came."""
    ran = {Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)}
    for family in sorted(FOLDERS, key=lambda family: family == "model"):
        name = str(config.get(family, ""))
        files_of_it = {path for root in _own_folders for path in _files(root / FOLDERS[family]) if path.stem == name}
        if files_of_it and (family == "model" or files_of_it & ran):
            return family, name
    return None


def names(family: str) -> list[str]:
    """The names of a family's parts, sorted."""
    return sorted(path.stem for path in _all_files(family))


def find(family: str, name: str) -> ModuleType:
    """The part's module.

    Raises:
        InputError: there is no such part (with the nearest names), or the file lacks what its family needs.
    """
    paths = {path.stem: path for path in _all_files(family)}
    if name not in paths:
        raise InputError(f"{family}: no part named {name!r}; {nearest(name, sorted(paths))}")
    module = _load(family, paths[name])
    if missing := [needed for needed in MUST_HAVE[family] if not hasattr(module, needed)]:
        raise InputError(
            f"{paths[name]}: a {family} part needs {', '.join(MUST_HAVE[family])}; missing: {', '.join(missing)}"
        )
    if family == "model" and module.PRECISION not in PRECISIONS:
        raise InputError(f"{paths[name]}: PRECISION {module.PRECISION!r} is none of {', '.join(PRECISIONS)}")
    return module


def model(name: str) -> ModelPart:
    """The architecture family of that name."""
    return cast(ModelPart, find("model", name))


def augment(name: str) -> AugmentPart:
    """The augmentation policy of that name."""
    return cast(AugmentPart, find("augment", name))


def balance(name: str) -> BalancePart:
    """The balancing strategy of that name."""
    return cast(BalancePart, find("balance", name))


def network(name: str, knobs: Config, n_classes: int, face: FaceShape) -> Any:
    """The `nn.Module` of an architecture for faces of a shape, which it is told if it asks for it.

    Raises:
        InputError: the faces are in colour, and the part takes no `face`.
    """
    build: Any = model(name).build
    if "face" in inspect.signature(build).parameters:
        return build(knobs, n_classes, face=face)
    if face.is_colour:
        raise InputError(_grey_alone(name))
    return build(knobs, n_classes)


def balance_plan(name: str, labels_N: Any, n_classes: int, knobs: Config, targets: Any) -> Any:
    """The `balance.Plan` of a strategy, which is told the `balance.Targets` of the training if it asks for them."""
    plan = balance(name).plan
    told = {"targets": targets} if "targets" in inspect.signature(plan).parameters else {}
    return plan(labels_N, n_classes, knobs, **told)


def problems(space: Space, face: FaceShape = GREY_48) -> list[str]:
    """What would stop the chosen parts on this machine and with faces of that shape, a line each, as far as the parts
    themselves can tell.
    """
    chosen = [(find(family, name), own) for family, options in space.parts.items() for name, own in options.items()]
    found: list[str] = []
    for module, own in chosen:
        ask = getattr(module, "problems", None)
        told = {"face": face} if ask is not None and "face" in inspect.signature(ask).parameters else {}
        found += ask(own, **told) if ask is not None else []
    if face.is_colour:
        found += [each for name in space.parts["model"] if (each := _grey_alone(name))]
    return found


def _grey_alone(name: str) -> str:
    """Why a model takes no faces in colour; "" where it does."""
    if "face" in inspect.signature(model(name).build).parameters:
        return ""
    return (
        f"model {name}: its build() takes no `face`, and so grey faces alone: give it `face` (its first layer has "
        "`face.channels`), leave it out of the study, or prepare the sets without --colour"
    )


def notes(space: Space) -> list[str]:
    """What is worth knowing of the chosen parts although it stops nothing, a line each, as far as they can tell."""
    chosen = [(find(family, name), own) for family, options in space.parts.items() for name, own in options.items()]
    return [line for module, own in chosen if hasattr(module, "notes") for line in module.notes(own)]


def knobs(family: str, config: Config) -> Config:
    """The chosen part's own knobs; one that the part got after the configuration was recorded has its default."""
    space: Knobs = find(family, str(config[family])).SPACE
    return {name: knob.default for name, knob in space.items()} | knobs_of(family, config)


def summary(family: str, name: str) -> str:
    """The first line of a part's docstring, read without running the file.

    Raises:
        InputError: the file is no Python.
    """
    path = {path.stem: path for path in _all_files(family)}[name]
    try:
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except ValueError as error:  # NUL bytes, or no UTF-8
        raise InputError(f"{path}: this part is no Python file: {error}") from error
    except SyntaxError as error:
        raise InputError(f"{path}: this part does not parse: {error.msg}, line {error.lineno}") from error
    return doc.partition("\n")[0]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.py") if not path.stem.startswith("_")]


def _all_files(family: str) -> list[Path]:
    roots = [Path(__file__).parent, *_own_folders]
    return [path for root in roots for path in _files(root / FOLDERS[family])]


def _load(family: str, path: Path) -> ModuleType:
    if path.parent.parent == Path(__file__).parent:
        return importlib.import_module(f"facex_tune.{FOLDERS[family]}.{path.stem}")
    name = f"facex_own_parts.{FOLDERS[family]}.{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):  # another folder may have a part of the same name
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        reason = one_line(error)  # one line, whatever the part's own error looks like
        raise InputError(f"{path}: this part does not import: {type(error).__name__}: {reason}") from error
    sys.modules[name] = module
    return module
