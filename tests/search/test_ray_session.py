"""Joining a Ray: what is no address is refused before Ray is asked."""

from __future__ import annotations

import pytest

from facex_tune.errors import InputError
from facex_tune.search import ray_session


@pytest.mark.parametrize("address", ["mycluster", "10.0.0.5", "http://x:8265", "x:6379y", "x:", "foo://bar:1", " "])
@pytest.mark.parametrize("said_as", ["--address ", "RAY_ADDRESS="])
def test_what_is_no_address_is_told_in_a_line(address: str, said_as: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError) as told, ray_session.connected(address if said_as.startswith("--") else None):
        pass
    assert told.value.problems == [
        f"{said_as}{address}: no address of a Ray cluster; write host:port (6379 by default) or ray://host:port"
    ]


@pytest.mark.parametrize(
    "address", ["auto", "local", "10.0.0.5:6379", "ray-head:6379", "ray://head:10001", "[::1]:6379"]
)
def test_what_ray_takes_is_left_to_it(address: str) -> None:
    assert ray_session._ADDRESS.fullmatch(address)
