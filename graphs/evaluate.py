"""evaluate: plan -> score -> [judge] -> report."""

from collections.abc import Sequence
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langgraph.graph import END, START, StateGraph

from artrag.errors import UsageError
from artrag.nodes import evaluate as nodes
from artrag.nodes.evaluate.score import Systems
from artrag.protocols import System, Truster
from artrag.settings import Settings
from artrag.state import EvaluateInput, EvaluateState


def build_evaluate(
    systems: Sequence[System] | Systems,
    *,
    embedder: Embeddings | None = None,
    truster: Truster | None = None,
    judge: BaseChatModel | None = None,
) -> StateGraph[EvaluateState, Settings, EvaluateInput, EvaluateState]:
    """Questions and systems to a report: what each scores, what each step gains, and what it costs.

    Args:
        systems: what is measured, from the bottom of the ladder to its top; any graph, chain or agent can be one. Or a
            function that makes them of the run's settings and input.
        embedder: any LangChain embedder; with one, the answers' relevancy to their questions is measured, too.
        truster: with one, how sure it is of each answer from passages is measured, too, as `faithfulness`.
        judge: any LangChain chat model; with one, it judges the answers by Ragas' metrics.

    Raises:
        UsageError: two systems have one name, or one stands over another that is not there.
    """
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(
        EvaluateState, context_schema=Settings, input_schema=EvaluateInput
    )
    graph.add_node("plan", nodes.plan())
    graph.add_node("score", nodes.score(systems if callable(systems) else _as_given(systems)))
    graph.add_node("report", nodes.report(embedder, truster))
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "score")
    if judge is not None:
        graph.add_node("judge", nodes.judge(judge, embedder))
        graph.add_edge("score", "judge")
        graph.add_edge("judge", "report")
    else:
        graph.add_edge("score", "report")
    graph.add_edge("report", END)
    return graph


def _as_given(systems: Sequence[System]) -> Systems:
    by_name = {system.name: system for system in systems}
    if len(by_name) < len(systems) or not systems:
        raise UsageError(f"systems {[system.name for system in systems]}: give at least one, each a name of its own")
    if loose := [system for system in systems if system.over and system.over not in by_name]:
        raise UsageError(f"{loose[0].name!r} stands over {loose[0].over!r}, which is no system here: add it")
    return lambda _settings, _state: by_name
