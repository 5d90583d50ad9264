"""What every part keeps, whatever its family."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from facex_tune import parts
from facex_tune.space import Choice, Config, Knob

N_CLASSES = 7
WHOLE = 48  # pixels of a side


class PartContract:
    """A test class for one part; subclasses of it are for one family each.

    Attributes:
        family: "model", "augment" or "balance".
        name: the part's, which is its file's.
        parts_folder: the folder of your own parts that holds it; None for a part of this package.
        cases: of a test's further arguments, by name: what each is called, and its value.

    A test that takes `knobs` runs for the defaults, and for each knob at each end of its range beside them.
    """

    family: ClassVar[str]
    name: ClassVar[str]
    parts_folder: ClassVar[Path | str | None] = None
    cases: ClassVar[dict[str, dict[str, Any]]] = {}

    @classmethod
    def pytest_generate_tests(cls, metafunc: Any) -> None:
        """Hands the configurations to the tests that want them."""
        if "knobs" in metafunc.fixturenames:
            cls.use_folder()
            cases = at_the_ends(cls.family, cls.name)
            metafunc.parametrize("knobs", list(cases.values()), ids=list(cases))
        for argument in sorted(cls.cases.keys() & set(metafunc.fixturenames)):
            given = cls.cases[argument]
            metafunc.parametrize(argument, list(given.values()), ids=list(given))

    @classmethod
    def use_folder(cls) -> None:
        """Makes the part known by its name."""
        if cls.parts_folder is not None:
            parts.use_folder(cls.parts_folder)

    def setup_method(self) -> None:
        """Draws the same numbers for every test, on one thread."""
        self.use_folder()
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(1)
        torch.manual_seed(0)

    def teardown_method(self) -> None:
        """Gives the threads back."""
        torch.set_num_threads(self._threads_before)

    def test_a_part_says_what_it_is_and_where_it_comes_from(self) -> None:
        doc = parts.find(self.family, self.name).__doc__
        assert doc, "a docstring is what `facex-tune parts` prints"
        assert parts.summary(self.family, self.name) == doc.splitlines()[0].strip()
        assert len(parts.summary(self.family, self.name)) > 20, "its first line says what it is"
        assert self.name == "none" or "\nSource: " in doc, "a `Source:` line: paper with year, or whose work it is"

    def test_every_knob_has_a_range_that_holds_its_default(self) -> None:
        for knob, space in parts.find(self.family, self.name).SPACE.items():
            assert knob.isidentifier(), f"{knob!r}: letters, digits and _ alone"
            assert space.holds(space.default), f"{knob}: the default {space.default!r} is outside {space}"
            assert space.doc, f"{knob}: one line of what it does"
            if isinstance(space, Choice):
                assert len(set(space.options)) == len(space.options) > 1, f"{knob}: two options or more, each once"
            else:
                assert space.low < space.high, f"{knob}: its range has two ends"
                assert space.low > 0 or not space.log, f"{knob}: a logarithm needs a range above zero"


def defaults(family: str, name: str) -> Config:
    """A part's knobs at their defaults."""
    return {knob: space.default for knob, space in parts.find(family, name).SPACE.items()}


def ends(knob: Knob) -> list[Any]:
    """Both ends of a range, or every option."""
    return list(knob.options) if isinstance(knob, Choice) else [knob.low, knob.high]


def at_the_ends(family: str, name: str) -> dict[str, Config]:
    """The defaults, then each knob at each end of its range with the others at their default, by what differs."""
    usual = defaults(family, name)
    cases = {"defaults": usual}
    for knob, space in parts.find(family, name).SPACE.items():
        for value in ends(space):
            if value != usual[knob] or isinstance(value, bool) != isinstance(usual[knob], bool):
                cases[f"{knob}={value}"] = usual | {knob: value}
    return cases


def faces(n: int = 4, side: int = WHOLE) -> Tensor:
    """Noise in the form of a batch of faces, faces_N1HW from 0 to 1, the same each time."""
    return torch.rand(n, 1, side, side, generator=generator(7))


def generator(seed: int = 0) -> torch.Generator:
    """A source of random numbers of its own."""
    return torch.Generator().manual_seed(seed)
