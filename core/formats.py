"""Format versions: what is kept says which it has, and what has another one is refused in the same words."""

import json
import os
from pathlib import Path
from typing import Any, Literal

from artrag.errors import FormatError, UsageError

RUN_FILE = "run.json"
RUN_FORMAT = 1
STATE_FORMAT = 1
"""Of what the question-answering graphs keep on a thread."""
RunKind = Literal["evaluate", "simrag"]


def refusal(what: str, found: object, reads: int, mend: str) -> str:
    """Why something of another format version is not read, and what mends it."""
    said = "no format version" if found is None else f"format {found!r}"
    newer = isinstance(found, int) and found > reads
    return f"{what} has {said}, this artrag reads {reads}: {'pip install -U artrag, or ' if newer else ''}{mend}"


def begin_run(folder: Path, kind: RunKind) -> None:
    """Note in the folder of a run what it is; one that is gone on with is checked.

    Raises:
        FormatError: the folder has another format version, or holds a run of another kind.
        UsageError: nothing can be written there.
    """
    place = folder / RUN_FILE
    if check_run(folder, kind):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(f".{RUN_FILE}.{os.getpid()}")
        beside.write_text(json.dumps({"format": RUN_FORMAT, "kind": kind}) + "\n", "utf-8")
        os.replace(beside, place)
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> UsageError:
    """What is said of a folder that nothing can be written into."""
    return UsageError(f"nothing can be written into {str(folder)!r} ({error}): give another folder")


def check_run(folder: Path, kind: RunKind) -> bool:
    """Refuse a run that cannot be read; False where the folder does not say: it is empty, or older than the note.

    Raises:
        FormatError: the folder has another format version, or holds a run of another kind.
    """
    place = folder / RUN_FILE
    mend = "give another folder"
    try:
        told: Any = json.loads(place.read_text("utf-8"))
        found, holds = told.get("format"), told.get("kind")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise FormatError(f"{str(place)!r} cannot be read ({error}): {mend}") from None
    if found != RUN_FORMAT:
        raise FormatError(refusal(repr(str(place)), found, RUN_FORMAT, mend))
    if holds != kind:
        raise FormatError(f"{str(folder)!r} holds a run of {holds!r}, not of {kind!r}: {mend}")
    return True
