"""What the nodes of `art` cost beyond LangGraph itself.

    python benchmarks/graph_overhead.py

Runs, by turns, `art` with parts that answer at once (the Asker doubts, so that every node but `review` runs) and a bare
graph of the same nodes and edges that returns one small dictionary a node. Prints one line of JSON: the median
milliseconds of a run of each, their ratio, and its limit. The chat model and the retriever are the least a LangChain
`Runnable` can be, without its callbacks; a `BaseChatModel` adds LangChain's own time, which is not measured here.
"""

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from artrag import Doubt, Subquestion, build_art

RUNS, WARM_UP = 200, 20
LIMIT = 3.0
QUESTION: Any = {"question": "Which event was most common?"}
PATH = ("receive", "retrieve", "answer", "ask", "refine", "trust")


class Instant(Runnable[Any, Any]):
    """Says the same at once."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """What it always says."""
        return self.said


class Doubter:
    """Doubts every draft."""

    def ask(self, question: str, draft: str, passages: Any = None) -> Doubt:
        """One open subquestion."""
        return Doubt([Subquestion("How common was nausea?", False)], 0.9, "always")


class Even:
    """Trusts every answer alike."""

    def score(self, question: str, answers: Any, passages: Any = None) -> list[float]:
        """The same score for each."""
        return [0.8 for _ in answers]

    def confidence(self, question: str, answer: str, passages: Any = None) -> float:
        """High enough."""
        return 0.8


class Small(TypedDict, total=False):
    """State of the bare graph."""

    question: str
    seen: str


def art() -> Callable[[], Any]:
    """A run of the product."""
    passages = [Document("Nausea was the most common event.", metadata={"id": "a#0", "document": "a.md"})]
    chat = Instant(AIMessage("Nausea was the most common event [1]."))
    graph = build_art(chat=chat, asker=Doubter(), truster=Even(), retriever=Instant(passages)).compile()
    found = graph.invoke(QUESTION)
    assert tuple(found["usage"]) == PATH and found["rounds"] == 1, "another path was taken"
    return lambda: graph.invoke(QUESTION)


def bare() -> Callable[[], Any]:
    """A run of LangGraph alone."""
    graph = StateGraph(Small)
    for name in (*PATH, "review"):
        graph.add_node(name, lambda _state: {"seen": "x"})
    for start, end in ((START, "receive"), ("receive", "retrieve"), ("retrieve", "answer"), ("answer", "ask")):
        graph.add_edge(start, end)
    graph.add_conditional_edges("ask", lambda _state: "doubted", {"doubted": "refine", "not doubted": "trust"})
    graph.add_edge("refine", "trust")
    routes = {"not sure yet": "ask", "a person decides": "review", "answered": END}
    graph.add_conditional_edges("trust", lambda _state: "answered", routes)
    graph.add_conditional_edges("review", lambda _state: "reviewed", {"one more round": "refine", "reviewed": END})
    compiled = graph.compile()
    return lambda: compiled.invoke(QUESTION)


def main() -> None:
    """Measure by turns, print."""
    runs = {"art": art(), "bare": bare()}
    took: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(WARM_UP + RUNS):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if turn >= WARM_UP:
                took[name].append(1000 * (time.perf_counter() - started))
    ours, theirs = median(took["art"]), median(took["bare"])
    report = {
        "art_ms": round(ours, 2),
        "bare_ms": round(theirs, 2),
        "ratio": round(ours / theirs, 2),
        "limit": LIMIT,
        "ok": ours / theirs <= LIMIT,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
