"""`data get`: what is downloaded is prepared; what cannot be is one line that says what to do by hand."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest

from facex_tune.data.faces import open_set
from facex_tune.data.get import from_web, get
from facex_tune.data.importing import Asked
from facex_tune.data.sources import ferplus
from facex_tune.errors import InputError

PART = Asked(incomplete=True)


def no_web(url: str, path: Path) -> None:
    raise AssertionError("nothing of the web is wanted")


def test_a_kaggle_set_is_prepared(fer2013_folder: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def kaggle(dataset: str) -> Path:
        asked.append(dataset)
        return fer2013_folder

    assert get("fer2013", tmp_path / "data", kaggle=kaggle, web=no_web, asked=PART)["fer2013"]["n"] == 105
    assert asked == ["msambare/fer2013"]
    assert len(open_set(tmp_path / "data", "fer2013")) == 105


def test_ferplus_is_joined_from_two_places(
    tmp_path: Path, write_csv: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    shutil.move(write_csv(), cache)
    columns = ["Usage", "Image name", *ferplus._ANSWER_OF_COLUMN]
    usages = ("Training", "PublicTest", "PrivateTest")
    lines = [",".join([usages[row % 3], "", *(["1"] * 10)]) for row in range(105)]

    def web(url: str, path: Path) -> None:
        assert url.endswith(f"/FERPlus/{ferplus.VOTES_COMMIT}/fer2013new.csv")
        path.write_bytes(content)

    content = "\n".join([",".join(columns), *lines]).encode()
    with pytest.raises(InputError, match=r"has the SHA-256 .*, not 9206e20d62f56475"):
        get("ferplus", tmp_path / "data", kaggle=lambda dataset: cache, web=web, asked=PART)
    assert not (tmp_path / "data" / ".downloads" / "ferplus" / "fer2013new.csv").exists()
    pinned = replace(ferplus.DOWNLOAD, file_sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(ferplus, "DOWNLOAD", pinned)
    for _ in range(2):  # the second time over what the first one left
        get("ferplus", tmp_path / "data", kaggle=lambda dataset: cache, web=web, asked=PART)
    votes = open_set(tmp_path / "data", "ferplus").votes_NC
    assert votes is not None
    assert (votes == 1).all()


def test_drawn_faces_are_just_drawn(tmp_path: Path) -> None:
    assert list(get("synthetic_lab", tmp_path, kaggle=lambda dataset: tmp_path, web=no_web)) == ["synthetic_lab"]


@pytest.mark.parametrize("name", ["fer2013", "ckplus", "ferplus"])
def test_without_kagglehub_it_says_what_to_do(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # importing it fails as where it is not installed
    with pytest.raises(InputError) as told:
        get(name, tmp_path)
    (line,) = told.value.problems
    assert line.startswith("`data get` needs kagglehub: run `pip install 'facex-tune[kaggle]'`; or download https://")
    assert f"facex-tune data prepare {name} " in line
    assert ("fer2013new.csv" in line) == (name == "ferplus")


def test_without_network_it_says_what_to_do(tmp_path: Path) -> None:
    def kaggle(dataset: str) -> Path:
        raise ConnectionError("Max retries exceeded\nwith url: /api/v1")

    with pytest.raises(InputError) as told:
        get("ckplus", tmp_path / "data", kaggle=kaggle, web=no_web)
    assert told.value.problems == [
        "cannot download ckplus (Max retries exceeded with url: /api/v1); download "
        "https://www.kaggle.com/datasets/shawon10/ckplus in a browser and run `facex-tune data prepare ckplus ZIP`"
    ]
    assert not (tmp_path / "data").exists()


def test_a_fault_of_the_files_is_no_fault_of_the_network(fer2013_folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(fer2013_folder / "train" / "happy")
    with pytest.raises(InputError, match=r"^[^;]*has no face of happy"):
        get("fer2013", tmp_path / "data", kaggle=lambda dataset: fer2013_folder)


def test_ones_own_folder_is_nowhere_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run `facex-tune data prepare folder SOURCE --as NAME`"):
        get("folder", tmp_path)
    with pytest.raises(InputError, match="unknown data source 'fer13'"):
        get("fer13", tmp_path)


class _Votes(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/votes.csv" else 404)
        self.end_headers()
        self.wfile.write(b"Usage,neutral\n")

    def log_message(self, *about: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> HTTPServer:
    return HTTPServer(("127.0.0.1", 0), _Votes)


def test_a_file_comes_over_http_whole_or_not_at_all(server: HTTPServer, tmp_path: Path) -> None:
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        place = f"http://127.0.0.1:{server.server_port}"
        from_web(f"{place}/votes.csv", tmp_path / "votes.csv")
        assert (tmp_path / "votes.csv").read_bytes() == b"Usage,neutral\n"
        with pytest.raises(OSError, match="404"):
            from_web(f"{place}/gone.csv", tmp_path / "gone.csv")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    with pytest.raises(OSError, match="refused"):
        from_web(f"{place}/votes.csv", tmp_path / "gone.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["votes.csv"]


@pytest.mark.skipif(find_spec("kagglehub") is None, reason="kagglehub, an extra, is not installed")
def test_the_real_kagglehub_without_network_is_one_line(tmp_path: Path) -> None:
    """Its server is a port of this machine where nobody listens."""
    code = "from facex_tune.cli import main; main(['data', 'get', 'fer2013', '--data', 'data'])"
    nowhere = {"KAGGLE_API_ENDPOINT": "http://127.0.0.1:9", "KAGGLEHUB_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=os.environ | nowhere
    )
    assert done.returncode == 2
    assert "error: cannot download fer2013" in done.stderr
    assert "Traceback" not in done.stderr
    assert "facex-tune data prepare fer2013 ZIP" in done.stderr.splitlines()[-1]
