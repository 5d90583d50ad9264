"""What the service says when it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from facex_tune.service import listen


def test_it_says_what_it_waits_for() -> None:
    assert listen.ending([]) == "stopping: no run goes, so nothing is waited for"
    assert listen.ending(["a"]).startswith("stopping: run a saves (up to 60 s); the next `facex-tune serve`")
    assert listen.ending(["a", "b"]).startswith("stopping: 2 runs save: a, b (up to 60 s)")


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_ctrl_c_is_answered(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "facex_tune", "serve", "--port", "0", "--storage", str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        found = re.search(r"at (http://\S+/)", service.stdout.readline())
        assert found
        assert service.stdout.readline().startswith("no token")
        with urllib.request.urlopen(f"{found[1]}healthz", timeout=120) as answer:  # it has taken over the signals
            assert answer.status == 200
        service.send_signal(signal.SIGINT)
        said, errors = service.communicate()
    assert said.splitlines() == [listen.ending([]), "stopped"]
    assert (service.returncode, errors) == (0, "")
