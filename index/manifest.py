"""The manifest of an index: what it is, what built it, and the checksums of its files.

An index is a directory:

    manifest.json            written last, by an atomic replace: it names the generation that counts
    <generation>/            catalog.sqlite, dense.faiss, bm25.npz
    cache.sqlite             contexts and vectors that were paid for; they outlive a killed run
    building-<id>/           an unfinished generation; nobody reads it
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from artrag.errors import IndexDamagedError, IndexNotFoundError, IndexVersionError

FORMAT = 1
FILES = ("catalog.sqlite", "dense.faiss", "bm25.npz")
ContextKind = Literal["none", "auto", "document", "llm"]


class FileEntry(BaseModel):
    """Size and checksum of one file."""

    model_config = ConfigDict(frozen=True)

    bytes: int
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
    dimension: int
    context: ContextKind
    documents: int
    chunks: int
    files: dict[str, FileEntry]


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the index at `path`.

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
    except (OSError, ValueError) as error:
        raise IndexDamagedError(f"{str(file)!r} cannot be read ({error}): run 'artrag ingest' into it again") from None
    version = data.get("format") if isinstance(data, dict) else None
    if version != FORMAT:
        raise IndexVersionError(
            f"the index at {str(path)!r} has format {version!r}, this artrag reads {FORMAT}: "
            "ingest its documents again into a new directory"
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        raise IndexDamagedError(
            f"{str(file)!r} is damaged at {'.'.join(map(str, problem['loc']))!r}: run 'artrag ingest' into it again"
        ) from None


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step: a reader sees the old one or the new one, nothing between."""
    beside = path / "manifest.json.new"
    with beside.open("w", encoding="utf-8") as file:
        file.write(manifest.model_dump_json(indent=2))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path / "manifest.json")


def entry_of(file: Path) -> FileEntry:
    """Size and checksum of a file."""
    with file.open("rb") as opened:
        return FileEntry(bytes=file.stat().st_size, sha256=hashlib.file_digest(opened, "sha256").hexdigest())


def check_files(path: Path, manifest: Manifest) -> None:
    """Raise IndexDamagedError for the first file that is missing or altered."""
    for name in FILES:
        file, wanted = path / manifest.generation / name, manifest.files.get(name)
        if wanted is None or not file.is_file():
            raise IndexDamagedError(f"{str(file)!r} is missing: run 'artrag ingest' into {str(path)!r} again")
        if entry_of(file) != wanted:
            raise IndexDamagedError(f"{str(file)!r} was altered or cut: run 'artrag ingest' into {str(path)!r} again")
