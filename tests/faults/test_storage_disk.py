"""A real run on a disk that is too small, resumed when it has been given room: `make faults`. Some two minutes."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from tests import small_disk
from tests.search.conftest import tiny_data
from tests.search.test_resume import DRIVER, STUDY

__all__ = ["tiny_data"]  # a fixture
SMALL, LARGER = "210m", "400m"  # a run does not begin below 200 MB of free space


@pytest.mark.skipif(
    os.environ.get("FACEX_FAULTS") != "full",
    reason="takes some two minutes: make faults; short form: test_full_disk.py",
)
@pytest.mark.skipif(not small_disk.is_allowed(), reason=small_disk.WHY_NOT)
def test_a_run_on_a_disk_that_fills_up_says_so_and_resumes_when_there_is_room(tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(STUDY)
    disk = tmp_path / "disk"
    run = " ".join(map(shlex.quote, [*DRIVER, "run", str(tmp_path / "tiny.yaml"), "--run", "r"]))
    run += f" --storage {disk} --data {tiny_data}"
    show = " ".join(map(shlex.quote, [*DRIVER, "show", "r", "--json", "--storage", str(disk)]))
    done = small_disk.on_small_disk(
        disk,
        SMALL,
        # the first checkpoint that is there says that the search has begun: from then on there is no room
        f"(while ! ls {disk}/r/trials/*/last.safetensors >/dev/null 2>&1; do sleep 0.1; done;"
        f" dd if=/dev/zero of={disk}/filler bs=1M count=400 2>/dev/null) &",
        f"{run} 2>{tmp_path}/errors; echo $? >{tmp_path}/first",
        f"cp -r {disk}/r/events {tmp_path}/then",
        f"rm -f {disk}/filler; larger {LARGER}",
        f"{run} 2>{tmp_path}/more_errors; echo $? >{tmp_path}/second",
        f"{show} >{tmp_path}/shown",
        f"cp -r {disk}/r/events {tmp_path}/now",
    )
    errors = (tmp_path / "errors").read_text()
    assert (tmp_path / "first").read_text().strip() == "2", errors + done.stderr
    assert "no space left in" in errors.strip().splitlines()[-1]
    assert "Traceback" not in errors
    assert (tmp_path / "second").read_text().strip() == "0", (tmp_path / "more_errors").read_text()
    shown = json.loads((tmp_path / "shown").read_text())
    assert sum(shown["trials"].values()) == 4
    assert len(shown["models"]) == 2
    for then in sorted((tmp_path / "then").glob("*.jsonl")):
        whole = then.read_bytes().rpartition(b"\n")[0]
        assert (tmp_path / "now" / then.name).read_bytes().startswith(whole), "nothing that was told is lost"
