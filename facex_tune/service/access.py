"""Who may talk to the service: on loopback everybody of this host, elsewhere whoever knows the token."""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from facex_tune.errors import InputError

TOKEN = "FACEX_TOKEN"
COOKIE = "facex_token"
SHORTEST_TOKEN = 16  # characters
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def token() -> str | None:
    """The service's token, from FACEX_TOKEN, so that no list of processes shows it.

    Raises:
        InputError: it is too short to keep anybody out, or cannot stand in a header.
    """
    said = os.environ.get(TOKEN, "").strip()
    if not said:
        return None
    if len(said) < SHORTEST_TOKEN or not said.isascii() or not said.isprintable() or set(said) & set(' ";,\\'):
        raise InputError(
            f"{TOKEN}: at least {SHORTEST_TOKEN} printable ASCII characters without spaces, quotes, commas or "
            "semicolons; make one with `openssl rand -hex 24`"
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
            f"--host {host}: others reach this address, so a token is needed: set {TOKEN} "
            "(`export FACEX_TOKEN=$(openssl rand -hex 24)`), or stay on 127.0.0.1"
        )
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise InputError(f"--host {host}: no such address; 127.0.0.1 is the default") from error


@dataclass(frozen=True)
class Gate:
    """Lets a request in or says why not.

    Attributes:
        token: None: everybody who reaches a loopback address.
        hosts: what a browser may call us in its Host header where there is no token; another name there is a page
            elsewhere that made its name resolve to this host.
    """

    token: str | None
    hosts: frozenset[str] = LOOPBACK

    @classmethod
    def at(cls, bound: Iterable[str], token: str | None) -> Gate:
        """The gate of a service that listens at these addresses, which are names of it besides the usual ones."""
        return cls(token, LOOPBACK | frozenset(bound))

    def refusal(self, method: str, headers: Mapping[str, str], cookies: Mapping[str, str]) -> tuple[int, str] | None:
        """HTTP status and sentence, or None where the request may pass."""
        host = _host_name(headers.get("host", ""))
        if self.token is None and host not in self.hosts:
            return 403, f"this service answers to {', '.join(sorted(self.hosts))}, not to {host!r}"
        if method not in ("GET", "HEAD") and not _same_site(headers, host):
            return 403, "a page of another site sent this request"
        if self.token is None:
            return None
        said = headers.get("authorization", "")
        given = said[len("Bearer ") :] if said.startswith("Bearer ") else cookies.get(COOKIE, "")
        if not given:
            return 401, f"a token is wanted: Authorization: Bearer, with the service's {TOKEN}"
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return 403, "the token is not this service's"
        return None


def _host_name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _same_site(headers: Mapping[str, str], host: str) -> bool:
    """Browsers tell where a request comes from; other programs tell nothing."""
    origin = headers.get("origin")
    return origin is None or _host_name(origin.partition("://")[2]) == host
