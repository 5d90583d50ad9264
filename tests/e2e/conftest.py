"""Hosts made of namespaces, where this machine can make them. `make e2e` runs everything; without FACEX_E2E=full only
one search from `ray up` to `ray down`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import hosts, onprem
from tests.search.conftest import tiny_data

__all__ = ["tiny_data"]

FULL = os.environ.get("FACEX_E2E") == "full"
only_full = pytest.mark.skipif(not FULL, reason="minutes of a real cluster: `make e2e`")


def why_not() -> str:
    """Why hosts cannot be made here; "" where they can."""
    if os.geteuid() != 0:
        return "making hosts needs root"
    if missing := hosts.missing():
        return f"making hosts needs {', '.join(missing)} (Debian: openssh-server rsync iproute2)"
    words = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "true"]
    tried = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Iterator[onprem.Cluster]:
    if reason := why_not():
        pytest.skip(reason)
    with onprem.cluster(tmp_path_factory.mktemp("hosts"), tiny_data) as made:
        yield made
