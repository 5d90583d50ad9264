"""Starts a run on a cluster that `ray up` made, or resumes it: `ray submit` copies this one file to the head.

    ray submit cluster/onprem.yaml cluster/search_job.py -- search_spaces/quick.yaml --run demo \\
        --storage /shared/runs --data /shared/data

Everything after `--` is `facex-tune run`'s own. A study is named as it lies in the checkout on the head
(~/facex_checkout).
"""

import os
import sys
import time
from pathlib import Path

CHECKOUT = Path(os.environ.get("FACEX_CHECKOUT", "~/facex_checkout")).expanduser()
CLUSTER = Path("~/ray_bootstrap_config.yaml").expanduser()  # what `ray up` left on the head
ADDRESS = os.environ.get("RAY_ADDRESS", "auto")
HOSTS_WAIT_S = 300


def wait_for_hosts() -> None:
    """`ray up` returns when the head is up. Hosts that a cluster always has are waited for; those that come when they
    are asked for are not.
    """
    if not CLUSTER.is_file():
        return
    import ray
    import yaml

    said = yaml.safe_load(CLUSTER.read_text())
    wanted = 1 + sum(node.get("min_workers", 0) for node in said["available_node_types"].values())
    ray.init(ADDRESS, logging_level="ERROR", log_to_driver=False)
    until = time.monotonic() + HOSTS_WAIT_S
    while (here := sum(node["Alive"] for node in ray.nodes())) < wanted and time.monotonic() < until:
        time.sleep(1)
    ray.shutdown()
    if here < wanted:
        print(f"{here} of {wanted} hosts are up after {HOSTS_WAIT_S} s; beginning with these", file=sys.stderr)


if __name__ == "__main__":
    try:
        from facex_tune.cli import main
    except ModuleNotFoundError as error:
        sys.exit(
            f"facex_tune is not installed for {sys.executable} ({error}): the cluster file's setup_commands install it"
        )
    if CHECKOUT.is_dir():
        os.chdir(CHECKOUT)
    wait_for_hosts()
    main(["run", *sys.argv[1:], "--address", ADDRESS])
