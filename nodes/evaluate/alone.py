"""One evaluation at a time in a folder: two would pay for the same answers, and cut off each other's lines."""

from pathlib import Path

from artrag.errors import RunLockedError
from artrag.formats import unwritable
from artrag.holding import Hold
from artrag.steps import Call, Steps, T


def alone(folder: Path, steps: Steps[T]) -> Steps[T]:
    """The steps, while nobody else may run in the folder, which is made where it is missing.

    Raises:
        RunLockedError: somebody else is running there; the message says who.
        UsageError: nothing can be written there.
    """
    hold: Hold = yield Call(_hold, None, (folder,))
    try:
        made = yield from steps
    except BaseException:
        hold.unlock()  # wherever this is: on an event loop nothing may touch the disk
        raise
    yield Call(hold.release)
    return made


def _hold(folder: Path) -> Hold:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Hold.take(folder, told=f"the folder {str(folder)!r} of this run", otherwise=RunLockedError)
    except OSError as error:
        raise unwritable(folder, error) from error
