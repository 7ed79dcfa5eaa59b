"""Regression tests of answers: `pytest --artrag questions.jsonl --min-faithfulness 0.8`.

Loaded by pytest where artrag is installed; without `--artrag` it does nothing. Each threshold that is given is one
test: the mean over all questions must reach it. One more says that no question failed.
"""

import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

MEASURES = {"quality": "quality", "faithfulness": "support", "recall": "recall", "relevancy": "relevancy"}
"""What a threshold is of -> the name of the measure (`artrag.evaluation.answering`)."""
WORST = 5
"""Questions named in a failure."""
WORKER, SESSION = "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"
WAIT = 0.5
"""Seconds between two looks whether another worker is done."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("artrag", "answers of a graph")
    group.addoption("--artrag", metavar="FILE", help="questions with right answers, .jsonl")
    group.addoption("--artrag-app", metavar="MODULE:NAME", help="a graph, chain or agent of your own, or what makes it")
    group.addoption("--artrag-system", default="art", metavar="NAME", help="else a rung of the ladder (art)")
    group.addoption("--artrag-index", action="append", metavar="DIR", help="index of that rung")
    group.addoption("--artrag-run", default=".artrag/pytest", metavar="DIR", help="where answers are kept")
    for name in MEASURES:
        group.addoption(f"--min-{name}", type=float, metavar="SHARE", help=f"the mean {name} must reach it (0 to 1)")


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the tests."""
    if not config.getoption("--artrag"):
        return
    items.append(Answers.from_parent(session, name="artrag: no question fails"))
    for name in MEASURES:
        if (least := config.getoption(f"--min-{name}")) is not None:
            items.append(Answers.from_parent(session, name=f"artrag: {name} >= {least:g}", measure=name, least=least))


class MissedError(Exception):
    """A threshold was missed; its words are the whole message."""


class Answers(pytest.Item):
    """One threshold; the first test asks, the others look at the same answers."""

    def __init__(self, *, measure: str = "", least: float = 0.0, **given: Any) -> None:
        super().__init__(**given)
        self.measure, self.least = measure, least

    def runtest(self) -> None:
        """Ask, if nobody has, and compare."""
        report = _report(self.config)
        (system,) = report["systems"].values()
        if not self.measure:
            if system["failed"]:
                raise MissedError(f"{system['failed']} of {report['questions']} questions failed{_worst(self.config)}")
            return
        found = system.get(MEASURES[self.measure])
        if not found:
            raise MissedError(
                f"{self.measure} was not measured: the answers or the questions have nothing to measure it by"
            )
        if found["value"] < self.least:
            interval = f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
            count = system["counts"][MEASURES[self.measure]]
            raise MissedError(
                f"{self.measure} is {interval} over {count} questions, and must be at least {self.least:g}"
                + _worst(self.config)
            )

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The message alone, where a threshold was missed."""
        return str(excinfo.value) if isinstance(excinfo.value, MissedError) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the questions are."""
        return Path(self.config.getoption("--artrag")), None, self.name


_REPORT = pytest.StashKey[Mapping[str, Any]]()


def _report(config: pytest.Config) -> Mapping[str, Any]:
    """The report over all questions; asked for once a session."""
    if _REPORT not in config.stash:
        from artrag.interfaces.wiring import wired_evaluate
        from artrag.models import load_embedder
        from artrag.settings import Settings

        settings = Settings()
        embedder = (
            load_embedder(settings.embedder, local_only=settings.local_only)
            if config.getoption("--min-relevancy") is not None
            else None
        )
        state: dict[str, Any] = {"questions": config.getoption("--artrag"), "run": config.getoption("--artrag-run")}
        if own := config.getoption("--artrag-app"):
            from artrag.graphs.evaluate import build_evaluate

            graph = build_evaluate([_own(own)], embedder=embedder)
        else:
            graph = wired_evaluate(embedder)
            state |= {
                "systems": [config.getoption("--artrag-system")],
                "indexes": config.getoption("--artrag-index") or [],
            }
        config.stash[_REPORT] = _in_turn(lambda: graph.compile().invoke(state, context=settings)["report"])  # type: ignore[call-overload]
    return config.stash[_REPORT]


def _in_turn(ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of several workers of pytest-xdist the first one asks; the others wait, and find its answers."""
    from artrag.errors import RunLockedError

    while True:
        try:
            return ask()
        except RunLockedError:
            if WORKER not in os.environ:
                raise
            time.sleep(WAIT)


def _own(name: str) -> Any:
    """The user's own app as a system; its answers are kept for this session only, which may have several workers."""
    from importlib import import_module

    from artrag.errors import UsageError
    from artrag.protocols import System

    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--artrag-app {name!r}: {error}: give MODULE:NAME of a runnable") from None
    return System(name, _runnable(found, name), about=os.environ.get(SESSION) or uuid.uuid4().hex)


def _runnable(found: Any, name: str) -> Any:
    """A runnable as it is, a graph compiled, a function of a question, or what a function without arguments makes."""
    from inspect import signature

    from langchain_core.runnables import Runnable, RunnableLambda

    from artrag.errors import UsageError

    if isinstance(found, Runnable):
        return found
    if hasattr(found, "compile"):
        return found.compile()
    if not callable(found):
        raise UsageError(f"--artrag-app {name!r} is {str(found)[:60]!r}: give MODULE:NAME of a runnable or a function")
    if not signature(found).parameters:
        return _runnable(found(), name)
    return RunnableLambda(lambda given: found(given["question"]))


def _worst(config: pytest.Config) -> str:
    """The questions to look at first, a line each."""
    from artrag.evaluation.against import QUALITIES
    from artrag.evaluation.rows import read_rows

    rows = [row for _, row in read_rows(Path(config.getoption("--artrag-run")) / QUALITIES)]
    rows.sort(key=lambda row: min(row["qualities"].values()))
    told = [f"\n  {min(row['qualities'].values()):.2f} {row['id']}: {row['question'][:100]}" for row in rows[:WORST]]
    return (
        "; the answers of least quality are to"
        + "".join(told)
        + f"\n  report: {config.getoption('--artrag-run')}/report.html"
    )
