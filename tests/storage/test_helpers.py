"""Calls that are made by processes beside this one."""

from __future__ import annotations

import os
import signal

import pytest

from facex_tune.errors import InputError
from facex_tune.storage.helpers import Helpers


def test_a_helper_is_another_process_and_answers_in_order() -> None:
    with Helpers(1) as helpers:
        asked = [helpers.submit(os.getpid), helpers.submit(divmod, 7, 2), helpers.submit(os.getpid)]
        first, divided, last = [each.result() for each in asked]
        assert first == last != os.getpid()
        assert divided == (3, 1)
        with pytest.raises(ZeroDivisionError):
            helpers.submit(divmod, 1, 0).result()
        os.kill(first, signal.SIGINT)  # Ctrl-C is heard by all that a terminal has started
        assert helpers.submit(os.getpid).result() == first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_without_helpers_calls_are_made_here() -> None:
    with Helpers(0) as helpers:
        assert helpers.submit(os.getpid).result() == os.getpid()
        with pytest.raises(InputError):
            helpers.submit(_refuse).result()


def test_what_a_helper_that_ended_was_asked_is_done_here_and_another_takes_its_place() -> None:
    with Helpers(1) as helpers:
        first = helpers.submit(os.getpid).result()
        os.kill(first, signal.SIGKILL)
        assert {helpers.submit(abs, -number).result() for number in range(3)} == {0, 1, 2}
        assert helpers.submit(os.getpid).result() not in (first, None)


def _refuse() -> None:
    raise InputError("no")
