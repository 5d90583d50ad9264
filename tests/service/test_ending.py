"""What the service says when it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
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
        assert service.stdout.readline().startswith("serving ")
        assert service.stdout.readline().startswith("no token")
        service.send_signal(signal.SIGINT)
        said, errors = service.communicate()
    assert said.splitlines() == [listen.ending([]), "stopped"]
    assert (service.returncode, errors) == (0, "")
