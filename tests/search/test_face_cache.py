"""Where a host keeps the sets that it fetched: absolute from where the user says it, and never relative in a worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from facex_tune.errors import InputError
from facex_tune.search import face_cache, ray_session


def test_a_driver_makes_it_absolute_before_ray_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setenv(face_cache.CACHE, "kept")
    with pytest.raises(InputError, match="no address of a Ray cluster"), ray_session.connected("nowhere"):
        pass
    assert os.environ[face_cache.CACHE] == str(tmp_path / "kept")
    assert face_cache.folder() == tmp_path / "kept"


def test_a_workers_own_is_refused_where_it_is_relative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(face_cache.CACHE, "kept")
    with pytest.raises(InputError, match=r"^FACEX_CACHE=kept on .*: a relative path is another folder"):
        face_cache.folder()
