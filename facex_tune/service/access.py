"""Who may talk to the service: whoever knows the token; without one, on loopback, everybody of this host."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from facex_tune.errors import InputError

TOKEN = "FACEX_TOKEN"
COOKIE = "facex_session"
SESSION_LASTS_S = 12 * 3600.0
MOST_SESSIONS = 1000
_PORTS = {"http": 80, "https": 443}
SHORTEST_TOKEN, LONGEST_TOKEN = 16, 4096  # characters
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def token(file: Path | None = None) -> str | None:
    """The service's token, from a file or from FACEX_TOKEN, so that no list of processes shows it.

    Raises:
        InputError: it is too short to keep anybody out, or cannot stand in a header; the file cannot be read, or
            others may read it; both are said.
    """
    said = os.environ.get(TOKEN, "").strip()
    if file is None:
        return _checked(said, TOKEN) if said else None
    if said:
        raise InputError(f"--token-file {file}: {TOKEN} is set, too; say one of them")
    return _checked(_of_file(file), f"--token-file {file}")


def _of_file(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            said = opened.read(LONGEST_TOKEN + 1)
    except OSError as error:
        raise InputError(
            f"--token-file {file}: {error.strerror}; make one with `(umask 077; openssl rand -hex 24 > {file})`"
        ) from error
    if os.name == "posix" and mode & stat.S_IROTH:
        raise InputError(f"--token-file {file}: everybody on this host may read it; `chmod o= {file}`")
    return said.decode("utf-8", "replace").strip()


def _checked(said: str, where: str) -> str:
    is_sendable = said.isascii() and said.isprintable() and not set(said) & set(' ";,\\')
    if not (SHORTEST_TOKEN <= len(said) <= LONGEST_TOKEN and is_sendable):
        raise InputError(
            f"{where}: at least {SHORTEST_TOKEN} printable ASCII characters ({LONGEST_TOKEN:,} at most) without "
            "spaces, quotes, commas or semicolons; make one with `openssl rand -hex 24`"
        )
    return said


def is_loopback(host: str) -> bool:
    """Whether an address, or a name of this host, can be reached from this host alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_bind(host: str, found: str | None) -> None:
    """Refuses to listen where others reach us without a token.

    Raises:
        InputError: `host` is no loopback address and there is no token; or it is none of this host's.
    """
    if not is_loopback(host) and found is None:
        raise InputError(
            f"--host {host}: others reach this address, so a token is needed: --token-file FILE or {TOKEN} "
            "(`export FACEX_TOKEN=$(openssl rand -hex 24)`), or stay on 127.0.0.1"
        )
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise InputError(f"--host {host}: no such address; 127.0.0.1 is the default") from error


class Sessions:
    """Browsers that gave the token, each known by a random word, for some hours or until it leaves.

    They end with the service: nothing that could be stolen is written down, and the word tells nothing of the token.

    Args:
        now: seconds, for tests.
    """

    def __init__(self, lasts_s: float = SESSION_LASTS_S, now: Callable[[], float] = time.monotonic) -> None:
        self._lasts_s, self._now = lasts_s, now
        self._ends: dict[bytes, float] = {}  # by the word's digest, the oldest first

    def begin(self) -> str:
        """A new session's word; beyond MOST_SESSIONS the oldest one ends."""
        word = secrets.token_urlsafe(32)
        while len(self._ends) >= MOST_SESSIONS:
            self._ends.pop(next(iter(self._ends)))
        self._ends[_digest(word)] = self._now() + self._lasts_s
        return word

    def holds(self, word: str) -> bool:
        """Whether a session of that word has begun and not ended."""
        ends = self._ends.get(_digest(word))
        if ends is not None and self._now() >= ends:
            self.end(word)
            return False
        return ends is not None

    def end(self, word: str) -> None:
        """Ends a session, if there is one."""
        self._ends.pop(_digest(word), None)


def _digest(word: str) -> bytes:
    return hashlib.sha256(word.encode("utf-8", "surrogateescape")).digest()


def cookie_name(headers: Mapping[str, str]) -> str:
    """What a session's cookie is called: browsers tell services of one host on several ports apart by this alone."""
    port = _at("http", headers.get("host", ""))[2]
    return f"{COOKIE}_{port}"


class Refusal(NamedTuple):
    """Why a request is not let in.

    Attributes:
        status: HTTP's.
        detail: a sentence for who asked.
        why: one of a few words, for who counts.
    """

    status: int
    detail: str
    why: str


@dataclass(frozen=True)
class Gate:
    """Lets a request in or says why not.

    Attributes:
        token: None: everybody who reaches a loopback address.
        hosts: what a browser may call us in its Host header where there is no token; another name there is a page
            elsewhere that made its name resolve to this host.
        sessions: of browsers that gave the token.
    """

    token: str | None
    hosts: frozenset[str] = LOOPBACK
    sessions: Sessions = field(default_factory=Sessions, compare=False)

    @classmethod
    def at(cls, bound: Iterable[str], token: str | None) -> Gate:
        """The gate of a service that listens at these addresses, which are names of it besides the usual ones."""
        return cls(token, LOOPBACK | frozenset(bound))

    def refusal(
        self,
        method: str,
        headers: Mapping[str, str],
        cookies: Mapping[str, str],
        *,
        scheme: str = "http",
        is_page: bool = False,
    ) -> Refusal | None:
        """Why a request may not pass; None where it may.

        Args:
            scheme: by which the browser reaches us, as far as we or our proxy know.
            is_page: whether a link on another site may lead there.
        """
        host = _host_name(headers.get("host", ""))
        if self.token is None and host not in self.hosts:
            said = f"this service answers to {', '.join(sorted(self.hosts))}, not to {host!r}"
            return Refusal(403, said, "another host")
        if refused := _another_site(method, headers, scheme, is_page=is_page):
            return Refusal(403, refused, "another site")
        if self.token is None:
            return None
        said = headers.get("authorization", "")
        if said.startswith("Bearer "):
            is_right = hmac.compare_digest(said[len("Bearer ") :].encode(), self.token.encode())
            return None if is_right else Refusal(403, "the token is not this service's", "wrong token")
        word = cookies.get(cookie_name(headers), "")
        if word and self.sessions.holds(word):
            return None
        ended = "this session has ended; " if word else ""
        whose = f"the service's {TOKEN}, or what its --token-file holds"
        said = f"{ended}a token is wanted: Authorization: Bearer, with {whose}"
        return Refusal(401, said, "no session" if word else "no token")

    def who(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> str:
        """By what a request says to come; a session by the begin of its digest, which opens nothing."""
        if self.token is None:
            return "anyone"
        if "authorization" in headers:
            return "token"
        word = cookies.get(cookie_name(headers), "")
        return f"session {_digest(word).hex()[:8]}" if word else "nobody"


def _host_name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _another_site(method: str, headers: Mapping[str, str], scheme: str, *, is_page: bool) -> str:
    """Why a request is refused that another site's page sent; "" for our own pages, and for programs other than
    browsers, which tell nothing of where a request comes from.

    Another port of this host is another site: whoever has an account here may serve pages there.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if origin is not None and _at(*_halves(origin)) != _at(scheme, headers.get("host", "")):
        ours = f"{scheme}://{headers.get('host', '')}"
        return f"a page of another site sent this request ({origin[:200]}; this service is {ours[:200]})"
    follows_link = method in ("GET", "HEAD") and is_page and headers.get("sec-fetch-mode") == "navigate"
    if site not in ("same-origin", "none") and not follows_link:
        return "a page of another site sent this request"
    return ""


def _halves(origin: str) -> tuple[str, str]:
    scheme, _, host = origin.partition("://")
    return scheme, host


def _at(scheme: str, host: str) -> tuple[str, str, str]:
    """(scheme, host, port) of a Host header or an origin's rest, the scheme's own port filled in."""
    name = _host_name(host)
    port = host.rpartition(":")[2] if host != name and not host.endswith("]") else ""
    return scheme.lower(), name.lower(), port or str(_PORTS.get(scheme.lower(), ""))
