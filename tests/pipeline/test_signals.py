"""Signals, each in a process of its own: an exception where Python runs, an end in time where it does not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from facex_tune.pipeline.signals import raising_interrupted

START = """
import ctypes, os, signal, sys, threading
from facex_tune.pipeline import signals
from facex_tune.errors import Interrupted

def stand_still():
    "In native code, where no handler of Python's runs, and which no signal wakes: a lock is taken twice."
    mutex = (ctypes.c_char * 64)()
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
    try:
        print("ready", flush=True)
    except Interrupted:  # it came before the lock
        pass
    while True:
        try:
            ctypes.CDLL(None).pthread_mutex_lock(mutex)
        except Interrupted:
            pass

signals.GRACE_S = 0.5
"""
STUCK = """
with signals.raising_interrupted("r", ends_process=True) as caught:
    caught.last_words = lambda interrupted: print("last words after", interrupted.signal_name, flush=True)
    stand_still()
"""
SLOW_END = """
try:
    with signals.raising_interrupted("r", ends_process=True) as caught:
        try:
            print("ready", flush=True)
            signal.pause()
        finally:
            stand_still()
finally:
    print("never", flush=True)
"""
SLOW_EXIT = """
import atexit
atexit.register(stand_still)
try:
    with signals.raising_interrupted("r", ends_process=True):
        print("ready", flush=True)
        signal.pause()
except Interrupted as interrupted:
    print(interrupted, flush=True)
    sys.exit(75)
"""
BOTH = """
with signals.raising_interrupted("r", ends_process=True):
    print("ready", flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    # To this thread: a signal for the process would be taken by one that does not hold it back.
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
    except Interrupted:
        pass
    print("never", flush=True)
"""
DOUBLED = """
try:
    with signals.raising_interrupted("r", ends_process=ENDS_PROCESS):
        print("ready", flush=True)
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            threading.Event().wait(0.2)  # long enough for whoever would end the process to do so
except Interrupted as interrupted:
    print(interrupted, flush=True)
    sys.exit(75)
"""
FOREIGN = """
try:
    with signals.raising_interrupted("r"):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        print("ready", flush=True)
        signal.pause()
except Interrupted as interrupted:
    print(interrupted, flush=True)
    sys.exit(75)
"""
SWALLOWED = """
try:
    with signals.raising_interrupted("r"):
        try:
            print("ready", flush=True)
            signal.pause()
        except BaseException:
            pass
except Interrupted as interrupted:
    print(interrupted, flush=True)
    sys.exit(75)
"""


def started(script: str) -> subprocess.Popen[str]:
    """A process that is where its signal shall find it."""
    command = [sys.executable, "-c", START + script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks and signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_stands_still_in_native_code_ends_in_time(number: signal.Signals) -> None:
    process = started(STUCK)
    begun = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert time.monotonic() - begun < 10
    assert out == f"last words after {number.name}\n"
    assert err == f"interrupted by {number.name}: continue with `facex-tune resume r`\n"


def test_unwinding_that_takes_too_long_is_cut_short() -> None:
    process = started(SLOW_END)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert out == "ready\n", "the second one, of the clean-up that stands still"
    assert "facex-tune resume r" in err


def test_a_process_that_stands_still_on_its_way_out_ends_in_time() -> None:
    process = started(SLOW_EXIT)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (75, "")
    assert out == "interrupted by SIGTERM: continue with `facex-tune resume r`\nready\n", "told once"


def test_a_second_signal_ends_it_at_once() -> None:
    process = started(STUCK.replace("with signals", "signals.GRACE_S = 600\nwith signals"))
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    numbers = (signal.SIGINT, signal.SIGTERM)  # whichever the kernel hands over last, to Python's handler or to none
    assert process.returncode in [128 + number for number in numbers] + [-number for number in numbers]
    assert err == ""


def test_two_signals_that_python_meets_together_end_it_at_once() -> None:
    """Both have come before a handler runs; the second is neither ignored nor grumbled at."""
    process = started(BOTH)
    out, err = process.communicate(timeout=60)
    numbers = (signal.SIGINT, signal.SIGTERM)
    assert process.returncode in [128 + number for number in numbers] + [-number for number in numbers]
    assert (out, err) == ("", "")


@pytest.mark.parametrize("ends_process", [True, False])
def test_one_signal_that_comes_twice_is_one(ends_process: bool) -> None:
    """As from `timeout`, which sends it to the process and to its group."""
    process = started(DOUBLED.replace("ENDS_PROCESS", str(ends_process)))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (75, "")
    assert out == "interrupted by SIGTERM: continue with `facex-tune resume r`\n"


@pytest.mark.parametrize("ends_process", [True, False])
def test_the_same_signal_again_later_ends_it_at_once(ends_process: bool) -> None:
    process = started("signals.DOUBLED_S = 0.0\n" + DOUBLED.replace("ENDS_PROCESS", str(ends_process)))
    out, err = process.communicate(timeout=60)
    assert process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM)
    assert (out, err) == ("", "")


@pytest.mark.parametrize("script", [FOREIGN, SWALLOWED], ids=["foreign", "swallowed"])
def test_an_interruption_is_told_whoever_handles_or_swallows_it(script: str) -> None:
    process = started(script)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (75, "")
    assert out == "interrupted by SIGTERM: continue with `facex-tune resume r`\n"


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with raising_interrupted("r"):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_an_exit_of_the_block_s_own_stays_one() -> None:
    with pytest.raises(SystemExit), raising_interrupted("r"):
        sys.exit(3)
