"""The public surface: no name comes or goes unnoticed."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import facex_tune
from facex_tune import errors, testing

PACKAGE = Path(facex_tune.__file__).parent
NAMES = [
    *("Best", "Budget", "Evaluate", "Face", "Fidelity", "InputError", "Interrupted", "Model", "Range", "Resources"),
    "Retrain",
    *("Run", "Sampling", "Search", "Study", "Suggestion", "Train", "__version__", "load_model", "load_run", "open_run"),
    "run",
]
TESTING = ["AugmentContract", "BalanceContract", "HostWait", "ModelContract", "PartContract", "no_host_waits"]


def test_the_public_names_are_these() -> None:
    assert sorted(facex_tune.__all__) == sorted(NAMES)
    assert sorted(testing.__all__) == sorted(TESTING)
    assert set(NAMES) - {"__version__"} == set(facex_tune._FILE_OF)
    assert set(NAMES) <= set(dir(facex_tune))
    assert not hasattr(facex_tune, "nothing")


def test_every_public_method_is_documented_and_typed() -> None:
    classes = [getattr(facex_tune, name) for name in NAMES if isinstance(getattr(facex_tune, name), type)]
    for each in [each for each in classes if each.__module__.startswith("facex_tune.api")]:
        for name, member in vars(each).items():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if name.startswith("_") or not inspect.isfunction(function):
                continue
            assert function.__doc__, f"{each.__name__}.{name}"
            assert "return" in function.__annotations__, f"{each.__name__}.{name}"


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for module, names in ((facex_tune, NAMES), (testing, TESTING)):
        for name in names:
            assert hasattr(module, name)
            assert name == "__version__" or getattr(module, name).__doc__


def test_no_public_name_is_a_rooms() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    assert not rooms & set(NAMES)


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    """Every class of an error in the package stands in the drawing, below the one that it is one of."""
    assert errors.__doc__ is not None
    rows = [re.match(r"([ │├└─]*)(\w+)", line) for line in errors.__doc__.splitlines()[2:] if line.strip()]
    above: list[tuple[int, str]] = []
    drawn: dict[str, str] = {}
    for row in filter(None, rows):
        depth, name = len(row[1]), row[2]
        above = [each for each in above if each[0] < depth]
        if above:
            drawn[name] = above[-1][1]
        above.append((depth, name))
    ends = {"Exception", "BaseException", "OSError", "UserWarning"}
    found: dict[str, str] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            if isinstance(node, ast.ClassDef) and bases and bases[0] in ends | set(drawn):
                found[node.name] = bases[0]
    assert found == {name: base for name, base in drawn.items() if name not in ends}


def test_of_many_choices_the_first_are_told_and_how_many_are_left() -> None:
    names = [f"run{number:03d}" for number in range(200)]
    said = errors.nearest("rum007", names)
    assert said.startswith("did you mean run007 or ")
    assert "run049 and 150 more)" in said
    assert "run050" not in said.partition("(")[2]
    assert errors.nearest("zzz", names[:3]) == "choices: run000, run001, run002"
