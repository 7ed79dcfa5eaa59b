"""The manifest of an index: what it is, what built it, and the checksums of its files.

An index is a directory:

    manifest.json            written last, by an atomic replace: it names the generation that counts
    <generation>/            catalog.sqlite, the files of the arms, and a copy of the manifest
    cache.sqlite             contexts and vectors that were paid for; they outlive a killed run
    building-<id>/           an unfinished generation; nobody reads it
    writer.lock, writer.json one writer at a time, and who it is

A manifest may come from anywhere: names in it that lead out of the directory are refused.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from artrag.errors import IndexDamagedError, IndexNotFoundError, IndexVersionError
from artrag.formats import refusal

FORMAT = 3
CATALOG, DENSE, BM25_FILE, PROXIMITY = "catalog.sqlite", "dense.faiss", "bm25.npz", "proximity.npz"
LATE = "late.npz"
FILES = (CATALOG, DENSE, BM25_FILE, PROXIMITY)
"""The files that every generation has; it may have more."""
ContextKind = Literal["none", "auto", "document", "llm"]
_GENERATION = re.compile(r"generation-[0-9a-f]{12}")
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,100}$")]


class FileEntry(BaseModel):
    """Size and checksum of one file."""

    model_config = ConfigDict(frozen=True)

    bytes: int = Field(ge=0)
    sha256: str


class Manifest(BaseModel):
    """What `manifest.json` says."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    artrag: str
    generation: str
    embedder: str
    """The model reference to open for questions; empty for a live object."""
    embedder_fingerprint: str
    dimension: int = Field(ge=1, le=65536)
    context: ContextKind
    documents: int = Field(ge=0)
    chunks: int = Field(ge=0)
    dense: dict[str, str | int | float] = Field(default_factory=dict)
    """What kind of dense index it is, and its measured recall (`Dense.about`)."""
    late: bool | None = None
    """Whether there are token vectors for late interaction; None: the embedder gives none."""
    files: dict[FileName, FileEntry]
    """Every file of the generation but the copy of this manifest."""


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the index, or of the generation, at `path`.

    Raises:
        IndexNotFoundError: no index is there.
        IndexVersionError: it has another format version.
        IndexDamagedError: the manifest is not readable as one.
    """
    file = path / "manifest.json"
    try:
        data: Any = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise IndexNotFoundError(f"no index at {str(path)!r}: run 'artrag ingest PATH --index {path}' first") from None
    except (OSError, ValueError, RecursionError) as error:
        raise IndexDamagedError(f"{str(file)!r} cannot be read ({error}): run 'artrag index repair {path}'") from None
    version = data.get("format") if isinstance(data, dict) else None
    if version != FORMAT:
        mend = "ingest its documents again into a new directory, 'artrag ingest DOCUMENTS --index NEW'"
        raise IndexVersionError(refusal(repr(str(file)), version, FORMAT, mend))
    try:
        manifest = Manifest.model_validate(data)
        at = "" if _GENERATION.fullmatch(manifest.generation) else "generation"
    except ValidationError as error:
        at = ".".join(map(str, error.errors()[0]["loc"]))
    if at:
        raise IndexDamagedError(f"{str(file)!r} is damaged at {at!r}: run 'artrag index repair {path}'") from None
    return manifest


def latest_manifest(path: Path) -> Manifest | None:
    """The manifest, or where it is damaged the copy in the newest generation that has a sound one; None without any.

    Raises:
        IndexVersionError: it has another format version.
    """
    try:
        return read_manifest(path)
    except IndexNotFoundError:
        pass  # a lost manifest, or no index yet
    except IndexDamagedError:
        pass
    for folder in sorted(path.glob("generation-*"), key=lambda folder: folder.stat().st_mtime, reverse=True):
        try:
            copy = read_manifest(folder)
        except (IndexNotFoundError, IndexDamagedError):
            continue
        if copy.generation == folder.name:
            return copy
    return None


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step: a reader sees the old one or the new one, nothing between."""
    beside = path / "manifest.json.new"
    beside.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    sync(beside)
    beside.replace(path / "manifest.json")
    sync(path)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, reach the disk: what stands in the manifest survives a power loss."""
    if path.is_dir() and os.name == "nt":  # which has no such call for folders
        return
    # Windows flushes only what is open for writing.
    opened = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def entry_of(file: Path) -> FileEntry:
    """Size and checksum of a file."""
    with file.open("rb") as opened:
        return FileEntry(bytes=file.stat().st_size, sha256=hashlib.file_digest(opened, "sha256").hexdigest())


def fault_of(path: Path, manifest: Manifest, name: str) -> str:
    """What is wrong with a file of the generation: "missing", "a link", "cut", "altered", or nothing."""
    folder, wanted = path / manifest.generation, manifest.files.get(name)
    file = folder / name
    if folder.is_symlink() or file.is_symlink():  # it could lead anywhere
        return "a link"
    try:
        size = file.stat().st_size
        if wanted is not None and size == wanted.bytes:
            return "" if entry_of(file) == wanted else "altered"
    except OSError:  # it may go while it is looked at: a writer has swapped the index
        return "missing"
    return "missing" if wanted is None else "cut" if size < wanted.bytes else "altered"


def faults(path: Path, manifest: Manifest) -> dict[str, str]:
    """The files of the generation that are not as they were written, and what is wrong with each (`fault_of`)."""
    names = [*FILES, *(name for name in manifest.files if name not in FILES)]
    return {name: fault for name in names if (fault := fault_of(path, manifest, name))}


def check_files(path: Path, manifest: Manifest) -> None:
    """Raise IndexDamagedError, naming each file that is missing or altered."""
    if wrong := faults(path, manifest):
        told = ", ".join(f"{str(path / manifest.generation / name)!r} is {fault}" for name, fault in wrong.items())
        raise IndexDamagedError(f"{told}: run 'artrag index repair {path}', or 'artrag ingest' into it again")
