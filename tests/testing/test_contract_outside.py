"""The contract as somebody uses it who has a part of his own: from a folder outside this repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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
TESTS = """
from facex_tune.testing import ModelContract


class TestTiny(ModelContract):
    parts_folder = "my_parts"
    name = "tiny"
"""


def held(folder: Path, part: str, *words: str) -> tuple[int, str]:
    """What pytest says of the part, run in that folder; `words` choose some of the tests."""
    (folder / "my_parts" / "models").mkdir(parents=True)
    (folder / "my_parts" / "models" / "tiny.py").write_text(part)
    (folder / "test_tiny.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_tiny.py", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_sound_part_passes(tmp_path: Path) -> None:
    code, said = held(tmp_path, TINY)
    assert code == 0, said
    assert int(said.split(" passed")[0].split()[-1]) >= 15, said


@pytest.mark.parametrize(
    ("sound", "broken", "test"),
    [
        ("Source: this test.", "Nobody knows.", "test_a_part_says_what_it_is_and_where_it_comes_from"),
        ("0.0, 0.5, 0.1", "0.0, 0.5, 0.7", "test_every_knob_has_a_range_that_holds_its_default"),
        ("nn.AdaptiveAvgPool2d(32)", "nn.Identity()", "test_a_model_takes_faces_of_every_size_that_training_shows"),
        ("* 32, n_classes)", "* 32, 7)", "test_a_model_answers_as_many_classes_as_asked"),
    ],
)
def test_a_broken_promise_is_named(tmp_path: Path, sound: str, broken: str, test: str) -> None:
    code, said = held(tmp_path, TINY.replace(sound, broken), "-k", test)
    assert code == 1, said
    assert f"::{test}" in said
