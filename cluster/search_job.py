"""Starts a run on a cluster that `ray up` made, or resumes it: `ray submit` copies this one file to the head.

    ray submit cluster/onprem.yaml cluster/search_job.py -- search_spaces/quick.yaml --run demo \\
        --storage /shared/runs --data /shared/data

Everything after `--` is `facex-tune run`'s own. A study is named as it lies in the checkout on the head (~/facex_tune).
"""

import os
import sys
from pathlib import Path

CHECKOUT = Path(os.environ.get("FACEX_CHECKOUT", "~/facex_tune")).expanduser()

if __name__ == "__main__":
    try:
        from facex_tune.cli import main
    except ModuleNotFoundError as error:
        sys.exit(
            f"facex_tune is not installed for {sys.executable} ({error}): the cluster file's setup_commands install it"
        )
    if CHECKOUT.is_dir():
        os.chdir(CHECKOUT)
    main(["run", *sys.argv[1:], "--address", os.environ.get("RAY_ADDRESS", "auto")])
