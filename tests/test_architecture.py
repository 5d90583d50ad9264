"""The house's rules, held by reading syntax trees: who may import what, and what an import costs."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "facex_tune"

EMOTIONS = "data.emotions"  # a vocabulary, below the room that it stands in
# Imports go downwards, or sideways within a layer.
LAYERS = (
    (
        *("__init__", "errors", "remote", "remote_access", "remote_errors", "files", "space", "metrics", "posthoc"),
        *("seeds", "loopback", EMOTIONS),
    ),
    ("parts", "protocols", "recipe", "narrowing", "contradictions", "reading", "study", "history"),
    ("data", "models", "augment", "balance"),
    (
        *("lease", "segments", "retention", "batches", "classifier", "devices", "graphs", "optimization", "train"),
        *("store", "frames"),
    ),
    ("search",),
    ("evidence",),
    ("surroundings", "signals", "estimating", "costs"),
    ("pipeline",),
    ("overview", "runs"),
    ("service",),
    ("outcome", "options", "doctor", "tables", "run_tables"),
    ("plan", "board", "screen", "lines", "progress", "following", "mirrors"),
    ("elsewhere", "cli", "__main__"),
)
KNOW_RAY = ("search", "service")
PARTS = ("models", "augment", "balance")
BY_NAME = {"s3fs", "kagglehub"}  # imported by name: fsspec does it when a URL begins with s3://, and `data get`
HEAVY = ("torch", "torchvision", "scipy", "sklearn", "imblearn")


@dataclass(frozen=True)
class Import:
    """One import: who, what (dotted), and whether it runs when the module is imported."""

    module: str
    target: str
    at_top: bool


def modules(package: Path) -> dict[str, str]:
    """Dotted name inside the package -> source."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def imports(module: str, source: str) -> Iterator[Import]:
    """Every import of a module; those under `if TYPE_CHECKING` and inside functions do not run at the top."""
    yield from _walk(module, ast.parse(source), at_top=True)


def _walk(module: str, node: ast.AST, at_top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(module, alias.name, at_top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module}: imports are written in full"
            yield from (Import(module, f"{child.module}.{alias.name}", at_top) for alias in child.names)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _walk(module, child, at_top and not inside and not typing_only)


def layer(name: str) -> int | None:
    """The layer of a dotted name inside the package, the longest prefix deciding; None: in no layer."""
    for length in range(name.count(".") + 1, 0, -1):
        prefix = ".".join(name.split(".")[:length])
        for index, names in enumerate(LAYERS):
            if prefix in names:
                return index
    return None


def faults(sources: dict[str, str]) -> list[str]:
    """Every import that the house does not allow."""
    found = [f"{name}: stands in no layer" for name in sources if layer(name) is None]
    for name, source in sources.items():
        for each in imports(name, source):
            found += [fault for fault in (_upwards(each), _ray(each), _heavy_part(each)) if fault]
    return found


# `facex_tune.load_run` stands at the bottom for its users' sake; it opens what it needs when it is called, so that
# importing the package stays cheap. This one import, inside a function, and no other.
PUBLIC_DOOR = Import("__init__", "facex_tune.frames", at_top=False)


def _upwards(each: Import) -> str:
    if each == PUBLIC_DOOR:
        return ""
    if not each.target.startswith("facex_tune."):
        return ""
    here, there = layer(each.module), layer(each.target.removeprefix("facex_tune."))
    if here is not None and there is not None and there > here:
        return f"{each.module} imports {each.target}: upwards"
    return ""


def _ray(each: Import) -> str:
    if each.target.partition(".")[0] == "ray" and each.module.partition(".")[0] not in KNOW_RAY:
        return f"{each.module} imports {each.target}: only search and service know Ray"
    return ""


def _heavy_part(each: Import) -> str:
    family, _, name = each.module.partition(".")
    is_part = family in PARTS and name and not name.startswith("_")
    if is_part and each.at_top and each.target.partition(".")[0] in HEAVY:
        return f"{each.module} imports {each.target} when it is imported: parts do so inside their functions"
    return ""


def test_every_import_goes_downwards() -> None:
    assert faults(modules(PACKAGE)) == []


@pytest.mark.parametrize(
    ("module", "planted", "said"),
    [
        ("train", "import ray", "only search and service know Ray"),
        ("train", "def f():\n    from ray import tune", "only search and service know Ray"),
        ("errors", "from facex_tune.train import run", "upwards"),
        ("store", "from facex_tune import pipeline", "upwards"),
        ("__init__", "from facex_tune import frames", "upwards"),
        ("__init__", "def f():\n    from facex_tune import pipeline", "upwards"),
        ("errors", "def f():\n    from facex_tune import frames", "upwards"),
        ("models.resnet", "from torch import nn", "inside their functions"),
        ("somewhere", "import json", "in no layer"),
    ],
)
def test_a_planted_import_is_found(module: str, planted: str, said: str) -> None:
    sources = modules(PACKAGE)
    found = set(faults(sources | {module: f"{sources.get(module, '')}\n{planted}\n"})) - set(faults(sources))
    assert len(found) == 1
    assert said in found.pop()


def loaded_by(statement: str, path: Path = ROOT) -> set[str]:
    """Top-level names of every module in a fresh interpreter after a statement."""
    tell = "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    code = f"import json, sys\n{statement}\n{tell}"
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return set(names)


def installed_by(*distributions: str) -> set[str]:
    """Top-level modules of distributions and of everything that they require."""
    wanted, seen = list(distributions), set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            asked = requires(name) or []
        except ModuleNotFoundError:  # a requirement of another platform
            continue
        wanted += [re.split(r"[^\w.-]", line)[0] for line in asked if "extra ==" not in line]
    provided = packages_distributions().items()
    return {module for module, owners in provided if seen & {re.sub(r"[-_.]+", "-", each).lower() for each in owners}}


def not_of_torch(loaded: set[str]) -> set[str]:
    """What is loaded beyond the standard library, this package, torch, numpy, and what these two require or load."""
    third_party = set(packages_distributions())
    theirs = installed_by("torch", "numpy") | loaded_by("import torch, numpy")
    return (loaded & third_party) - theirs - {"facex_tune"}


def test_training_needs_torch_and_numpy_only() -> None:
    assert not_of_torch(loaded_by("import facex_tune.train")) == set()


def test_a_planted_import_in_train_is_loaded_and_found(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "facex_tune", ignore=shutil.ignore_patterns("__pycache__"))
    train = tmp_path / "facex_tune" / "train.py"
    train.write_text(train.read_text(encoding="utf-8").replace("import torch\n", "import torch\nimport ray\n", 1))
    assert "ray" in not_of_torch(loaded_by("import facex_tune.train", tmp_path))


def test_importing_the_package_is_cheap() -> None:
    heavy = {"torch", "ray", "numpy", "pandas", "pydantic", "typer", "rich", "yaml"}
    assert loaded_by("import facex_tune") & heavy == set()


def test_the_command_line_and_its_help_load_nothing_heavy() -> None:
    heavy = {"torch", "ray", "numpy", "pandas", "pydantic", "optuna", "matplotlib", "pyarrow"}
    assert loaded_by("import facex_tune.cli") & heavy == set()


@pytest.mark.parametrize("study", sorted(path.name for path in (ROOT / "search_spaces").glob("*.yaml")))
def test_a_study_is_read_without_torch_or_ray(study: str) -> None:
    load = f"study.load(Path('{ROOT}/search_spaces/{study}'))"
    statement = f"from pathlib import Path; from facex_tune import study; {load}"
    assert loaded_by(statement) & {"torch", "ray", "optuna"} == set()


def test_every_dependency_is_used_and_every_use_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"].items()
    extras = [line for extra, lines in optional if extra not in ("test", "bench") for line in lines]
    names = {re.split(r"[^\w.-]", line)[0] for line in [*project["dependencies"], *extras]}
    provided = packages_distributions()
    every = [each for name, source in modules(PACKAGE).items() for each in imports(name, source)]
    used = {each.target.partition(".")[0] for each in every} - {"facex_tune"}
    # an extra that is not installed here is known by its own name
    owners = {owner.lower() for module in used for owner in provided.get(module, {module} & names)}
    assert {name.lower() for name in names} - BY_NAME == owners
