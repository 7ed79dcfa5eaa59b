"""Stages of benchmarks/live_art.py: each is kept on disk, so a killed run goes on, and its cost is measured."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from artrag.models.causal_model import CausalModel, Message
from artrag.training.loop import peak_memory_mb

CHUNK = 128
"""Prompts between two savings."""
BATCH = 32
"""Of a chunk, prompts of like length side by side: twice as many decode no faster, and pad more."""
MOST_TOKENS = 48
"""Tokens of a solution at most: 99% of the training solutions are shorter."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote, the tokens that it read for it, and those that it wrote."""

    text: str
    read: int
    wrote: int


class Stages:
    """What is done is on disk; so are the seconds of each stage, and the cost of each training.

    Args:
        out: where all is kept.
        options: of the run; a folder of another run is refused.
        tell: is told how far it is.
    """

    def __init__(self, out: Path, options: dict[str, Any], tell: Callable[[str], None]) -> None:
        self.out, self.tell = out, tell
        out.mkdir(parents=True, exist_ok=True)
        known = out / "options.json"
        if known.exists() and json.loads(known.read_text("utf-8")) != options:
            sys.exit(f"{str(out)!r} holds a run with {known.read_text('utf-8')}: name another folder for {options}")
        known.write_text(json.dumps(options), "utf-8")
        self._place = out / "seconds.json"
        self.seconds: dict[str, float] = json.loads(self._place.read_text("utf-8")) if self._place.exists() else {}
        self.training: dict[str, dict[str, float | None]] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds spent inside."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - begun, 1)
            self._place.write_text(json.dumps(self.seconds), "utf-8")

    def write(
        self, name: str, model: Callable[[], CausalModel], prompts: Sequence[list[Message]], **options: Any
    ) -> list[Written]:
        """What the model writes to each prompt; a chunk is kept as soon as it is there."""
        place = self.out / f"{name}.jsonl"
        lines = place.read_text("utf-8").split("\n")[:-1] if place.exists() else []  # a line cut by a kill has no end
        done = [Written(**json.loads(line)) for line in lines]
        place.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        with place.open("a", encoding="utf-8") as file:
            while len(done) < len(prompts):
                solver = model()
                with self.timed(name.split(".")[0]):
                    rows = [
                        solver.prompt(prompt, solver.window - MOST_TOKENS) for prompt in prompts[len(done) :][:CHUNK]
                    ]
                    texts = solver.write(
                        rows, most=MOST_TOKENS, batch=BATCH, **options | {"seed": options.get("seed", 0) + len(done)}
                    )
                # The token that ends an answer was written, too, unless there was no room for it.
                made = [
                    Written(text, len(row), min(len(solver.tokens(text)) + 1, MOST_TOKENS))
                    for text, row in zip(texts, rows, strict=True)
                ]
                file.write("".join(json.dumps(asdict(one)) + "\n" for one in made))
                file.flush()
                done += made
                self.tell(f"{name}: {len(done)} of {len(prompts)}")
        return done[: len(prompts)]

    def train(self, name: str, work: Callable[..., float | None], *given: Any) -> None:
        """Train something in a process of its own, so that its memory is its own; once.

        Args:
            name: what `training` keeps its cost under.
            work: a function of a module; it may hand back the seconds it took, those of killed runs before included.
            given: what it is called with.
        """
        place = self.out / f"{name}.cost.json"
        if not place.exists():
            cost = elsewhere(work, *given)
            place.write_text(json.dumps(cost), "utf-8")
        self.training[name] = json.loads(place.read_text("utf-8"))


def elsewhere(work: Callable[..., float | None], *given: Any) -> dict[str, float | None]:
    """Call `work` in a new process that ends when this one does: its seconds and its highest memory in MB."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),)) as pool:
        return pool.submit(measured, work, *given).result()


def measured(work: Callable[..., float | None], *given: Any) -> dict[str, float | None]:
    """Call `work` here: its seconds and this process's highest memory in MB so far."""
    begun = time.monotonic()
    told = work(*given)
    return {"seconds": round(max(time.monotonic() - begun, told or 0.0), 1), "peak_memory_mb": highest_memory_mb()}


def highest_memory_mb() -> float | None:
    """The highest memory of this process so far, in MB.

    Not by `getrusage`, where Linux tells more: there a process begins with the highest memory of its parent.
    """
    status = Path("/proc/self/status")
    lines = status.read_text("utf-8").splitlines() if status.exists() else []
    kept = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return round(int(kept[0]) * 1024 / 1e6, 1) if kept else peak_memory_mb()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: two trainings must never write the same checkpoint."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
