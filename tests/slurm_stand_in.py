"""What `tests/test_slurm_script.py` puts on PATH for scontrol, srun, hostname, ray and facex-tune: records how it is
called and does as much as the script needs. All but the driver end at a TERM at once, as the real ones do.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

SEEN = ("PWD", "VIRTUAL_ENV", "RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT")


def record(line: str) -> None:
    with Path(os.environ["RECORD"]).open("a") as file:
        print(line, file=file)


def driver() -> int:
    """Ends with the code that stands in its last word, which comes at a TERM where one is awaited."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    for name in SEEN:
        record(f"  {name}={os.environ.get(name)}")
    print("driver: up", flush=True)
    if os.environ["AWAITS"] == "TERM":
        signal.sigwait([signal.SIGTERM])
        print("driver: told", flush=True)
    with Path(os.environ["LAST_WORD"]).open() as pipe:
        code = int(pipe.readline())
    print("driver: saved", flush=True)
    return code


def main(name: str, words: list[str]) -> int:
    if name not in ("hostname", "ray"):  # they stand in srun's line
        record(shlex.join([name, *words]))
    match name:
        case "scontrol":
            print("n1\nn2\nn3")
        case "hostname":
            print("10.0.0.11 fe80::11")
        case "srun":
            command = words[next(at for at, word in enumerate(words) if not word.startswith("--")) :]
            os.execvp(command[0], command)
        case "ray":
            return subprocess.run(words[words.index("--") + 1 :], check=False).returncode
        case "facex-tune":
            return driver()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
