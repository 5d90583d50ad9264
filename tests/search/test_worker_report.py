"""A worker's report comes off Ray as it was told, and lost workers are counted in one place."""

from __future__ import annotations

import math

import pytest

from facex_tune.search.worker_losses import WORKER_LOSSES, WorkerLosses
from facex_tune.search.worker_report import End, Epoch, Failure, Fatal, Note, Outage, Report, from_json, to_json

NOTES = (Note("hung", "no batch was done for 300 s"), Note("out_of_memory", "a batch of 32 is halved"))


@pytest.mark.parametrize(
    "report",
    [
        Epoch(1, {"macro_f1": 0.5}, 1.5, "node1"),
        Epoch(2, {"macro_f1": math.inf}, 1.5, "node1", unsaved=True, notes=NOTES),
        End(3, {"macro_f1": 0.6}, 2.0, "node1", notes=NOTES[:1]),
        Failure("diverged", "loss is nan", 3.0, notes=NOTES),
        Fatal("no space left in /runs: 1 MB more are needed"),
        Outage("s3://bucket has not answered for 60 s", notes=NOTES),
    ],
)
def test_every_kind_of_report_travels_as_text(report: Report) -> None:
    received = from_json(to_json(report))
    assert received == report
    assert type(received) is type(report)


def test_a_job_is_given_up_at_the_loss_after_the_last_one_allowed_in_an_epoch() -> None:
    losses = WorkerLosses()
    for _ in range(3):
        losses.lose("a", "the node is gone", "epoch 1")
    losses.trained("a")
    other = losses.lose("b", "the node is gone", "epoch 7")
    assert (other.left, other.reason, other.detail) == (
        WORKER_LOSSES - 1,
        "worker_lost",
        "1 of 5 times in epoch 7: the node is gone",
    )
    told = [losses.lose("a", "the node is gone", "epoch 2") for _ in range(WORKER_LOSSES + 1)]
    assert [loss.gives_up for loss in told] == [False] * WORKER_LOSSES + [True]
    assert (told[-1].reason, told[-1].detail) == ("error", "its worker was lost 6 times in epoch 2: the node is gone")


def test_a_worker_that_the_machine_had_no_memory_for_is_given_up_for_that_reason() -> None:
    losses = WorkerLosses()
    told = [losses.lose(0, "the node was running low on memory", "one epoch") for _ in range(WORKER_LOSSES + 1)]
    assert [loss.reason for loss in told] == ["worker_lost"] * WORKER_LOSSES + ["out_of_memory"]
