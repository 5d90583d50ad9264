"""A run brought home, from a folder and through the service."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import socketserver
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from facex_tune import cli
from facex_tune.errors import InputError
from facex_tune.runs.store import Run
from facex_tune.service import bundle
from facex_tune.service.bundle import Item
from facex_tune.service.pull import FolderSource, ServiceSource, Source, pull

from .conftest import Client

MODEL = "final/t0000-s0/model.safetensors"


@pytest.fixture(params=["folder", "service"])
def source(request: pytest.FixtureRequest, some_run: Run, service: Client) -> Source:
    return FolderSource(some_run.folder) if request.param == "folder" else ServiceSource(service.url, "night", None)


def test_everything_but_checkpoints_comes_and_is_a_run(source: Source, some_run: Run, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    items = pull(source, tmp_path / "home" / "night", lambda done, total: seen.append((done, total)))
    assert {item.path for item in items} == {"run.json", "events/000001.jsonl", "report/index.html", MODEL}
    home = Run.open(tmp_path / "home", "night")
    assert home.history().trials[0].metrics["macro_f1"] == pytest.approx(0.3)
    assert (home.folder / MODEL).read_bytes() == (some_run.folder / MODEL).read_bytes()
    assert seen[-1][0] == seen[-1][1] == sum(item.bytes for item in items)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_what_is_here_is_not_fetched_again(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pull(source, tmp_path)
    (tmp_path / "report" / "index.html").write_text("spoiled")
    asked: list[str] = []
    read = type(source).read

    def watched(self: Source, item: Item, offset: int) -> object:
        asked.append(item.path)
        return read(self, item, offset)

    monkeypatch.setattr(type(source), "read", watched)
    pull(source, tmp_path)
    assert asked == ["report/index.html"]
    assert (tmp_path / "report" / "index.html").read_text() == "<p>report</p>"


def test_an_interrupted_file_goes_on_where_it_stopped(source: Source, some_run: Run, tmp_path: Path) -> None:
    content = (some_run.folder / MODEL).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    part = tmp_path / "final" / "t0000-s0" / f".model.safetensors.{digest[:16]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content[:3_000_000])
    seen: list[int] = []
    pull(source, tmp_path, lambda done, _: seen.append(done))
    assert (tmp_path / MODEL).read_bytes() == content
    assert not part.exists()
    before = sum(item.bytes for item in source.items() if item.path != MODEL)
    assert not any(before < done < before + 3_000_000 for done in seen)  # the part was not fetched again


def test_a_spoiled_part_is_noticed_and_fetched_whole(source: Source, some_run: Run, tmp_path: Path) -> None:
    content = (some_run.folder / MODEL).read_bytes()
    part = tmp_path / "final" / "t0000-s0" / f".model.safetensors.{hashlib.sha256(content).hexdigest()[:16]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    pull(source, tmp_path)
    assert (tmp_path / MODEL).read_bytes() == content


def test_a_connection_that_ends_early_keeps_what_came(some_run: Run, tmp_path: Path) -> None:
    class Cut(FolderSource):
        def read(self, item: Item, offset: int):  # type: ignore[no-untyped-def]
            yield next(iter(super().read(item, offset)))

    with pytest.raises(InputError, match="ended early"):
        pull(Cut(some_run.folder), tmp_path)
    assert [path.stat().st_size for path in tmp_path.rglob("*.part")] == [bundle.CHUNK_BYTES]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", "a\\..\\x", "c:x"])
def test_a_service_cannot_write_outside(path: str) -> None:
    with pytest.raises(InputError, match="out of"):
        Item.parse({"path": path, "bytes": 1, "sha256": "0" * 64})


def test_who_is_no_service_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no facex-tune service answers"):
        pull(ServiceSource("http://127.0.0.1:9", "night", None), tmp_path)
    with pytest.raises(InputError, match="http"):
        ServiceSource("ftp://x", "night", None)


class Stranger(socketserver.ThreadingTCPServer):
    """Answers with these bytes, the last of them again and again, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, *answers: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answers = answers
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Stranger)
        asked = b""
        while (line := self.rfile.readline()).strip():
            asked += line
        self.server.asked.append(asked.decode())
        self.wfile.write(self.server.answers[min(len(self.server.asked), len(self.server.answers)) - 1])


@contextlib.contextmanager
def stranger(*answers: bytes) -> Iterator[Stranger]:
    with Stranger(*answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def refused(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command says, with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["pull", "night", "--service", url, "--to", str(tmp_path)])
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1), said
    return said


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"\r\n<html>a router</html>",
        OK + b"\r\n[1]",
        OK + b"\r\n\xff\xfe",
        OK + b"\r\n" + b"[" * 200_000,
        OK + b"Content-Length: 100\r\n\r\n{",
        b"HTTP/1.1 404 Not Found\r\n\r\n<html>nothing here</html>",
        b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
    ],
)
def test_what_is_another_program_is_told_so(answer: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stranger(answer) as server:
        said = refused(server.url, tmp_path, capsys)
        assert said.startswith(f"error: {server.url}: no facex-tune service answers there (")


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:82 70", "http://[::1", "http://127.0.0.1:x", "http://a b", f"http://{'a' * 70}", "http://"],
)
def test_what_is_no_url_is_told_so(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no facex-tune service answers there (" in refused(url, tmp_path, capsys)


def test_a_token_follows_no_redirect_to_another_host(tmp_path: Path) -> None:
    with stranger(OK + b'\r\n{"files": []}') as other:
        location = f"{other.url}/api/runs/night/files".encode()
        with stranger(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n") as server:
            with pytest.raises(InputError, match=f"leads to {other.url}; if that is your service"):
                pull(ServiceSource(server.url, "night", "0123456789abcdef"), tmp_path)
            assert "Authorization: Bearer 0123456789abcdef" in server.asked[0]
            assert other.asked == []


class Generous:
    """A source that sends more than it announces, and counts what was taken of it."""

    def __init__(self, content: bytes, *, announced: int) -> None:
        self.content, self.taken = content, 0
        self.item = Item("final/t0000-s0/model.safetensors", announced, hashlib.sha256(content[:announced]).hexdigest())

    def items(self) -> list[Item]:
        return [self.item]

    def read(self, item: Item, offset: int) -> Iterator[bytes]:
        for start in range(offset, len(self.content), 1000):
            self.taken = min(len(self.content), start + 1000)
            yield self.content[start : start + 1000]


@pytest.mark.parametrize("there", [0, 500, 4000])
def test_no_more_is_taken_than_was_announced(tmp_path: Path, there: int) -> None:
    source = Generous(bytes(range(250)) * 400, announced=4000)
    part = tmp_path / "final" / "t0000-s0" / f".model.safetensors.{source.item.sha256[:16]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(source.content[:there])
    pull(source, tmp_path)
    assert (tmp_path / MODEL).read_bytes() == source.content[:4000]
    assert source.taken <= 5000


def test_a_service_that_sends_more_is_cut_off(tmp_path: Path) -> None:
    listed = [{"path": "run.json", "bytes": 10, "sha256": hashlib.sha256(b"x" * 10).hexdigest()}]
    with stranger(OK + b"\r\n" + json.dumps({"files": listed}).encode(), OK + b"\r\n" + b"x" * 50_000) as server:
        assert pull(ServiceSource(server.url, "night", None), tmp_path)[0].bytes == 10
    assert (tmp_path / "run.json").read_bytes() == b"x" * 10


@pytest.mark.parametrize("said", [{"sha256": "/../../x"}, {"sha256": "A" * 64}, {"bytes": -1}])
def test_a_list_that_cannot_be_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(InputError, match="are none of a file"):
        Item.parse({"path": "run.json", "bytes": 1, "sha256": "0" * 64} | said)


def test_an_archive_holds_the_same(service: Client, some_run: Run) -> None:
    status, body = service.ask("/api/runs/night/archive")
    assert status == 200
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        names = {name.removeprefix("night/") for name in tar.getnames()}
    assert names == set(bundle.paths(some_run.folder))
