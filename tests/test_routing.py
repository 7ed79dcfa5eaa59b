"""What a question needs, and the graph that goes that way."""

import pytest
from fakes import ScriptedChat, ScriptedRetriever, passage

from artrag import build_routed
from artrag.routing import route_of

PUMP = [passage("The Velmora pump raises alarm PMP-417 at 4 bar."), passage("Nothing of note.")]


@pytest.mark.parametrize(
    ("question", "need"),
    [
        ("At how many bar does the Velmora pump raise its alarm?", "retrieval"),
        ("How many of 12 Velmora pumps with alarm PMP-417 at 4 bar?", "retrieval"),
        ("Tom has 12 bags of 3 apples. How many apples has he?", "arithmetic"),
        ("Tom buys two dozen eggs. How many has he?", "arithmetic"),
        ("What is 12 * 3?", "arithmetic"),
        ("Was the treaty of 1648 signed before that of 1713?", "neither"),
        ("Tom has 12 apples. How many has he?", "neither"),
        ("Who wrote Faust?", "neither"),
    ],
)
def test_what_a_question_needs(question: str, need: str) -> None:
    found = route_of(question, PUMP)
    assert found.need == need and found.reason
    if need != "retrieval":
        assert route_of(question, None).need == need == route_of(question, []).need


@pytest.mark.parametrize(
    ("question", "said", "need", "prompt"),
    [
        ("At how many bar does the Velmora pump raise its alarm?", "4 bar [1]", "retrieval", "<passage>"),
        ("What is 12 * 3?", "12 * 3 = 36\nAnswer: 36", "arithmetic", "Think step by step"),
        ("Who wrote Faust?", "Goethe", "neither", "Which planet"),
    ],
)
def test_the_graph_goes_the_way_that_is_needed(question: str, said: str, need: str, prompt: str) -> None:
    chat = ScriptedChat(said)
    graph = build_routed(chat=chat, retriever=ScriptedRetriever(found=PUMP)).compile()
    state = graph.invoke({"question": question})
    assert state["answer"] == said and state["need"] == need and state["decision"].startswith(f"{need}: ")
    assert prompt in chat.asked[0] and (state["passages"] is None) == (need != "retrieval")
    assert bool(state["citations"]) == (need == "retrieval") and state["usage"]["route"]["calls"] == 0
