#!/usr/bin/env bash
# ray[tune] 2.60.0: with `reuse_actors=True` a worker that is lost while it changes to its next trial
# (`reset_config`) is told of twice, once for the actor and once for the task. At the first time the trial is put back to
# be tried again; at the second it counts as waiting, and for a trial that waits the retries that `max_failures` promises
# are not looked at: it ends as ERROR, although one failure of six was allowed. A worker that is lost in `step` is
# replaced as promised. Where hosts die this is not rare: what was asked of a dead worker waits until Ray knows of it.
# Seen: "lost in step: ['TERMINATED', 'TERMINATED'], lost in reset_config: ['TERMINATED', 'ERROR']".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'ray[tune]==2.60.0'
cd "$folder"
HOME="$folder" RAY_DEDUP_LOGS=0 "$folder/venv/bin/python" - <<'PYTHON'
import os
from pathlib import Path

import ray
from ray import tune

FOLDER = Path.cwd()


class Mortal(tune.Trainable):
    """Ends its process once, where its study says."""

    def setup(self, config):
        self.config = config

    def _die_once(self, where):
        flag = FOLDER / f"died-{self.config['dies_in']}"
        if self.config["dies_in"] == where and self.config["number"] == 1 and not flag.exists():
            flag.touch()
            os._exit(1)

    def step(self):
        self._die_once("step")
        return {"done": True}

    def reset_config(self, new_config):
        self.config = new_config
        self._die_once("reset_config")
        return True


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
seen = {}
for where in ("step", "reset_config"):
    tuner = tune.Tuner(
        Mortal,
        param_space={"number": tune.grid_search([0, 1]), "dies_in": where},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1),
        run_config=tune.RunConfig(
            name=where,
            storage_path=str(FOLDER / "runs"),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=5),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    results = tuner.fit()
    seen[where] = [trial.status for trial in results._experiment_analysis.trials]
ray.shutdown()
print(f"lost in step: {seen['step']}, lost in reset_config: {seen['reset_config']}")
assert seen == {"step": ["TERMINATED"] * 2, "reset_config": ["TERMINATED", "ERROR"]}, seen
PYTHON
