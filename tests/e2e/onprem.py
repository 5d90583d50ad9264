"""A cluster of three hosts that `ray up` makes from `cluster/onprem.yaml`, and an operator's host beside it, from
which the commands of `cluster/README.md` and `docs/cluster.md` are given as they stand there.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ray._private.utils import get_num_cpus

from facex_tune.runs.store import Event, Run
from tests.e2e.hosts import NET, OPERATOR, Host, end, install, make_key, put_token

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"
HEAD, WORKERS = "head", ("worker1", "worker2")
ADDRESSES = {"operator": OPERATOR, HEAD: f"{NET}.10", "worker1": f"{NET}.11", "worker2": f"{NET}.12"}
SHARED = Path("/shared")
STUDY, SLOW_STUDY = "search_spaces/small.yaml", "search_spaces/slow.yaml"
PROMOTING_STUDY, PROMOTED_TRIALS = "search_spaces/promoting.yaml", 8  # that pause at epochs 1, 2 and 4
TRIALS, SLOW_EPOCHS, SLOW_STEP_MS = 4, 6, 250  # an epoch of eight steps
CHECKOUT = "/root/checkout"
PARTS = "tests/faults/parts"
DEADLINE_S = 300
ASKED_EVERY_S = 0.3


def study(model: dict[str, Any], epochs: int, trials: int = TRIALS, scheduler: str = "none") -> str:
    """A study of seconds in which one trial fills a host, so that two at once are on two hosts."""
    said: dict[str, Any] = {
        "version": 1,
        "name": "small",
        "data": "synthetic",
        "budget": {"trials": trials},
        "fidelity": {"min_epochs": 1, "max_epochs": epochs, "reduction": 2},
        "search": {"seed": 3, "sampler": "random", "scheduler": scheduler},
        "resources": {"cpus": int(get_num_cpus())},
        "space": {
            "model": [model],
            "augment": ["none"],
            "balance": ["none"],
            "train": {"lr": {"low": 0.01, "high": 0.1, "log": True}, "batch_size": 32},
        },
        "retrain": {"top": 1, "seeds": 2, "epochs": 1},
        "evaluate": {"protocols": ["synthetic.private"]},
    }
    return yaml.safe_dump(said)


def slow_model() -> dict[str, Any]:
    """The network of `tests/faults`, sound and slow: it sleeps, so that an epoch is as long on any machine."""
    knobs = {"fault": ["none"], "tag": {"low": 0.0, "high": 1.0}, "fits": 16, "sound_steps": 0}
    return {"faulty_net": {**knobs, "step_ms": SLOW_STEP_MS}}


def commands(section: str) -> list[str]:
    """The commands of the fenced block under a heading of one of the two pages, comments left out."""
    pages = (ROOT / "cluster" / "README.md", ROOT / "docs" / "cluster.md")
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    block = re.search(rf"^## {re.escape(section)}\n.*?^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert block is not None, section
    return [line.partition(" #")[0].strip() for line in block[1].splitlines()]


def until(happened: Callable[[], bool], said: Callable[[], str], deadline_s: float = DEADLINE_S) -> None:
    """Waits for it; fails with what `said` then returns."""
    deadline = time.monotonic() + deadline_s
    while not happened():
        assert time.monotonic() < deadline, said()
        time.sleep(ASKED_EVERY_S)


@dataclass
class Cluster:
    """The hosts, up; `ray up` is the caller's.

    Attributes:
        hosts: by name; the operator's is "operator".
        shared: what every host sees as /shared.
    """

    hosts: dict[str, Host]
    shared: Path

    @property
    def operator(self) -> Host:
        return self.hosts["operator"]

    def give(self, command: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Gives a command of the README, from the checkout's root; it must succeed."""
        done = self.operator.run(shlex.split(command), CHECKOUT, timeout_s=timeout_s)
        assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}\n{self.told()}"
        return done

    def facex(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Our command line on the operator's host."""
        return self.operator.run(["facex-tune", *words], CHECKOUT, **environment)

    def on(self, name: str, command: str) -> str:
        """What a command prints in a login shell of a host."""
        return self.hosts[name].run(["bash", "--login", "-c", command]).stdout

    def alive(self) -> set[str]:
        """The hosts that Ray counts as its own now."""
        asked = "import json, ray; ray.init('auto', logging_level='ERROR', log_to_driver=False); print(json.dumps("
        asked += "[node['NodeManagerHostname'] for node in ray.nodes() if node['Alive']]))"
        said = self.on(HEAD, f"python -c {shlex.quote(asked)}").splitlines()
        told = [line for line in said if line.startswith("[")]  # a raylet may print how it ended, too
        return set(json.loads(told[-1])) if told else set()

    def wait_for_hosts(self, *names: str) -> None:
        """Until Ray has these and no others."""
        until(lambda: self.alive() == set(names), self.told)

    @contextmanager
    def dashboard(self) -> Iterator[None]:
        """`ray dashboard`, as the README has it, while the block lasts."""
        words = shlex.split(commands("`submit`")[0].removesuffix("&"))
        forward = self.operator.start(words, CHECKOUT)
        try:
            until(lambda: self.facex("status").returncode == 0, lambda: self.facex("status").stderr + self.told())
            yield
        finally:
            end(forward)

    def log_of(self, run: str) -> list[Event]:
        """Its events so far; none before it has begun."""
        found = Run(self.shared / "runs", run)
        return list(found.events()) if found.exists() else []

    def told(self) -> str:
        """The ends of what the head's autoscaler and jobs wrote, for a failure's message."""
        ray = self.hosts[HEAD].folder / "tmp" / "ray"
        logs = [path for kind in ("monitor.*", "job-driver-*") for path in ray.glob(f"session_2*/logs/{kind}")]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(logs))


@contextmanager
def cluster(folder: Path, data: Path) -> Iterator[Cluster]:
    """Four hosts, up, while the block lasts; the prepared data lie on the head alone."""
    shared = folder / "shared"
    (shared / "data").mkdir(parents=True)
    with ExitStack() as cleanup:
        if not SHARED.exists():
            SHARED.mkdir()
            cleanup.callback(SHARED.rmdir)
        operator = Host("operator", OPERATOR, folder / "operator", {str(SHARED): shared}, None, names=ADDRESSES)
        public_key = make_key(operator.home / ".ssh" / "id_ed25519")
        put_token(operator.home, TOKEN)
        _check_out(operator.home / Path(CHECKOUT).name)
        hosts = {"operator": operator}
        for name in (HEAD, *WORKERS):
            binds = {str(SHARED): shared} | ({str(SHARED / "data"): data} if name == HEAD else {})
            hosts[name] = Host(name, ADDRESSES[name], folder / name, binds, operator, names=ADDRESSES)
            hosts[name].home.mkdir(parents=True)
            install(hosts[name], public_key, TOKEN)
        for host in hosts.values():
            cleanup.callback(host.kill)
            host.boot()
        yield Cluster(hosts, shared)


def _check_out(folder: Path) -> None:
    """What git holds or would take, the three edits of `onprem.yaml` made, and two small studies beside the others."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / STUDY).write_text(study({"facex_cnn": {"width": 0.25}}, epochs=2))
    (folder / SLOW_STUDY).write_text(study(slow_model(), SLOW_EPOCHS))
    promoting = study(slow_model(), SLOW_EPOCHS, PROMOTED_TRIALS, "asha_promotion")
    (folder / PROMOTING_STUDY).write_text(promoting)
    path = folder / "cluster" / "onprem.yaml"
    path.write_text(edited(path.read_text()))


def edited(text: str) -> str:
    """`onprem.yaml` with its three edits made."""
    workers = ", ".join(ADDRESSES[name] for name in WORKERS)
    for key, value in (("head_ip", ADDRESSES[HEAD]), ("worker_ips", f"[{workers}]"), ("ssh_user", "root")):
        text, made = re.subn(rf"(?m)^( *{key}:) .*(# EDIT.*)$", rf"\1 {value}  \2", text)
        assert made == 1, key
    return text
