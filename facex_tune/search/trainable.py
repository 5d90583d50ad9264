"""A worker as a Tune Trainable: a warm actor that takes one trial after another."""

from __future__ import annotations

from typing import Any

from ray import tune

from facex_tune.search import data_placement, telemetry, worker_report
from facex_tune.search.job import Context, Job


class FaceTrial(tune.Trainable):
    """Its config is ``{"trial": our number, "job": a Job as plain data}``; each step is an epoch, its report one JSON
    text (see `worker_report`).

    Tune's own checkpointing is off: epochs are saved through `store`, under our trial number, which outlives Tune's
    ids.
    """

    def setup(self, config: dict[str, Any], context: Context, shared: data_placement.Shared) -> None:  # type: ignore[override]
        """Starts the worker and takes the first trial."""
        from facex_tune.search.worker import Worker  # here, so that the driver, which names this class, has no torch

        self._worker = Worker(data_placement.placed(context, shared))
        self._begin(config)

    def step(self) -> dict[str, Any]:
        """Trains one epoch."""
        report = self._worker.step()
        telemetry.tell_gpu_memory(self._worker.context.run)
        return {"report": worker_report.to_json(report)}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial in the same process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        job = config["job"]
        self._worker.begin(Job(**{**job, "seed": tuple(job["seed"])}))
