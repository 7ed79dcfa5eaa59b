"""Running a graph from the command line: progress while it runs, plain data at the end."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langgraph.graph import StateGraph
from rich.console import Console
from rich.progress import Progress, TaskID

from artrag.harmless import harmless
from artrag.interfaces.show import progress_bar
from artrag.settings import Settings


def ready_models(settings: Settings, console: Console, *, chat: bool = True) -> None:
    """Open the models that the settings name, with a bar: the first time they are fetched and converted."""
    from artrag.models import load_chat, load_embedder

    with progress_bar(console) as bar:
        task = bar.add_task("opening models", total=100)

        def tell(what: str, share: float) -> None:
            bar.update(task, description=what, completed=int(100 * share))

        if chat:
            load_chat(settings.chat, local_only=settings.local_only, progress=tell)
        else:
            load_embedder(settings.embedder, local_only=settings.local_only, progress=tell)


def execute(
    build: Callable[[], StateGraph[Any, Any, Any, Any]],
    inputs: Mapping[str, Any],
    settings: Settings,
    console: Console,
    *,
    trace: Path | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """The final state of one run of the graph that is built; its progress events drive a bar on `console`.

    With `trace`, the run's steps go into `<trace>/trace.jsonl` and its page to `<trace>/trace.html`; `name` is what the
    run is called in traces.
    """
    from artrag.tracing import LocalTracer, as_html
    from artrag.tracing.remote import refuse_remote_tracing

    refuse_remote_tracing(settings)
    tracer = LocalTracer(trace / "trace.jsonl") if trace else None
    state: dict[str, Any] = {}
    try:
        with progress_bar(console) as bar:
            tasks: dict[str, TaskID] = {}
            stream = (
                build()
                .compile(name=name)
                .stream(
                    dict(inputs),
                    context=settings,
                    config={"callbacks": [tracer]} if tracer else None,
                    stream_mode=["custom", "values"],
                )
            )
            for mode, event in stream:
                if mode == "values":
                    state = event  # type: ignore[assignment]
                elif isinstance(event, dict):
                    _advance(bar, tasks, event)
    finally:  # a run that failed is the one to look into
        if tracer and trace:
            (trace / "trace.html").write_text(as_html(tracer.spans), encoding="utf-8")
    return state


def _advance(bar: Progress, tasks: dict[str, TaskID], event: Mapping[str, Any]) -> None:
    stage = event["stage"]
    for other, task in tasks.items():
        if other != stage:
            bar.update(task, visible=False)
    if stage not in tasks:
        tasks[stage] = bar.add_task(stage, total=None)
    bar.update(
        tasks[stage],
        description=harmless(f"{stage}: {event['message']}"),
        completed=event.get("done", 0),
        total=event.get("total"),
        visible=True,
    )


def plain_passage(passage: Document) -> dict[str, Any]:
    """A passage as JSON: id, document, text, context, score, each arm's rank and score, offsets."""
    about = passage.metadata
    return {
        "id": about.get("id", passage.id),
        "document": about.get("document"),
        "text": passage.page_content,
        "context": about.get("context", ""),
        "score": about.get("score"),
        "arms": about.get("arms", {}),
        "start": about.get("start"),
        "end": about.get("end"),
        "page": about.get("page"),
    }


def plain_result(state: Mapping[str, Any]) -> dict[str, Any]:
    """A run as JSON."""
    keys = ("question", "answer", "abstained", "confidence", "decision", "refine_reason", "subquestions", "candidates")
    return {key: state[key] for key in keys if key in state} | {
        "refined": bool(state.get("rounds")),
        "citations": state.get("citations") or [],
        "passages": [plain_passage(passage) for passage in state.get("passages") or []],
        "usage": state.get("usage") or {},
    }
