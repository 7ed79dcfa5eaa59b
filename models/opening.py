"""Opens trained parts by name or folder; each folder once a process."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from artrag.errors import UnknownModelError
from artrag.models.parts import MANIFEST, SHIPPED, Kind, read_part


def part_folder(kind: Kind, name: str | Path) -> Path:
    """The folder that a part's name stands for: "trained" for the shipped one, else the folder itself.

    Raises:
        UnknownModelError: the name stands for nothing and is no folder.
    """
    # The whole path: a relative one may mean another folder after a change of directory.
    folder = SHIPPED / kind if name == "trained" else Path(os.path.expanduser(name)).resolve()
    if not folder.is_dir():
        raise UnknownModelError(
            f"no {kind} {str(name)!r}: name 'trained', 'evidence', 'prompted' (together with a chat model), or the "
            f"folder of a trained {kind}"
        )
    return folder


def reader_folder(name: str | Path, beside: Path | None = None) -> Path:
    """The folder of a step reader: "trained" stands for the shipped one, a relative path begins at `beside`."""
    return SHIPPED / "reader" if name == "trained" else ((beside or Path()) / os.path.expanduser(name)).resolve()


def open_trained(kind: Kind, name: str | Path) -> Any:
    """The trained part in a folder, or the shipped one for the name "trained".

    Raises:
        UnknownModelError: the name stands for nothing and is no folder.
        PartError: the folder holds no such part, or one of another version or base model.
    """
    folder = part_folder(kind, name)
    written = folder / MANIFEST
    return _opened(kind, folder, written.stat().st_mtime_ns if written.is_file() else 0)


@lru_cache(maxsize=8)
def _opened(kind: Kind, folder: Path, _written: int) -> Any:
    part = read_part(folder, kind)
    if part.variant == "causal":
        from artrag.models.causal import CausalAsker, CausalTruster

        return CausalAsker.load(folder) if kind == "asker" else CausalTruster.load(folder)
    if part.variant == "encoder":
        from artrag.models.encoder import EncoderAsker, EncoderTruster

        return EncoderAsker.load(folder) if kind == "asker" else EncoderTruster.load(folder)
    from artrag.models.trained import TrainedAsker, TrainedTruster

    return TrainedAsker.load(folder) if kind == "asker" else TrainedTruster.load(folder)
