"""What there is to search over, as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from facex_tune import parts
from facex_tune.inspection import catalog

OWN = Path(__file__).resolve().parents[1] / "faults" / "parts"


def test_a_part_is_told_by_its_place_in_the_package_and_one_of_the_users_by_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "_own_folders", [])
    parts.use_folder(OWN)
    found = catalog.of_parts(["model", "balance"], [])["families"]
    assert found["model"]["resnet"]["file"] == "models/resnet.py"
    assert found["balance"]["focal"]["file"] == "balance/focal.py"
    assert found["model"]["faulty_net"]["file"] == str(OWN / "models" / "faulty_net.py")
