"""A part that asks a person (LangGraph's `interrupt`) stops the run, instead of failing, and is told the reply."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fakes import ScriptedAsker, ScriptedChat, ScriptedRetriever, ScriptedTruster, passage
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

import artrag
from artrag import Doubt, Subquestion

OPEN = Subquestion("How common was nausea?", False)


class PersonAsks:
    """An Asker who is a person."""

    def ask(self, question: str, draft: str, passages: Any = None) -> Doubt:
        return Doubt([OPEN], float(interrupt(draft)), "a person says so")


class PersonTrusts:
    """A Truster who is a person."""

    def score(self, question: str, answers: Any, passages: Any = None) -> list[float]:
        return [float(interrupt(list(answers)))] * len(answers)

    def confidence(self, question: str, answer: str, passages: Any = None) -> float:
        return 0.9


class PersonFinds(ScriptedRetriever):
    """A retriever that asks a person where it is asked for more."""

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        return [passage(str(interrupt(query)), "b.md")] if OPEN.text in query else list(self.found)


class PersonRanks(BaseDocumentCompressor):
    """A reranker that asks a person for the order."""

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> list[Document]:
        return [documents[int(n)] for n in str(interrupt(query)).split()]


@tool
def person(question: str) -> str:
    """Ask a person."""
    return str(interrupt(question))


def art(**parts: Any) -> tuple[Any, ScriptedChat]:
    """The graph, and its chat model."""
    given: dict[str, Any] = {
        "asker": ScriptedAsker(0.9, 0.9, 0.9, subquestions=[OPEN]),
        "truster": ScriptedTruster({"Nausea": 0.9}),
    }
    chat = ScriptedChat("Nausea.", "Nausea, often.", "Nausea, often.")
    return artrag.build_art(chat=chat, **given | parts).compile(checkpointer=InMemorySaver()), chat


def ranked(reranker: Any) -> tuple[Any, ScriptedChat]:
    """Two passages and a reranker."""
    retriever = ScriptedRetriever(found=[passage("Nausea was common."), passage("Nausea was rare.", "b.md")])
    chat = ScriptedChat("Nausea.")
    built = artrag.build_contextual_rag(chat=chat, retriever=retriever, reranker=reranker)
    return built.compile(checkpointer=InMemorySaver()), chat


CASES: list[tuple[Callable[[], Any], str, Callable[[Any, ScriptedChat], bool]]] = [
    (lambda: art(asker=PersonAsks()), "0.7", lambda end, _: end["refine_probability"] == 0.7),
    (lambda: art(truster=PersonTrusts()), "0.6", lambda end, _: "failed" not in end["decision"]),
    (lambda: art(tools=[person]), "4 of 9", lambda _, chat: "person: 4 of 9" in chat.asked[1]),
    (
        lambda: ranked(PersonRanks()),
        "1 0",
        lambda end, _: [one.page_content for one in end["passages"]] == ["Nausea was rare.", "Nausea was common."],
    ),
    (
        lambda: art(retriever=PersonFinds(found=[passage("Nausea was common.")])),
        "4 of 9",
        lambda end, _: any("4 of 9" in one.page_content for one in end["passages"]),
    ),
]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(("build", "reply", "heard"), CASES, ids=["asker", "truster", "tool", "reranker", "retriever"])
async def test_a_person_behind_a_part_is_waited_for(
    build: Callable[[], tuple[Any, ScriptedChat]], reply: str, heard: Callable[[Any, ScriptedChat], bool], later: bool
) -> None:
    graph, chat = build()
    thread: Any = {"configurable": {"thread_id": "1"}}

    async def go(given: Any) -> Any:
        return await graph.ainvoke(given, thread) if later else graph.invoke(given, thread)

    waiting = await go({"question": "Which event?"})
    assert len(waiting["__interrupt__"]) == 1 and (waiting["draft"] or "Nausea").startswith("Nausea")
    end = await go(Command(resume=reply))
    assert "__interrupt__" not in end and end["answer"].startswith("Nausea") and heard(end, chat), end
