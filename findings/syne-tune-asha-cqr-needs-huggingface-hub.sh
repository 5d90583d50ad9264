#!/usr/bin/env bash
# syne-tune 0.16.0: `ASHACQR` (asynchronous halving with conformal quantile regression) stands among the baselines beside
# `ASHA` and `ASHABORE`. As the package's own requirements install it, these two suggest trials, and `ASHACQR(...)` raises
# ModuleNotFoundError for huggingface_hub: its searcher imports the module of recorded benchmarks, which can download from
# there. The package does not require that library. With it installed the scheduler suggests trials.
# Seen: "ASHA: suggests", "ASHABORE: suggests", "ASHACQR: ModuleNotFoundError: huggingface_hub", then "ASHACQR: suggests".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'syne-tune==0.16.0'
cd "$folder"
cat > suggests.py <<'PYTHON'
import logging
import sys

from syne_tune.config_space import uniform
from syne_tune.optimizer import baselines

logging.disable(logging.WARNING)
for name in sys.argv[1:]:
    try:
        scheduler = getattr(baselines, name)(config_space={"lr": uniform(0, 1)}, metric="loss", time_attr="epoch", max_t=9)
        print(f"{name}: {'suggests' if scheduler.suggest() else 'suggests nothing'}")
    except ModuleNotFoundError as error:
        print(f"{name}: ModuleNotFoundError: {error.name}")
PYTHON
seen=$(HOME="$folder" "$folder/venv/bin/python" suggests.py ASHA ASHABORE ASHACQR)
"$folder/venv/bin/pip" install --quiet 'huggingface_hub==1.5.0'
seen="$seen
then $(HOME="$folder" "$folder/venv/bin/python" suggests.py ASHACQR)"
echo "$seen"
test "$seen" = "ASHA: suggests
ASHABORE: suggests
ASHACQR: ModuleNotFoundError: huggingface_hub
then ASHACQR: suggests"
