"""What a stage has measured and decided, as metadata of its run: to be read and filtered by in any tracer."""

from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import BaseTracer

_DECIDED = (
    "refine_probability",
    "needs_refining",
    "confidence",
    "abstained",
    "rounds",
    "need",
    "decision",
    "stop_reason",
)
NOTED = (*_DECIDED, "passages", "retrieval_scores", "truster_scores")


def note_scores(config: RunnableConfig, update: Mapping[str, Any]) -> None:
    """Write the scores of a stage's update into the metadata of its run and of the graph's, in every tracer there is.

    So LangSmith's filters find the runs of little confidence, and a trace without texts still tells its route. Noted
    are the Asker's `refine_probability`, the Truster's `truster_scores`, `confidence` and `decision`, the
    `retrieval_scores` of the passages, best first, and what was decided from them.
    """
    manager = config.get("callbacks")
    if manager is None or isinstance(manager, list):
        return
    tracers = [handler for handler in manager.handlers if isinstance(handler, BaseTracer)]
    found = scores(update) if tracers else {}
    for handler in tracers if found else ():
        stage = handler.run_map.get(str(manager.parent_run_id))
        graph = handler.run_map.get(str(stage.parent_run_id)) if stage else None
        for run in (stage, graph):
            if run is not None:
                run.add_metadata(found)


def scores(update: Mapping[str, Any]) -> dict[str, Any]:
    """The scores and decisions among the keys that a stage writes, as plain data."""
    found = {key: update[key] for key in _DECIDED if update.get(key) not in (None, "")}
    passages = update.get("passages")
    if isinstance(passages, list):
        seen = [one.metadata.get("score") for one in passages if isinstance(one, Document)]
        found["passages"] = len(passages)
        found["retrieval_scores"] = _rounded(seen)
    judged = _rounded(one.get("score") for one in update.get("candidates") or [] if isinstance(one, Mapping))
    return found | ({"truster_scores": judged} if judged else {})


def _rounded(scores: Iterable[Any]) -> list[float]:
    """What is a number among them: a retriever of somebody else's may put anything there."""
    return [round(float(score), 4) for score in scores if isinstance(score, int | float)]
