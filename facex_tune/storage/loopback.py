"""This machine's own addresses, which no proxy can reach: one that the environment names is left out for them.

Libraries read `no_proxy` whenever they connect, so that is where an address is put; what the user said of others stays.
"""

from __future__ import annotations

import os
import urllib.parse

_NAMES = ("no_proxy", "NO_PROXY")  # Python heeds the first where both are there, others the second


def spare_proxy(url: str | None) -> None:
    """Has every HTTP library of this process, and of those that it starts, reach the URL directly if its host is this
    machine's own; changes nothing where the environment names no proxy.
    """
    host = host_of(url or "")
    if not is_loopback(host) or not any(name.lower().endswith("_proxy") for name in os.environ):
        return
    import urllib.request  # takes 30 ms, which every command would wait for

    if not set(urllib.request.getproxies_environment()) - {"no"}:
        return
    said = next((os.environ[name] for name in _NAMES if os.environ.get(name)), "")
    listed = [each.strip() for each in said.split(",") if each.strip()]
    wanted = [host, f"[{host}]"] if ":" in host else [host]  # urllib compares IPv6 with its brackets, others without
    missing = [] if "*" in listed else [each for each in wanted if each not in listed]
    if missing or any(os.environ.get(name) != said for name in _NAMES):
        os.environ.update(dict.fromkeys(_NAMES, ",".join([*listed, *missing])))


def host_of(url: str) -> str:
    """The host of a URL, or of `host:port`; "" where there is none."""
    try:
        return urllib.parse.urlsplit(url if "://" in url else f"//{url}").hostname or ""
    except ValueError:  # no URL, which whoever opens it will say
        return ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself: `localhost`, names below it, 127.0.0.0/8, ::1, and 0.0.0.0 and ::, where a
    service that listens everywhere says it is.
    """
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    import ipaddress  # as late as urllib.request

    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
