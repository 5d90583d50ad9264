"""Runs that were really built, searched and retrained, as in tests/evaluation."""

from __future__ import annotations

from tests.evaluation.conftest import _one_thread, data_dir, make_run

__all__ = ["_one_thread", "data_dir", "make_run"]
