"""Where a Ray of our own lives: in RAY_TMPDIR or the temporary folder, not in somebody else's, short for sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from facex_tune.errors import InputError, Interrupted
from facex_tune.search import ray_folder, ray_session

LONG = "l" * 79


@pytest.fixture
def short() -> Iterator[Path]:
    """pytest's own folders are too long for sockets."""
    with tempfile.TemporaryDirectory(prefix="f", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _temporary(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    for name in (ray_folder.TOKEN, ray_folder.TOKEN_MODE, ray_folder.TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)


def test_it_is_in_the_temporary_folder_or_where_ray_is_told(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ray_folder.temporary_folder() == str(short / "ray")
    monkeypatch.setenv("RAY_TMPDIR", str(short / "said"))
    assert ray_folder.temporary_folder() == str(short / "said" / "ray")


def test_a_temporary_folder_that_is_too_long_is_left_for_a_short_one(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_folder, "SHORT", short)
    monkeypatch.setattr(tempfile, "tempdir", str(short / LONG))
    assert ray_folder.temporary_folder() == str(short / "ray")


def test_a_named_one_that_is_too_long_is_refused(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{LONG}")
    with pytest.raises(InputError, match=r"^RAY_TMPDIR=/tmp/l+: too long for Ray's sockets \(84 .* set RAY_TMPDIR"):
        ray_folder.temporary_folder()


def test_the_longest_that_is_taken_holds_rays_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = "/tmp/" + "l" * (ray_folder.MOST_BYTES - len("/tmp/" + "/ray"))
    assert len(os.fsencode(f"{fits}/ray{ray_folder.BELOW}")) == ray_folder.SOCKET_BYTES
    monkeypatch.setattr(ray_folder, "is_ours", lambda folder: True)
    for said, taken in ((fits, True), (fits + "l", False)):
        monkeypatch.setenv("RAY_TMPDIR", said)
        if taken:
            assert ray_folder.temporary_folder() == f"{said}/ray"
        else:
            with pytest.raises(InputError):
                ray_folder.temporary_folder()


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder away")
def test_somebody_elses_folder_is_left_alone(short: Path) -> None:
    (short / "ray").mkdir()
    os.chown(short / "ray", 65534, 65534)
    own = short / "ray-0"
    assert ray_folder.temporary_folder() == str(own)
    assert own.stat().st_mode & 0o777 == 0o700
    own.rmdir()
    own.symlink_to(short)
    with pytest.raises(InputError, match="set RAY_TMPDIR to a short folder of yours"):
        ray_folder.temporary_folder()


def test_a_file_in_its_place_is_told_in_a_line(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short / "no_folder").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(short / "no_folder"))
    with pytest.raises(InputError, match="set RAY_TMPDIR") as told:
        ray_folder.temporary_folder()
    assert len(told.value.problems) == 1


# Ray 2.52 leaves /dev/null open
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("home", ["cannot be written", "holds a token that cannot be read", "has one"])
def test_a_ray_of_our_own_needs_no_home(home: str, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root writes everywhere, but no folder where a file is."""
    folder = short / "home"
    if home == "cannot be written":
        folder.write_text("")
    else:
        (folder / ".ray").mkdir(parents=True)
        token = folder / ".ray" / "auth_token"
        token.mkdir() if "read" in home else token.write_text("1234567890abcdef")
    monkeypatch.setenv("HOME", str(folder))
    with ray_session.connected(None, cpus=1):
        import ray

        assert ray.get(ray.remote(lambda: 7).remote()) == 7
        assert (ray_folder.TOKEN in os.environ) == (home != "has one")
        assert ray.cluster_resources()["CPU"] == 1
        [session] = [path for path in short.rglob("session_*") if not path.is_symlink()]
        assert ray_folder._answers(session)
    assert list(short.rglob("session_*")) == [], "what Ray left is gone, the link to it, too"
    assert not {ray_folder.TOKEN, ray_folder.TOKEN_MODE} & os.environ.keys(), "the next may join a cluster"
    if home == "has one":
        assert token.read_text() == "1234567890abcdef"


def test_a_token_that_was_named_is_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ray_folder.TOKEN, "abc")
    with ray_folder.own_token():
        assert os.environ[ray_folder.TOKEN] == "abc"
    monkeypatch.delenv(ray_folder.TOKEN)
    monkeypatch.setenv(ray_folder.TOKEN_MODE, "disabled")
    with ray_folder.own_token():
        assert ray_folder.TOKEN not in os.environ


@pytest.fixture
def sessions(short: Path) -> dict[str, Path]:
    """What Rays left: one of ours of last year, one of now, and somebody else's."""
    found = {name: short / "ray" / f"session_{name}" for name in ("old", "new", "other")}
    for name, session in found.items():
        (session / "logs").mkdir(parents=True)
        (session / "sockets").mkdir()
        if name != "other":
            ray_folder.claim(session)
    os.utime(found["old"] / ray_folder.OURS, (0, 0))
    (short / "ray" / "session_latest").symlink_to(found["old"])
    return found


def test_what_was_killed_is_cleared_a_week_after(sessions: dict[str, Path], short: Path) -> None:
    ray_folder.clear_old(short / "ray")
    assert [name for name, session in sessions.items() if session.exists()] == ["new", "other"]
    assert not (short / "ray" / "session_latest").is_symlink()
    ray_folder.clear(sessions["other"])
    assert sessions["other"].exists(), "a cluster's is its operator's"


def test_a_ray_that_lives_is_left(sessions: dict[str, Path], short: Path) -> None:
    with socket.socket(socket.AF_UNIX) as raylet:
        raylet.bind(str(sessions["old"] / "sockets" / "raylet"))
        raylet.listen()
        ray_folder.clear_old(short / "ray")
        assert sessions["old"].exists()
    ray_folder.clear_old(short / "ray")
    assert not sessions["old"].exists()


@pytest.mark.parametrize(("fault", "stays"), [(None, False), (Interrupted("r", "SIGTERM"), False), (OSError(), True)])
def test_logs_stay_where_a_fault_ended_it(
    sessions: dict[str, Path], fault: BaseException | None, stays: bool
) -> None:
    with contextlib.suppress(OSError, Interrupted), contextlib.ExitStack() as stack:
        ray_session._cleared_after(stack, sessions["new"])
        if fault is not None:
            raise fault
    assert sessions["new"].exists() == stays
    assert not sessions["old"].exists()
