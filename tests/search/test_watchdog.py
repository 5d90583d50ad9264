"""The watchdog, in processes of their own: it ends what stands still, and lets what moves go on."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from facex_tune.search.watchdog import Watchdog

START = """
import ctypes, sys, threading
from facex_tune.search import watchdog
dog = watchdog.Watchdog(0.2, lambda words: print(words, flush=True))
def stuck():
    threading.Event().wait()
"""


def ended(script: str) -> tuple[int, str]:
    """Exit code and output of a process that hangs."""
    done = subprocess.run([sys.executable, "-c", START + script], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout


def test_an_epoch_that_does_not_end_ends_the_process_and_says_where_it_stood() -> None:
    code, said = ended("with dog.watching(0.001):\n    stuck()")
    assert code == 76
    assert said.startswith("no batch was done for 0 s; it stood at threading.py:")


def test_a_first_epoch_is_given_longer_and_must_do_batches() -> None:
    code, said = ended("with dog.watching(None):\n    dog.beat()\n    stuck()")
    assert code == 76
    assert said.startswith("no batch was done for 1 s; it stood at threading.py:")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_process_that_was_stopped_as_a_whole_is_not_hung() -> None:
    script = "watchdog.STOPPED_S = 0.5\nwith dog.watching(0.001):\n    print('ready', flush=True)\n    sys.stdin.read()"
    command = [sys.executable, "-c", START.replace("0.2", "1.0") + script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)  # as long as makes it late
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate("", timeout=60)
    assert (process.returncode, out) == (0, "")


def test_last_words_that_fail_do_not_save_it() -> None:
    assert ended("dog._last_words = lambda words: 1 / 0\nwith dog.watching(0.001):\n    stuck()")[0] == 76


def test_native_code_that_holds_the_interpreter_is_ended_too() -> None:
    holds = (
        "watchdog.BACKSTOP_S, dog.patience_s = 0.2, 1.0\nwith dog.watching(0.001):\n    ctypes.PyDLL(None).sleep(50)"
    )
    assert ended(holds) == (1, "")


def test_what_ends_in_time_leaves_nothing_behind() -> None:
    before = threading.active_count()
    dog = Watchdog(60.0, lambda words: None)
    for usual_s in (None, 1.0):
        with dog.watching(usual_s):
            assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.parametrize("usual_s", [None, 1.0])
def test_batches_put_the_end_off(usual_s: float | None) -> None:
    """An epoch that takes eleven times as long as usual, on a machine that others use, is slow and not hung."""
    dog = Watchdog(60.0, lambda words: None)
    with dog.watching(usual_s):
        deadline = dog._deadline
        dog.beat()
        assert dog._deadline > deadline


def test_ten_usual_epochs_may_pass() -> None:
    dog = Watchdog(60.0, lambda words: None)
    for usual_s, limit_s in ((None, 360.0), (1.0, 60.0), (60.0, 600.0)):
        with dog.watching(usual_s):
            assert dog._limit_s == limit_s
