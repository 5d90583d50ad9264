"""Faces as arrays: NPZ, a folder of NPY files, or HDF5 (an extra: `pip install 'facex-tune[hdf5]'`).

`--arrays images=X_train labels=y_train` says which arrays; a star stands for the same word in both, which names the
split: `images=X_* labels=y_*`. Without a word that is a split's all are split "test". Pictures are N x H x W, with one
or three channels last, or N x (a square's pixels); of whole numbers 0 to 255, or of fractions 0 to 1 or 0 to 255,
told by all of them together. Labels are words, one column a class with a single 1, or numbers, which mean another
emotion in each set: `--numbers` says whose they are. Pickled objects in them are never read.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facex_tune.data.decoding import one_line
from facex_tune.data.importing import NOTHING, Asked, Loaded, Progress
from facex_tune.data.members import array_header, n_bytes, read_array
from facex_tune.data.pictures import HEAD_BYTES
from facex_tune.data.sources._labelled import Marked, read
from facex_tune.data.sources._tables import emotions, require_unpacked, split_of, tree_of
from facex_tune.data.tree import DAMAGE, Tree, open_tree, require_readable, told_as_damage
from facex_tune.errors import InputError, nearest

DESCRIPTION = "NPZ, NPY or HDF5 arrays of faces and labels (--arrays images=X labels=Y); --as NAME names the set"
NEEDS_SOURCE = True
NAMED_BY_USER = True
OPTIONS = ("arrays", "classes", "splits", "numbers", "size", "colour")
MAX_ARRAY_BYTES = 2**32
MOST_WORDS, LONGEST_WORD = 2_000_000, 1000  # strings of an HDF5 array, and bytes of one
_STRINGS_AT_ONCE = 16
_FACES_AT_ONCE = 256
_ALONE = "is one array alone, where its folder or an NPZ is wanted"
_HDF5 = (".h5", ".hdf5", ".he5", ".hdf")

Images = NDArray[np.uint8]


def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded:
    """All faces, by split and place in their array.

    Raises:
        InputError: no arrays, none of those names, shapes that do not belong together, values of no scale, pickled
            objects, or labels that are no emotion.
    """
    assert path is not None, "prepare asks for the source"
    path = _one_file(path)
    with _opened(path) as (there, take):
        pairs = _pairs(path, there, asked)
        stored: dict[str, Images] = {}
        found: list[tuple[str, Marked]] = []
        for images, labels, split in pairs:
            faces_NHW = _faces(_array(take, images), images)
            words = _words(_array(take, labels), labels)
            if len(words) != len(faces_NHW):
                raise InputError(f"{path}: {images} has {len(faces_NHW):,} faces and {labels} {len(words):,} labels")
            stored[images] = faces_NHW
            found += [(word, Marked(f"{images} {row:08d}", 0, split)) for row, word in enumerate(words)]
        label_of = emotions(found, path, asked)
        kept = [each.labelled(label) for word, each in found if (label := label_of[word]) is not None]
        tree = tree_of(path, {each.name: 1 for each in kept}, lambda name: _file(stored, name))
        return read(tree, kept, [], progress, face=asked.face)


def _one_file(path: Path) -> Path:
    """The one archive of arrays in a folder, else the path."""
    require_readable(path)
    if path.suffix.lower() == ".zip":
        require_unpacked(path)
    if not path.is_dir():
        return path
    with open_tree(path) as tree:
        found = [name for name in tree.names if PurePosixPath(name).suffix.lower() in (".npz", *_HDF5)]
    if len(found) > 1:
        raise InputError(f"{path} has {len(found)} archives of arrays, such as {', '.join(found[:3])}: name one")
    return path / found[0] if found else path


def _file(stored: dict[str, Images], name: str) -> bytes:
    """A face as a file of a kind that loses nothing."""
    from PIL import Image

    images, _, row = name.rpartition(" ")
    data = io.BytesIO()
    Image.fromarray(stored[images][int(row)]).save(data, "PPM")
    return data.getvalue()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, str], Callable[[str], NDArray[Any]]]]:
    """What there is, by name: shape and type in words; and what reads one."""
    if path.is_dir():
        with open_tree(path) as tree:
            files = {PurePosixPath(name).stem: path / name for name in tree.names if name.lower().endswith(".npy")}
        arrays = {name: _mapped(file) for name, file in files.items()}
        yield {name: _told(array) for name, array in arrays.items()}, arrays.__getitem__
    elif path.suffix.lower() in _HDF5:
        with _hdf5(path) as found:
            yield found
    else:
        with _npz(path) as found:
            yield found


@contextmanager
def _npz(path: Path) -> Iterator[tuple[dict[str, str], Callable[[str], NDArray[Any]]]]:
    with ExitStack() as stack:
        try:
            tree = stack.enter_context(_zip_of(path))
            members = {name.removesuffix(".npy"): name for name in tree.names if name.endswith(".npy")}
            there = {name: _header(tree, member) for name, member in members.items()}
        except (*DAMAGE, ValueError) as error:
            raise InputError(f"{path} {_fault(error)}: save both arrays with numpy.savez") from error
        yield there, lambda name: _unpacked(tree, members[name])


@contextmanager
def _zip_of(path: Path) -> Iterator[Tree]:
    """An NPZ as the zip that it is.

    Raises:
        ValueError: it is something else.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head.startswith(b"PK"):
        is_pickle = head[:1] == b"\x80"
        raise ValueError(_ALONE if head.startswith(b"\x93NUMPY") else "pickled objects" if is_pickle else "no zip")
    with open_tree(path) as tree:
        yield tree


def _header(tree: Tree, member: str) -> str:
    with tree.open(member) as file:
        shape, _, dtype = array_header(file)
    return _told_of(shape, dtype)


def _unpacked(tree: Tree, member: str) -> NDArray[Any]:
    with told_as_damage(member), tree.open(member) as file:
        try:
            return read_array(file, MAX_ARRAY_BYTES)
        except ValueError as error:
            raise InputError(f"{tree.path}: {member}: {one_line(error)}") from error


def _mapped(path: Path) -> NDArray[Any]:
    """An array of a file of its own, which stays on the disk."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (*DAMAGE, ValueError) as error:
        raise InputError(f"{path} {_fault(error, 'NPY')}: save it with numpy.save") from error
    return array


def _fault(error: Exception, kind: str = "NPZ") -> str:
    if str(error) == _ALONE:
        return _ALONE
    if "pickle" in str(error):
        return "holds pickled objects, which are not read, since opening one runs whatever its maker wrote"
    return f"cannot be read as {kind} ({one_line(error)})"


@contextmanager
def _hdf5(path: Path) -> Iterator[tuple[dict[str, str], Callable[[str], NDArray[Any]]]]:
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"{path} is HDF5: install what reads it with `pip install 'facex-tune[hdf5]'`") from error
    try:
        with h5py.File(path, "r") as file:
            there: dict[str, str] = {}

            def note(name: str, each: Any) -> None:
                if isinstance(each, h5py.Dataset):
                    there[name] = _told(each)

            file.visititems(note)
            yield there, lambda name: _dataset(path, file[name])
    except OSError as error:
        raise InputError(f"{path} is no whole HDF5 file ({one_line(error)}): download it again") from error


def _dataset(path: Path, dataset: Any) -> NDArray[Any]:
    """An HDF5 array, whose numbers must lie in the file itself.

    Raises:
        InputError: they lie in other files, or take too much memory.
    """
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{path}: {dataset.name} lies in other files: save it into one of its own")
    if dataset.dtype.hasobject:
        return _strings(path, dataset)
    if n_bytes(dataset.shape, dataset.dtype) > MAX_ARRAY_BYTES:
        raise InputError(f"{path}: {dataset.name} ({_told(dataset)}) takes more than {MAX_ARRAY_BYTES:,} bytes")
    return np.asarray(dataset[()])


def _strings(path: Path, dataset: Any) -> NDArray[Any]:
    """An HDF5 array of strings, each of any length, of which a small file can name the same one a million times.

    Raises:
        InputError: they are no strings, or no labels.
    """
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is None or len(dataset.shape) != 1 or len(dataset) > MOST_WORDS:
        raise InputError(
            f"{path}: {dataset.name} ({_told(dataset)}): of objects {MOST_WORDS:,} strings in one row are read at most"
        )
    words: list[bytes] = []
    for start in range(0, len(dataset), _STRINGS_AT_ONCE):
        words += dataset[start : start + _STRINGS_AT_ONCE].tolist()
        if max(map(len, words[-_STRINGS_AT_ONCE:])) > LONGEST_WORD:
            raise InputError(f"{path}: {dataset.name}: a string has more than {LONGEST_WORD:,} bytes; no label does")
    return np.array(words, object)


def _told(array: Any) -> str:
    return _told_of(array.shape, array.dtype)


def _told_of(shape: tuple[int, ...], dtype: Any) -> str:
    return f"{' x '.join(map(str, shape)) or 'one value'} {dtype}"


def _array(take: Callable[[str], NDArray[Any]], name: str) -> NDArray[Any]:
    """An array; of HDF5's strings, which h5py gives as objects, the words."""
    array = np.asarray(take(name))
    if array.dtype == object:
        array = np.array([each.decode() if isinstance(each, bytes) else str(each) for each in array.ravel().tolist()])
    return array


def _pairs(path: Path, there: dict[str, str], asked: Asked) -> list[tuple[str, str, str]]:
    """(images, labels, split) of each pair of arrays.

    Raises:
        InputError: nothing was asked, or what was asked is not there; the arrays are named.
    """
    listed = ", ".join(f"{name} ({told})" for name, told in there.items()) or "none"
    if not asked.arrays:
        raise InputError(f"{path}: say which arrays with --arrays images=NAME labels=NAME; there are {listed}")
    images, labels = asked.arrays["images"], asked.arrays["labels"]
    pattern = re.compile("(.*)".join(re.escape(part) for part in images.split("*", 1)))
    found = []
    for name in there:
        if match := pattern.fullmatch(name):
            word = match[1] if match.groups() else ""
            other = labels.replace("*", word, 1)
            split = split_of(word or _split_word(name), asked)
            found.append((name, other, split or "test"))
    missing = [name for _, name, _ in found if name not in there] or ([] if found else [images])
    if missing:
        raise InputError(f"{path} has no array {missing[0]!r}; {nearest(missing[0], list(there))}; there are {listed}")
    if len(found) > 1 and len({split for *_, split in found}) < len(found):
        raise InputError(f"{path}: {', '.join(name for name, *_ in found)} are not each of a split of its own")
    return found


def _split_word(name: str) -> str:
    """The part of an array's name that may say its split, such as `train` of `X_train`."""
    return next((word for word in re.split(r"[^A-Za-z]+", name) if split_of(word, NOTHING)), "")


def _faces(array: NDArray[Any], name: str) -> Images:
    """faces_NHW or faces_NHWC of eight bits.

    Raises:
        InputError: a shape or a scale that no pictures have.
    """
    if array.ndim == 2 and (side := round(array.shape[1] ** 0.5)) ** 2 == array.shape[1]:
        array = array.reshape(len(array), side, side)
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
        array = np.moveaxis(array, 1, 3)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if not (array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)) or array.dtype.kind not in "uif":
        raise InputError(f"array {name!r} is {_told(array)}: pictures are N x height x width, or x 3 for colour")
    if array.dtype == np.uint8:
        return array
    is_finite = all(np.isfinite(part).all() for part in _parts(array))
    if not array.size or not is_finite or array.min() < 0 or array.max() > 255:
        told = f"{array.min()} to {array.max()}" if array.size else "nothing to nothing"
        raise InputError(f"array {name!r} has values from {told}: 0 to 1 or 0 to 255 are wanted")
    scale = 255 if array.dtype.kind == "f" and array.max() <= 1 else 1
    if scale == 1 and array.max() <= 1:
        raise InputError(f"array {name!r} has no value but 0 and 1: pictures in black and white alone are not read")
    faces = np.empty(array.shape, np.uint8)
    for part, given in zip(_parts(faces), _parts(array), strict=True):  # a copy of all would take the memory again
        part[:] = (given * scale).round()
    return faces


def _parts(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (array[start : start + _FACES_AT_ONCE] for start in range(0, len(array), _FACES_AT_ONCE))


def _words(array: NDArray[Any], name: str) -> list[str]:
    """Each label as a word or number.

    Raises:
        InputError: neither one value a face, nor one column a class with a single 1.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "uifb":
        if not (np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all()):
            raise InputError(f"array {name!r} ({_told(array)}) has not just one 1 in each row: no face has one emotion")
        array = array.argmax(axis=1)
    if array.ndim != 1 or array.dtype.kind not in "uifUS":
        raise InputError(f"array {name!r} is {_told(array)}: one label a face is wanted, or one column a class")
    if array.dtype.kind == "S":
        return [word.decode("utf-8", "replace") for word in array.tolist()]
    if array.dtype.kind == "f" and not (array == np.floor(array)).all():
        raise InputError(f"array {name!r} has labels that are no whole numbers, such as {array[array % 1 != 0][0]}")
    return [str(word if isinstance(word, str) else int(word)) for word in array.tolist()]
