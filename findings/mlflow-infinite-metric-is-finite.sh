#!/usr/bin/env bash
# mlflow-skinny 3.17.2 with a database (sqlite, SQLAlchemy): a metric that is infinite, as the loss of a diverged trial,
# comes back as the largest finite float, without a word; one that is no number comes back as it was. Whoever asks
# `isinf` or `isfinite` of a history takes a diverged trial for one with a large loss, and a mean of two is infinite.
# Seen: "logged [0.5, inf, nan, -inf], read [0.5, 1.7976931348623157e+308, nan, -1.7976931348623157e+308]".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'mlflow-skinny==3.17.2' 'sqlalchemy==2.1.9' 'alembic==1.20.1'
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import math
import sys

import mlflow

mlflow.set_tracking_uri("sqlite:///runs.db")
logged = [0.5, math.inf, math.nan, -math.inf]
with mlflow.start_run() as run:
    for step, value in enumerate(logged):
        mlflow.log_metric("loss", value, step=step)
read = [each.value for each in mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")]
print(f"logged {logged}, read {read}")
half, infinite, nothing, negative = read
assert half == 0.5 and math.isnan(nothing)
assert infinite == sys.float_info.max and negative == -sys.float_info.max
PYTHON
