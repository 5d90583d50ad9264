"""Compiled templates, kept as Python keeps its own modules: beside their source, for the next process.

Compiling the report's templates takes as long as all of its statistics.
"""

from __future__ import annotations

import os
import pickle
import secrets
import sys
import zlib
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import BytecodeCache
    from jinja2.bccache import Bucket


def cache(folder: Path, settings: Mapping[str, Any]) -> BytecodeCache | None:
    """A cache for `jinja2.Environment` in `folder`, which is made when something is first kept there.

    Where the folder may not be written, templates are compiled each time. So they are where Python itself was told to
    keep nothing (`PYTHONDONTWRITEBYTECODE`: then the answer is None), and where a kept one is damaged, or of another
    source, of other settings, of another jinja2 or Python.

    Args:
        settings: of the environment, which say what a template is compiled to.
    """
    if sys.dont_write_bytecode:
        return None
    from jinja2 import BytecodeCache

    made_by = f"{sys.implementation.cache_tag}-{version('jinja2')}-{zlib.crc32(repr(settings).encode()):08x}"

    class Kept(BytecodeCache):
        """A file a template; a bucket's own header and checksum tell whether it still holds."""

        def load_bytecode(self, bucket: Bucket) -> None:
            damaged = (EOFError, ValueError, TypeError, pickle.PickleError)
            with suppress(OSError, *damaged), self._path(bucket).open("rb") as file:
                bucket.load_bytecode(file)

        def dump_bytecode(self, bucket: Bucket) -> None:
            path = self._path(bucket)
            part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            with suppress(OSError):
                path.parent.mkdir(exist_ok=True)
                with part.open("wb") as file:
                    bucket.write_bytecode(file)
                os.replace(part, path)  # whole or not at all: another process may read it now
            with suppress(OSError):
                part.unlink(missing_ok=True)

        def _path(self, bucket: Bucket) -> Path:
            return folder / f"{bucket.key}.{made_by}.pyc"  # as what it is, to whoever packs or cleans

    return Kept()
