"""Members of archives, and arrays, read without belief in what they say of their own size.

A zip's directory, and an array's header, are whatever their maker wrote. What is read here never takes more memory than
a limit allows, whichever way it was compressed.
"""

from __future__ import annotations

import bz2
import copy
import io
import lzma
import zipfile
import zlib
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

_PIECE_BYTES = 2**14  # compressed bytes that are read at a time
_LZMA_HEADER_BYTES = 4  # of a zip's member: a version and the length of the properties that follow
_LZMA_MOST_BYTES = 2**26  # of memory for a dictionary, twice the largest picture; the usual one has 8 MB
_HAS_END = 2  # the flag of an LZMA member that marks its own end


class TooLarge(ValueError):
    """More bytes than a limit allows."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def read_whole(file: BinaryIO, said_bytes: int, limit_bytes: int) -> bytes:
    """All of a file that says how long it is.

    Raises:
        TooLarge: it says, or has, more bytes than `limit_bytes`; of these one more is read at most.
    """
    if said_bytes > limit_bytes:
        raise TooLarge(f"{said_bytes} bytes are more than {limit_bytes}")
    pieces, left = [], limit_bytes + 1
    while left and (piece := file.read(min(left, max(said_bytes, _PIECE_BYTES)))):
        pieces.append(piece)
        left -= len(piece)
    if not left:
        raise TooLarge(f"it has more than {limit_bytes} bytes, and says {said_bytes}")
    return b"".join(pieces)


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    """A member whose `read(n)` never unpacks much more than n bytes.

    Python's own reader keeps to that for what is stored or deflated alone.

    Raises:
        BadZipFile: encrypted, compressed in an unknown way, or damaged.
        LZMAError: damaged.
    """
    if info.compress_type not in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        return archive.open(info)  # type: ignore[return-value]  # IO[bytes], all that a BinaryIO is used for
    return io.BufferedReader(_Unpacked(archive, info), _PIECE_BYTES)


class _Unpacked(io.RawIOBase):
    """A member compressed with bzip2 or LZMA, unpacked as far as it is asked for, and checked by its checksum."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self._packed = archive.open(_as_stored(info))
        self._info, self._at, self._crc = info, 0, 0
        if info.compress_type == zipfile.ZIP_BZIP2:
            self._unpacker: _Decompressor = bz2.BZ2Decompressor()
        else:
            self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MOST_BYTES)
            self._unpacker.decompress(self._lzma_header(), 0)

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        room = min(len(buffer), self._info.file_size - self._at + 1)
        data = b""
        while not data and room > 0 and not self._unpacker.eof:
            is_hungry = self._unpacker.needs_input
            piece = self._packed.read(_PIECE_BYTES) if is_hungry else b""
            data = self._unpacker.decompress(piece, room)
            if is_hungry and not piece:
                break
        self._at, self._crc = self._at + len(data), zlib.crc32(data, self._crc)
        if self._at > self._info.file_size or (not data and room and self._crc != self._info.CRC):
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {self._info.filename!r}")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._packed.close()
        super().close()

    def _lzma_header(self) -> bytes:
        """The header of a lone LZMA file, which has the length where a zip's member has its own length's."""
        start = self._packed.read(_LZMA_HEADER_BYTES)
        properties = self._packed.read(int.from_bytes(start[2:], "little"))
        has_end = self._info.flag_bits & _HAS_END
        return properties + (b"\xff" * 8 if has_end else self._info.file_size.to_bytes(8, "little"))


def _as_stored(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """The member as its compressed bytes, for which its directory has no checksum."""
    stored = copy.copy(info)
    stored.compress_type, stored.file_size = zipfile.ZIP_STORED, info.compress_size
    del stored.CRC
    return stored


def array_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, whether columns come first, type) of a NPY file, which is read up to its numbers.

    Raises:
        ValueError: it is none, or holds pickled objects.
    """
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"NPY of version {version[0]}.{version[1]} is not read")
    shape, by_columns, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("pickled objects")
    return shape, by_columns, dtype


def n_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """What an array of that shape takes."""
    count = 1
    for each in shape:
        count *= each
    return count * dtype.itemsize


def read_array(file: BinaryIO, limit_bytes: int) -> NDArray[Any]:
    """The array of a NPY file; what it says of its size is checked before memory is taken.

    Raises:
        TooLarge: it takes more than `limit_bytes`.
        ValueError: it is none, holds pickled objects, or is cut short.
    """
    shape, by_columns, dtype = array_header(file)
    wanted_bytes = n_bytes(shape, dtype)
    if wanted_bytes > limit_bytes:
        raise TooLarge(f"{' x '.join(map(str, shape))} {dtype} takes more than {limit_bytes:,} bytes")
    content = read_exactly(file, wanted_bytes)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")


def read_arrays(content: bytes, limit_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of a NPZ by name.

    Raises:
        TooLarge: one takes more than `limit_bytes`.
        ValueError: one holds pickled objects, or is cut short.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        found = {}
        for info in archive.infolist():
            with open_member(archive, info) as file:
                found[info.filename.removesuffix(".npy")] = read_array(file, limit_bytes)
        return found


def read_exactly(file: BinaryIO, wanted_bytes: int) -> bytearray:
    """So many bytes, for which memory is taken as they come.

    Raises:
        ValueError: there are fewer.
    """
    content = bytearray()
    while (left := wanted_bytes - len(content)) and (piece := file.read(min(left, 2**20))):
        content += piece
    if left:
        raise ValueError(f"cut short: {len(content):,} bytes where {wanted_bytes:,} are wanted")
    return content
