"""Named arrays in one uncompressed `.npz` file, memory-mapped: what is not touched is not read.

`numpy.load` reads the file too, but copies every array into memory.
"""

import mmap
import struct
import threading
import zipfile
from collections.abc import Mapping
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from artrag.errors import IndexDamagedError

_parsing = threading.Lock()
"""numpy parses a header as Python, and CPython 3.11's parser now and then fails in two threads at once."""
_ALIGN = 64  # bytes; numpy pads the header inside a member to as much
_PADDING = 0xD935  # the extra field that zipalign uses for this
_LOCAL_HEADER, _ZIP64 = 30, 20


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays under their names, each starting at a multiple of 64 bytes; mapped ones are copied in portions.

    The same arrays give the same bytes.
    """
    with path.open("wb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as file:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            before = raw.tell() + _LOCAL_HEADER + len(member.filename) + 4 + _ZIP64
            padding = -before % _ALIGN
            member.extra = struct.pack("<HH", _PADDING, padding) + bytes(padding)
            with file.open(member, "w", force_zip64=True) as out:
                np.lib.format.write_array(out, np.asarray(array), allow_pickle=False)


def map_arrays(path: Path, wanted: Mapping[str, DTypeLike]) -> dict[str, NDArray[Any]]:
    """The arrays of these names and types, read-only, mapped into memory; nothing is unpickled.

    Raises:
        IndexDamagedError: the file is cut or was not written by `save_arrays`.
    """
    try:
        with path.open("rb") as raw:
            mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
            with zipfile.ZipFile(raw) as file:
                return {name: _member(mapped, file.getinfo(f"{name}.npy"), kind) for name, kind in wanted.items()}
    except (OSError, ValueError, KeyError, struct.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise IndexDamagedError(
            f"{str(path)!r} cannot be read ({type(error).__name__}: {error}): ingest again"
        ) from None


def _member(mapped: mmap.mmap, member: zipfile.ZipInfo, kind: DTypeLike) -> NDArray[Any]:
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename!r} is compressed")
    at = member.header_offset
    names, extra = struct.unpack("<HH", mapped[at + 26 : at + _LOCAL_HEADER])
    at += _LOCAL_HEADER + names + extra
    head = BytesIO(mapped[at : at + 4096])
    if np.lib.format.read_magic(head) != (1, 0):
        raise ValueError(f"{member.filename!r} has an array header of another version")
    with _parsing:
        try:
            shape, by_column, found = np.lib.format.read_array_header_1_0(head)
        except Exception as error:  # it is read as Python is, and fails in as many ways
            raise ValueError(f"{member.filename!r} has no array header ({type(error).__name__})") from None
    if found != np.dtype(kind) or by_column or any(length < 0 for length in shape):
        raise ValueError(f"{member.filename!r} is an array {shape!r} of {found}, not of {np.dtype(kind)}")
    at += head.tell()
    if at % found.itemsize or at + prod(shape) * found.itemsize > len(mapped):
        raise ValueError(f"{member.filename!r} is not aligned, or longer than the file")
    return np.frombuffer(mapped, dtype=found, count=prod(shape), offset=at).reshape(shape)
