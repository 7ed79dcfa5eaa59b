"""artrag's nodes one by one: a search app of one's own that borrows retrieving, answering and trusting.

    python examples/single_nodes.py "What does alarm PMP-417 mean?"

A node's docstring says which keys it reads and writes; a state that has them, of any kind, will do.
"""

import sys
from pathlib import Path
from typing import Any, TypedDict

from langchain_core.documents import Document
from langgraph.graph import END, START, StateGraph

import artrag
from artrag.index import Index, IndexRetriever
from artrag.models import load_chat, load_truster
from artrag.nodes import answer, retrieve, trust

CORPUS = Path(__file__).parent / "corpus"
INDEX = ".artrag/examples"


class Search(TypedDict, total=False):
    """The keys that the borrowed nodes read and write; others of their keys are dropped."""

    question: str
    passages: list[Document] | None
    candidates: list[dict[str, Any]]
    draft: str
    answer: str
    confidence: float
    decision: str


def main(question: str) -> None:
    """Three nodes in a row: no Asker, no refinement, one calibrated answer."""
    artrag.ingest(CORPUS, index=INDEX)
    search = StateGraph(Search, context_schema=artrag.Settings)
    search.add_node("retrieve", retrieve(IndexRetriever(index=Index.open(INDEX))))
    search.add_node("answer", answer(load_chat(artrag.Settings().chat)))
    search.add_node("trust", trust(load_truster()))
    search.add_edge(START, "retrieve")
    search.add_edge("retrieve", "answer")
    search.add_edge("answer", "trust")
    search.add_edge("trust", END)
    found = search.compile().invoke({"question": question}, context=artrag.Settings(k=3))
    print(found["answer"], f"(confidence {found['confidence']:.2f}; {found['decision']})")
    print([passage.metadata["document"] for passage in found["passages"]])


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "What does alarm PMP-417 mean?")
