"""Speeds of trainings that share a machine."""

from __future__ import annotations

import pytest

from facex_tune import study
from facex_tune.pipeline import side_by_side


def test_two_trainings_tell_their_speed_and_one_that_breaks_tells_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "SECONDS", 0.0)
    said = {"version": 1, "name": "x", "data": "synthetic"}
    parsed = study.parse({**said, "space": {"model": [{"resnet": {"width": 16}}], "train": {"batch_size": 8}}})
    with side_by_side.Gauges(2, 1) as gauges:
        speed = gauges.images_per_second(parsed.space.of_model("resnet"), 7)
        assert speed is not None
        assert speed > 0
        assert gauges.images_per_second({"model": "no such"}, 7) is None
        assert gauges.images_per_second(parsed.space.of_model("resnet"), 7) is None, "a process has ended"
    assert not [process for process in gauges._processes if process.poll() is None]


def test_one_training_alone_needs_no_process() -> None:
    with side_by_side.Gauges(1, 1) as gauges:
        assert gauges.images_per_second({}, 7) is None
    assert not gauges._processes
