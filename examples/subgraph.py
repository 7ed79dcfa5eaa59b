"""`art` as a step of a graph of one's own: it reads `question`, the next step reads `answer` and `confidence`.

    python examples/subgraph.py "What does alarm PMP-417 mean?"

Keys of the same name are shared with the parent; what the parent does not declare stays inside.
"""

import sys
from pathlib import Path
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

import artrag
from artrag.index import Index, IndexRetriever
from artrag.models import load_asker, load_chat, load_truster

CORPUS = Path(__file__).parent / "corpus"
INDEX = ".artrag/examples"


class Ticket(TypedDict, total=False):
    """State of a help desk: two keys of its own, three shared with `art`."""

    customer: str
    mail: str
    question: str
    answer: str
    confidence: float


def write_mail(state: Ticket) -> Ticket:
    """The confidence is calibrated: a threshold on it means something."""
    if state["confidence"] < 0.5:
        return {"mail": f"Dear {state['customer']},\na colleague will look into it."}
    return {"mail": f"Dear {state['customer']},\n{state['answer']}"}


def main(question: str) -> None:
    """Build the desk around `art`, and put one question to it."""
    artrag.ingest(CORPUS, index=INDEX)
    chat = load_chat(artrag.Settings().chat)  # or any LangChain chat model
    retriever = IndexRetriever(index=Index.open(INDEX))  # or any LangChain retriever
    art = artrag.build_art(chat=chat, asker=load_asker(), truster=load_truster(), retriever=retriever)

    desk = StateGraph(Ticket)
    desk.add_node("art", art.compile())
    desk.add_node("write_mail", write_mail)
    desk.add_edge(START, "art")
    desk.add_edge("art", "write_mail")
    desk.add_edge("write_mail", END)
    ticket = desk.compile().invoke({"customer": "Ms Arendt", "question": question})
    print(ticket["mail"], f"({ticket['confidence']:.2f})", sep="\n")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "What does alarm PMP-417 mean?")
