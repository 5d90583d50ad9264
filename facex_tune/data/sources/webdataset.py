"""WebDataset shards: tar files whose members share a name, `s0000001.webp` the picture and `s0000001.cls` its class.

`train/0.tar` or `train-000.tar`, a folder or file name saying the split. A class is a word, or a number that
`classnames.txt` beside the shards names line by line, from 0 on; without that file `--numbers` says whose it is.
Members are read where they lie in the shard: nothing is unpacked, and none can land outside. Compressed shards are
refused.
"""

from __future__ import annotations

import tarfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from facex_tune.data.decoding import one_line
from facex_tune.data.faces import Skipped
from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress
from facex_tune.data.members import read_whole
from facex_tune.data.pictures import HEAD_BYTES, MAX_BYTES, kind_of
from facex_tune.data.sources._labelled import Marked, files, read, text_of
from facex_tune.data.sources._tables import emotions, require_split, require_unpacked, split_of, tree_of
from facex_tune.data.tree import IMAGE_SUFFIXES, open_tree, printable
from facex_tune.errors import InputError

DESCRIPTION = "WebDataset tar shards of pictures and .cls files; --as NAME names the set"
NEEDS_SOURCE = True
NAMED_BY_USER = True
OPTIONS = ("classes", "splits", "numbers", "uncropped", "size", "colour")
_CLASSES = (".cls", ".txt")
_MAX_CLASS_BYTES = 1000


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """Every sample with a picture and a class.

    Raises:
        InputError: no shard, a damaged one, one of no split, or classes that are no emotion.
    """
    assert path is not None, "prepare asks for the source"
    require_unpacked(path)
    shards, names = _shards(path)
    with _opened(shards) as archives:
        members: dict[str, tuple[str, tarfile.TarInfo]] = {}
        found: list[tuple[str, Marked]] = []
        skipped = []
        for where, archive in archives.items():
            split = _split(where, path, asked, alone=len(archives) == 1)
            for sample, parts in _samples(archive, where).items():
                picture = _picture(archive, parts)
                word = _class(archive, parts, names)
                if picture is None or word is None:
                    skipped.append(Skipped(f"{where}/{sample}", None, "no class" if picture else "no picture"))
                    continue
                name = f"{where}/{printable(picture.name)}"
                members[name] = (where, picture)
                found.append((word, Marked(name, 0, split)))
        label_of = emotions(found, path, asked)
        kept = [each.labelled(label) for word, each in found if (label := label_of[word]) is not None]

        def member(name: str) -> bytes:
            where, info = members[name]
            file = archives[where].extractfile(info)
            return b"" if file is None else read_whole(file, info.size, MAX_BYTES)  # type: ignore[arg-type]

        tree = tree_of(path, {name: info.size for name, (_, info) in members.items()}, member)
        return read(tree, kept, skipped, progress, face=asked.face)


def _shards(path: Path) -> tuple[dict[str, Path], list[str]]:
    """The shards by name, and the classes' names."""
    if path.is_file():
        return {path.name: path}, []
    with open_tree(path) as tree:
        shards = {name: path / name for name in tree.names if name.lower().endswith(".tar")}
        lists = files(tree, "/classnames.txt", "/classes.txt")
        names = [line.strip() for line in text_of(tree, lists[0]).splitlines() if line.strip()] if lists else []
    if not shards:
        raise InputError(f"{path} has no .tar file: name the folder of the shards (compressed ones must be unpacked)")
    return shards, names


@contextmanager
def _opened(shards: dict[str, Path]) -> Iterator[dict[str, tarfile.TarFile]]:
    with ExitStack() as stack:
        archives = {}
        for where, path in shards.items():
            try:
                archives[where] = stack.enter_context(tarfile.open(path, "r:"))
            except (tarfile.TarError, OSError) as error:
                raise InputError(f"{path} is no whole, plain tar ({one_line(error)}): unpack or download it") from error
        yield archives


def _split(where: str, path: Path, asked: Asked, *, alone: bool) -> str:
    place = PurePosixPath(where)
    for word in (place.stem, *reversed(place.parts[:-1])):
        if split := split_of(word, asked):
            return split
    return "test" if alone else require_split(place.stem, path, asked)


def _samples(archive: tarfile.TarFile, where: str) -> dict[str, dict[str, tarfile.TarInfo]]:
    """The members of each sample by what follows its name's first dot."""
    samples: dict[str, dict[str, tarfile.TarInfo]] = defaultdict(dict)
    try:
        for info in archive:
            place = PurePosixPath(info.name)
            if info.isfile() and not place.name.startswith("."):
                stem, dot, suffix = place.name.partition(".")
                samples[printable((place.parent / stem).as_posix())][dot + suffix.lower()] = info
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{where} is damaged ({one_line(error)}): download it again") from error
    return samples


def _picture(archive: tarfile.TarFile, parts: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The sample's picture: the member that is named as one, else the first that is one by its content."""
    named = next((part for suffix, part in parts.items() if suffix in IMAGE_SUFFIXES), None)
    others = (part for suffix, part in parts.items() if suffix not in _CLASSES)
    return named or next((part for part in others if kind_of(_head(archive, part)) is not None), None)


def _head(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    return b"" if file is None else file.read(HEAD_BYTES)


def _class(archive: tarfile.TarFile, parts: dict[str, tarfile.TarInfo], names: list[str]) -> str | None:
    """The class's name, or its number where nobody names it."""
    info = next((parts[suffix] for suffix in _CLASSES if suffix in parts), None)
    if info is None or info.size > _MAX_CLASS_BYTES or (file := archive.extractfile(info)) is None:
        return None
    word = file.read().decode("utf-8", errors="replace").strip()
    return names[int(word)] if word.isdecimal() and int(word) < len(names) else word or None
