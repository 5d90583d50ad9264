"""The public surface: no name comes or goes unnoticed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import facex_tune
from facex_tune import errors, testing

PACKAGE = Path(facex_tune.__file__).parent
NAMES = ["__version__", "load_run"]
TESTING = ["AugmentContract", "BalanceContract", "HostWait", "ModelContract", "PartContract", "no_host_waits"]


def test_the_public_names_are_these() -> None:
    assert sorted(facex_tune.__all__) == sorted(NAMES)
    assert sorted(testing.__all__) == sorted(TESTING)
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert {name for name in defined if not name.startswith("_")} == set(NAMES) - {"__version__"}


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
