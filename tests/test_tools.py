"""The calculator and the search tool, as agents call them."""

from typing import Any

import pytest
from fakes import ScriptedRetriever, passage
from langchain_core.runnables import RunnableLambda

from artrag.index import Index, IndexRetriever
from artrag.tools import calculator, search_tool

NAUSEA = passage("Nausea was the most common event.", "a.md", context="Alphadrug trial")


def called(name: str, **args: Any) -> Any:
    """A model's own call, which brings the artifact back."""
    return {"type": "tool_call", "id": "1", "name": name, "args": args}


@pytest.mark.parametrize(
    ("expression", "value"),
    [("12 * (3 + 4.5)", "90"), ("1,098 - 912", "186"), ("10 / 4", "2.5"), ("2 ** 40", "1.09951162778e+12")],
)
def test_the_calculator_gives_the_value_as_text(expression: str, value: str) -> None:
    assert calculator.invoke(expression) == value


def test_the_calculator_says_why_there_is_no_value() -> None:
    assert "divides by zero" in calculator.invoke({"expression": "1 / 0"})
    assert "write plain arithmetic" in calculator.invoke({"expression": "__import__('os')"})
    assert "1 to 200 characters" in calculator.invoke({"expression": ""})


async def test_the_calculator_works_for_an_agent() -> None:
    message = await calculator.ainvoke(called("calculator", expression="3 x 4"))
    assert (message.type, message.content, message.status) == ("tool", "12", "success")
    assert calculator.name == "calculator" and list(calculator.args) == ["expression"]


async def test_search_gives_the_agent_text_and_the_app_passages() -> None:
    retriever = ScriptedRetriever(found=[NAUSEA, *(passage(f"other {n}", "b.md", n) for n in range(9))])
    tool = search_tool(retriever, k=2)
    for message in (
        tool.invoke(called(tool.name, question="Which event?")),
        await tool.ainvoke(called(tool.name, question="Which event?")),
    ):
        assert "[1] <passage>\n(Alphadrug trial)\nNausea was the most common event.\n</passage>" in message.content
        assert "[2] <passage>\nother 0" in message.content and "[3]" not in message.content
        assert message.artifact == [NAUSEA, passage("other 0", "b.md", 0)]
    assert retriever.asked == ["Which event?", "Which event?"]
    assert tool.invoke({"question": "Which event?"}) == message.content


async def test_search_awaits_an_asynchronous_retriever() -> None:
    async def found(_question: str) -> Any:
        return [NAUSEA]

    def blocking(_question: str) -> Any:
        raise AssertionError("the blocking way was taken")

    tool = search_tool(RunnableLambda(blocking, afunc=found))
    assert (await tool.ainvoke(called(tool.name, question="Q?"))).artifact == [NAUSEA]


@pytest.mark.parametrize("nothing", [[], None])
async def test_search_says_that_nothing_was_found(nothing: Any) -> None:
    tool = search_tool(RunnableLambda(lambda _question: nothing))
    for message in (
        tool.invoke(called(tool.name, question="Q?")),
        await tool.ainvoke(called(tool.name, question="Q?")),
    ):
        assert (message.content, message.artifact) == ("Nothing was found.", [])


def test_search_is_named_for_its_documents() -> None:
    tool = search_tool(ScriptedRetriever(found=[]), name="search_manuals", description="Search the pump manuals.")
    assert (tool.name, tool.description) == ("search_manuals", "Search the pump manuals.")
    assert list(tool.args) == ["question"] and search_tool(ScriptedRetriever(found=[])).name == "search_documents"


def test_search_reads_an_index(index: Index) -> None:
    message = search_tool(IndexRetriever(index=index), k=1).invoke(called("s", question="What does PMP-417 mean?"))
    assert "downstream occlusion" in message.content
    assert message.artifact[0].metadata["document"] == "manual.md" and "bm25" in message.artifact[0].metadata["arms"]
