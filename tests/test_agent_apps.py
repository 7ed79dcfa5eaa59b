"""artrag in other people's agents and programs: the tool, the middleware, the plain functions."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import HashedWords, ScriptedAsker, ScriptedChat, ScriptedRetriever, ScriptedTruster, passage
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from openai_server import Fail, OpenAIServer
from pydantic import BaseModel

import artrag
from artrag import Answer, ArtMiddleware, Settings, answer_tool
from artrag.errors import IndexNotFoundError, QuestionError, SettingsError, UsageError
from artrag.protocols import Subquestion
from artrag.tools import search_tool

ALARM = passage("PMP-417 means downstream occlusion.", "manual.md")
OTHER = passage("PMP-471 means upstream occlusion.", "manual.md", 1)
QUESTION = "What does PMP-417 mean?"
THREAD: Any = {"configurable": {"thread_id": "1"}}
SCORES = {"ownstream": 0.9, "pstream": 0.5, "battery": 0.1}


class Agent(BaseChatModel):
    """Says its messages, one after another, whatever tools it has."""

    script: list[Any]
    seen: list[Any] = []

    def __init__(self, *script: Any) -> None:
        super().__init__(script=list(script), seen=[])

    @property
    def _llm_type(self) -> str:
        return "scripted-agent"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self

    def _generate(self, messages: list[Any], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        self.seen.append(messages)
        said = self.script.pop(0)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(said) if isinstance(said, str) else said)])


def calling(name: str, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": "call-1"}])


def art(*said: Any, **parts: Any) -> Any:
    parts = {"retriever": ScriptedRetriever(found=[OTHER, ALARM])} | parts
    asker, truster = ScriptedAsker(*[0.1] * 9), ScriptedTruster(SCORES)
    return artrag.build_art(chat=ScriptedChat(*said), asker=asker, truster=truster, **parts)


def asking(*said: Any, settings: Settings | None = None, **parts: Any) -> Any:
    return answer_tool(art(*said, **parts).compile(), settings=settings)


# the tool


def test_the_agent_sees_text_and_the_app_keeps_the_rest() -> None:
    agent = create_agent(Agent(calling("ask_documents", question=QUESTION), "A valve."), [asking("A valve.")])
    *_, read, _ = agent.invoke({"messages": [("user", "PMP-417?")]})["messages"]
    assert read.text == "A valve.\nConfidence: 0.50"
    agent = create_agent(
        Agent(calling("ask_documents", question=QUESTION), "Downstream."), [asking("It means downstream occlusion.")]
    )
    *_, read, _ = agent.invoke({"messages": [("user", "PMP-417?")]})["messages"]
    assert read.text == "It means downstream occlusion [2].\n[2] manual.md\nConfidence: 0.90"
    assert set(read.artifact) == set(Answer.__match_args__) and read.artifact["confidence"] == 0.9
    (source,) = read.artifact["sources"]
    assert (source["n"], source["passage"], source["text"]) == (2, "manual.md#0", ALARM.page_content)
    assert json.loads(json.dumps(read.artifact)) == read.artifact


async def test_asynchronous_agents_have_it_too() -> None:
    agent = create_agent(Agent(calling("ask_documents", question=QUESTION), "Ok."), [asking("Upstream occlusion.")])
    *_, read, _ = (await agent.ainvoke({"messages": [("user", "PMP-417?")]}))["messages"]
    assert read.text.endswith("Confidence: 0.50") and read.artifact["question"] == QUESTION


def test_an_abstention_is_said_in_words() -> None:
    read = asking("It is the battery.").invoke(
        {"type": "tool_call", "name": "ask_documents", "id": "1", "args": {"question": QUESTION}}
    )
    assert read.text.startswith("I cannot answer this with enough confidence (0.10") and read.artifact["abstained"]


def test_a_graph_without_trust_has_no_confidence() -> None:
    rag = artrag.build_contextual_rag(
        chat=ScriptedChat("Downstream occlusion."), retriever=ScriptedRetriever(found=[ALARM])
    )
    read = answer_tool(rag.compile(), name="look_up", description="Looks up.").invoke(
        {"type": "tool_call", "name": "look_up", "id": "1", "args": {"question": QUESTION}}
    )
    assert read.text == "Downstream occlusion [1].\n[1] manual.md" and read.artifact["confidence"] is None


@pytest.mark.parametrize("question", [QUESTION, " "])
async def test_what_the_agent_can_act_on_comes_back_to_it(question: str) -> None:
    for way in ("invoke", "ainvoke"):
        settings = Settings(retries=0)
        agent = create_agent(
            Agent(calling("ask_documents", question=question), "I could not find out."),
            [asking(ConnectionError("down"), settings=settings)],
        )
        inputs: Any = {"messages": [("user", "PMP-417?")]}
        found = await agent.ainvoke(inputs) if way == "ainvoke" else agent.invoke(inputs)
        *_, read, said = found["messages"]
        wanted = "the question is blank" if question == " " else "no usable reply in 1 try (ConnectionError: down)"
        assert read.status == "error" and wanted in read.text and read.artifact is None
        assert said.text == "I could not find out."


def test_what_only_the_developer_can_mend_is_raised(tmp_path: Path) -> None:
    nowhere = answer_tool(settings=Settings(index=str(tmp_path / "none")))
    with pytest.raises(IndexNotFoundError, match="none"):
        nowhere.invoke({"question": QUESTION})


def test_the_agents_own_context_is_no_setting() -> None:
    class Context(BaseModel):
        user: str

    for schema, context in ((dict, {"user": "me"}), (Context, Context(user="me"))):
        agent = create_agent(
            Agent(calling("ask_documents", question=QUESTION), "Ok."),
            [asking("Downstream.")],
            context_schema=schema,  # type: ignore[type-var]
        )
        found = agent.invoke({"messages": [("user", "PMP-417?")]}, context=context)  # type: ignore[arg-type]
        assert found["messages"][-2].status == "success"


def test_a_review_inside_the_tool_interrupts_the_agent() -> None:
    agent = create_agent(
        Agent(calling("ask_documents", question=QUESTION), "Ok."),
        [asking("Upstream.", settings=Settings(review=True))],
        checkpointer=InMemorySaver(),
    )
    stopped = agent.invoke({"messages": [("user", "PMP-417?")]}, THREAD)["__interrupt__"]
    assert stopped[0].value["answer"] == "Upstream [1]."
    found = agent.invoke(Command(resume={"action": "edit", "text": "Downstream occlusion."}), THREAD)
    assert found["messages"][-2].text.startswith("Downstream occlusion [2].")


def test_its_form_is_described() -> None:
    made = asking("x")
    schema: Any = made.tool_call_schema.model_json_schema()  # type: ignore[union-attr]
    assert (
        set(schema["properties"]) == {"question"} and "conversation" in schema["properties"]["question"]["description"]
    )
    assert made.name == "ask_documents" and "how sure" in made.description


# the middleware


def doubting(*said: Any, doubts: Any = (0.1,), settings: Settings | None = None, **parts: Any) -> ArtMiddleware:
    parts = {"asker": ScriptedAsker(*doubts), "truster": ScriptedTruster(SCORES)} | parts
    return ArtMiddleware(chat=ScriptedChat(*said), settings=settings or Settings(), **parts)


def finished(agent_says: Any, middleware: ArtMiddleware, *before: Any, **more: Any) -> list[Any]:
    says = agent_says if isinstance(agent_says, list) else [agent_says]
    agent = create_agent(Agent(*says), more.pop("tools", []), middleware=[middleware], **more)
    found: list[Any] = agent.invoke({"messages": [*before, HumanMessage(QUESTION)]})["messages"]
    return found


def test_a_final_answer_is_doubted_refined_and_replaced() -> None:
    first = AIMessage(
        "It is the upstream valve.",
        id="said-1",
        response_metadata={"model": "m"},
        additional_kwargs={"mine": 1},
        name="agent",
    )
    answer = finished(first, doubting("It is downstream occlusion.", doubts=[0.9]))[-1]
    assert (answer.text, answer.id, answer.name) == ("It is downstream occlusion.", "said-1", "agent")
    assert answer.response_metadata == {"model": "m"} and answer.additional_kwargs["mine"] == 1
    about = answer.additional_kwargs
    assert (about["confidence"], about["refined"], about["abstained"]) == (0.9, True, False)
    assert about["doubt"] == "doubt 0.9" and "trusts the refined answer" in about["decision"]


def test_an_answer_that_is_not_doubted_keeps_its_words() -> None:
    *_, question, answer = finished("It is the upstream valve.", doubting())
    assert question.type == "human" and answer.text == "It is the upstream valve."
    assert answer.additional_kwargs["confidence"] == 0.5 and not answer.additional_kwargs["refined"]


async def test_it_awaits() -> None:
    agent = create_agent(Agent("It is upstream."), middleware=[doubting("Downstream, downstream.", doubts=[0.9])])
    found = await agent.ainvoke({"messages": [("user", QUESTION)]})
    assert found["messages"][-1].text == "Downstream, downstream." and len(found["messages"]) == 2


def test_below_the_floor_the_agent_abstains() -> None:
    answer = finished("It is the battery.", doubting())[-1]
    assert answer.text.startswith("I cannot answer") and answer.additional_kwargs["abstained"]
    answer = finished("It is the battery.", doubting(settings=Settings(abstain_below=0.0)))[-1]
    assert answer.text == "It is the battery." and answer.additional_kwargs["confidence"] == 0.1


class Broken(ScriptedTruster):
    def score(self, *_: Any) -> list[float]:
        raise OSError("no weights")


def test_failing_parts_leave_the_answer_and_are_named() -> None:
    answer = finished("It is upstream.", doubting(doubts=[OSError("no weights")]))[-1]
    assert answer.text == "It is upstream." and answer.additional_kwargs["doubt"] == "ask failed: OSError: no weights"
    answer = finished("It is upstream.", doubting(truster=Broken({})))[-1]
    assert answer.text == "It is upstream."
    assert answer.additional_kwargs["decision"] == "trust failed: OSError: no weights; the draft stands"
    failing = doubting(ConnectionError("down"), doubts=[0.9], settings=Settings(retries=0))
    answer = finished("It is upstream.", failing)[-1]
    assert answer.text == "It is upstream." and "refine failed: ModelCallError" in answer.additional_kwargs["decision"]


@tool
def manual(text: str) -> str:
    """Look into the manual."""
    return ALARM.page_content


@tool
def broken(text: str) -> str:
    """Fail."""
    raise ValueError("no manual")


class Watching(ScriptedAsker):
    """Remembers what it was shown."""

    def ask(self, question: str, draft: str, passages: Any = None) -> Any:
        self.shown = (question, draft, passages)
        return super().ask(question, draft, passages)


def test_passages_come_from_the_tools_of_the_agent() -> None:
    asker = Watching(0.1)
    says = [calling("manual", text="PMP-417"), "It means downstream occlusion."]
    *_, call, read, answer = finished(says, doubting(asker=asker), tools=[manual])
    assert call.tool_calls and not call.additional_kwargs and read.type == "tool"
    question, draft, passages = asker.shown
    assert (question, draft) == (QUESTION, "It means downstream occlusion.")
    assert [(p.page_content, p.metadata["document"]) for p in passages] == [(ALARM.page_content, "manual")]
    assert answer.text == "It means downstream occlusion [1]."
    assert answer.additional_kwargs["sources"][0]["document"] == "manual"


def test_artifacts_of_retrievers_and_of_the_answer_tool_are_passages() -> None:
    asker = Watching(0.1)
    look = search_tool(ScriptedRetriever(found=[OTHER, ALARM]))
    says = [calling("search_documents", question="PMP-417"), "It means downstream occlusion."]
    answer = finished(says, doubting(asker=asker), tools=[look])[-1]
    assert [p.id for p in asker.shown[2]] == ["manual.md#1", "manual.md#0"] and answer.text.endswith("occlusion [2].")
    says = [calling("ask_documents", question=QUESTION), "It means downstream occlusion [2]."]
    asker = Watching(0.1)
    answer = finished(says, doubting(asker=asker), tools=[asking("Downstream occlusion.")])[-1]
    assert [p.id for p in asker.shown[2]] == ["manual.md#0"] and answer.text == "It means downstream occlusion [1]."
    assert answer.additional_kwargs["sources"][0]["start"] == ALARM.metadata["start"]


def test_failed_and_earlier_tools_bring_nothing_new() -> None:
    asker = Watching(0.1)
    wrong = ToolMessage("no manual", tool_call_id="a", status="error")
    empty = ToolMessage("  ", tool_call_id="b")
    state: Any = {"messages": [HumanMessage(QUESTION), wrong, empty, AIMessage("Upstream.", id="1")]}
    doubting(asker=asker).after_model(state, None)
    assert asker.shown[2] is None
    old, new = ToolMessage("old", tool_call_id="a"), ToolMessage("new", tool_call_id="b", artifact={"other": 1})
    asker = Watching(0.1, 0.1)
    state = {"messages": [old, HumanMessage(QUESTION), new, AIMessage("Upstream.", id="1")]}
    middle = doubting(asker=asker)
    middle.after_model(state, None)
    assert [p.page_content for p in asker.shown[2]] == ["new"]
    state = {"messages": [HumanMessage("Hm"), old, HumanMessage(QUESTION), AIMessage("Upstream.", id="1")]}
    doubting(QUESTION, asker=asker).after_model(state, None)
    assert [p.page_content for p in asker.shown[2]] == ["old"]
    many = [ToolMessage(f"text {n}", tool_call_id=str(n)) for n in range(20)]
    asker = Watching(0.1)
    doubting(asker=asker).after_model({"messages": [HumanMessage("Q?"), *many, many[-1], AIMessage("A.")]}, None)  # type: ignore[typeddict-item]
    assert [p.page_content for p in asker.shown[2]] == [f"text {n}" for n in range(19, 11, -1)]


def test_a_follow_up_is_understood_from_the_conversation() -> None:
    asker = Watching(0.1)
    before = [HumanMessage("Which alarms has the pump?"), AIMessage("PMP-417.")]
    chat_says = "What does PMP-417 mean on the pump?"
    middle = ArtMiddleware(
        chat=(chat := ScriptedChat(chat_says)), asker=asker, truster=ScriptedTruster(SCORES), settings=Settings()
    )
    answer = finished([calling("manual", text="x"), "Downstream."], middle, *before, tools=[manual])[-1]
    assert chat.asked[0].endswith(f"Assistant: PMP-417.\n\nLast question: {QUESTION}")
    assert asker.shown[0] == chat_says == answer.additional_kwargs["question"]


PASSED: list[Any] = [
    [HumanMessage(QUESTION), AIMessage("I look.", tool_calls=calling("manual", text="x").tool_calls)],
    [
        HumanMessage(QUESTION),
        AIMessage("I look.", invalid_tool_calls=[{"name": "x", "args": "{", "id": "1", "error": ""}]),
    ],
    [HumanMessage(QUESTION), AIMessage("  ")],
    [SystemMessage("Go."), AIMessage("Done.")],
    [HumanMessage("  "), AIMessage("Done.")],
    [HumanMessage(QUESTION), AIMessage("A."), HumanMessage("B")],
]


@pytest.mark.parametrize("messages", PASSED)
async def test_what_is_no_final_answer_passes(messages: Any) -> None:
    middle = doubting(doubts=[])
    state: Any = {"messages": messages}
    assert middle.after_model(state, None) is None and await middle.aafter_model(state, None) is None


def test_a_structured_response_passes() -> None:
    class Found(BaseModel):
        meaning: str

    agent = create_agent(
        Agent('{"meaning": "downstream"}'), middleware=[doubting(doubts=[])], response_format=ProviderStrategy(Found)
    )
    found: Any = agent.invoke({"messages": [("user", QUESTION)]})
    assert found["structured_response"] == Found(meaning="downstream")
    assert found["messages"][-1].text == '{"meaning": "downstream"}' and not found["messages"][-1].additional_kwargs


def test_other_blocks_of_the_message_stay() -> None:
    thought: Any = {"type": "reasoning", "reasoning": "Hm."}
    said = AIMessage([thought, {"type": "text", "text": "Upstream."}])
    answer = finished(said, doubting("Downstream!", doubts=[0.9]))[-1]
    assert answer.content == [thought, {"type": "text", "text": "Downstream!"}]


def test_a_review_inside_the_middleware_interrupts_the_agent() -> None:
    agent = create_agent(
        Agent("Upstream."), middleware=[doubting(settings=Settings(review=True))], checkpointer=InMemorySaver()
    )
    stopped = agent.invoke({"messages": [("user", QUESTION)]}, THREAD)["__interrupt__"]
    assert stopped[0].value["answer"] == "Upstream." and stopped[0].value["question"] == QUESTION
    found = agent.invoke(Command(resume={"action": "edit", "text": "Downstream."}), THREAD)
    assert found["messages"][-1].text == "Downstream." and len(found["messages"]) == 2


def test_refining_looks_up_what_is_open() -> None:
    retriever = ScriptedRetriever(found=[ALARM])
    asker = ScriptedAsker(0.9, subquestions=[Subquestion("Downstream or upstream?", False)])
    middle = doubting("Downstream occlusion.", asker=asker, retriever=retriever)
    says = [calling("search_documents", question="x"), "Upstream occlusion."]
    answer = finished(says, middle, tools=[search_tool(ScriptedRetriever(found=[OTHER]))])[-1]
    assert retriever.asked == [f"{QUESTION} Downstream or upstream?"] and answer.text == "Downstream occlusion [2]."


def test_the_settings_name_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with OpenAIServer(otherwise="12 * 3 = 36. Answer: 36") as server:
        monkeypatch.setenv("ARTRAG_CHAT", server.reference)
        agent = create_agent(Agent("12 * 3 = 35. Answer: 35"), middleware=[ArtMiddleware()])
        answer = agent.invoke({"messages": [("user", "What is 12 * 3?")]})["messages"][-1]
    assert answer.text.endswith("36") and "12 * 3 = 35 (it is 36)" in answer.additional_kwargs["doubt"]


async def test_the_agents_own_context_is_no_setting_of_the_middleware() -> None:
    for way in ("invoke", "ainvoke"):
        middle = ArtMiddleware(chat=ScriptedChat(), asker=ScriptedAsker(0.1), truster=ScriptedTruster(SCORES))
        agent = create_agent(Agent("Upstream."), middleware=[middle], context_schema=dict)  # type: ignore[type-var]
        given: Any = {"input": {"messages": [("user", QUESTION)]}, "context": {"user": "me"}}
        found = await agent.ainvoke(**given) if way == "ainvoke" else agent.invoke(**given)
        assert found["messages"][-1].additional_kwargs["confidence"] == 0.5


def test_a_prompted_asker_asks_the_live_chat() -> None:
    chat = ScriptedChat('{"refine": true, "reason": "hm"}', "Downstream.")
    middle = ArtMiddleware(chat=chat, truster=ScriptedTruster(SCORES), settings=Settings(asker="prompted"))
    agent = create_agent(Agent("Upstream."), middleware=[middle])
    answer = agent.invoke({"messages": [("user", QUESTION)]})["messages"][-1]
    assert answer.additional_kwargs["doubt"] == "hm" and len(chat.asked) == 2


def test_a_prompted_truster_asks_the_live_chat() -> None:
    chat = ScriptedChat('{"refine": false, "reason": "fine"}', "90", "80")
    middle = ArtMiddleware(chat=chat, settings=Settings(asker="prompted", truster="prompted", samples=2))
    agent = create_agent(Agent("Upstream."), middleware=[middle])
    about = agent.invoke({"messages": [("user", QUESTION)]})["messages"][-1].additional_kwargs
    assert (about["confidence"], about["doubt"]) == (0.8, "fine") and not chat.script


# the plain functions


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(otherwise="It means downstream occlusion.") as running:
        monkeypatch.setenv("ARTRAG_CHAT", running.reference)
        yield running


@pytest.fixture
def folder(corpus: Path, tiny_encoder_folder: Path, tmp_path: Path) -> Path:
    place = tmp_path / "plain"
    report = artrag.ingest([corpus], index=place, embedder=str(tiny_encoder_folder), late=False)
    assert report["documents"] == 3 and report["added"] == 3
    return place


def test_without_langgraph(server: OpenAIServer, folder: Path, corpus: Path, tiny_encoder_folder: Path) -> None:
    answer = artrag.ask("What does alarm PMP-417 mean?", index=folder, k=2)
    assert answer.answer == "It means downstream occlusion [1]." and not answer.abstained and not answer.refined
    assert 0 < (answer.confidence or 0) < 1 and answer.sources[0]["document"] == "manual.md"
    assert server.asked[0].split("low [1]")[-1].count("<passage>") == 2
    with pytest.raises(AttributeError):
        answer.answer = "x"  # type: ignore[misc]
    found = artrag.search("PMP-417 occlusion", index=folder, k=2, where={"path": "manual.md"})
    assert [one.document for one in found] == ["manual.md"] and found[0].arms["bm25"]["rank"] == 1
    again = artrag.ingest(corpus, index=folder, embedder=str(tiny_encoder_folder), late=False)
    assert again["added"] == 0


async def test_without_langgraph_and_awaited(server: OpenAIServer, folder: Path, corpus: Path) -> None:
    answers = await asyncio.gather(*(artrag.aask("What does PMP-417 mean?", index=folder) for _ in range(3)))
    assert {answer.answer for answer in answers} == {"It means downstream occlusion [1]."}
    assert [one.document for one in await artrag.asearch("PMP-417", index=folder, k=1)] == ["manual.md"]


async def test_ingesting_is_awaited(corpus: Path, tiny_encoder_folder: Path, tmp_path: Path) -> None:
    report = await artrag.aingest(corpus, index=tmp_path / "i", embedder=str(tiny_encoder_folder), late=False)
    assert report["documents"] == 3


def test_without_an_index_it_reasons(server: OpenAIServer) -> None:
    server.otherwise = "12 * 3 = 36. Answer: 36"
    answer = artrag.ask("What is 12 * 3?")
    assert answer.answer.endswith("36") and answer.sources == []


def test_the_environment_names_the_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTRAG_INDEX", str(folder))
    assert artrag.search("PMP-417")[0].document == "manual.md"


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: artrag.ask(" "), QuestionError, "blank"),
    (lambda: artrag.ask(QUESTION, round=3), SettingsError, "unknown setting 'round': did you mean 'rounds'"),
    (lambda: artrag.ask(QUESTION, index="nowhere"), IndexNotFoundError, "nowhere"),
    (lambda: artrag.ask(QUESTION, review=True), UsageError, "with a checkpointer"),
    (lambda: artrag.search(QUESTION), UsageError, "no index to search"),
    (lambda: artrag.search(" ", index="x"), UsageError, "blank"),
    (lambda: artrag.search(QUESTION, index="nowhere"), IndexNotFoundError, "nowhere"),
    (lambda: artrag.ingest([], index="x"), UsageError, "paths="),
    (lambda: artrag.ingest("docs"), UsageError, "index=None"),
    (lambda: asyncio.run(artrag.aask(QUESTION, k=0)), SettingsError, "'k' cannot be 0"),
]


@pytest.mark.parametrize(("call", "error", "complaint"), WRONG)
def test_wrong_calls_are_named(
    call: Callable[[], Any], error: type[Exception], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=complaint):
        call()


def test_a_failing_model_is_an_error_and_no_answer(server: OpenAIServer) -> None:
    server.otherwise = Fail(500)
    with pytest.raises(artrag.errors.ModelCallError, match="500"):  # type: ignore[attr-defined]
        artrag.ask(QUESTION, retries=0)


def test_an_embedder_of_ones_own_is_for_the_builders() -> None:
    with pytest.raises(SettingsError, match="'embedder' cannot be"):
        artrag.ingest("docs", index="x", embedder=HashedWords())


async def test_a_deadline_and_a_failing_retriever_come_back_to_the_agent() -> None:
    """The agent may ask again; the middleware gives its answer as it was."""

    class Slow(ScriptedChat):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(30)

    class Broken(ScriptedRetriever):
        def _get_relevant_documents(self, query: str, **_: Any) -> Any:
            raise ConnectionError("down")

    parts: Any = {"asker": ScriptedAsker(0.9), "truster": ScriptedTruster({})}
    call: Any = {"type": "tool_call", "name": "ask_documents", "id": "1", "args": {"question": QUESTION}}
    hurried = artrag.build_art(chat=Slow(), **parts).compile()
    read = await answer_tool(hurried, settings=Settings(deadline=0.2)).ainvoke(call)
    assert read.status == "error" and "the time that this run may take is over" in read.text
    lost = artrag.build_art(chat=ScriptedChat(), retriever=Broken(found=[]), **parts).compile()
    read = answer_tool(lost, settings=Settings(retries=0)).invoke(call)
    assert read.status == "error" and "the retriever failed (ConnectionError: down)" in read.text
    hurried_agent = create_agent(
        Agent("It is upstream."),
        middleware=[ArtMiddleware(chat=Slow(), **parts, settings=Settings(deadline=0.5))],
    )
    found = await hurried_agent.ainvoke({"messages": [("user", QUESTION)]})
    answer = found["messages"][-1]
    assert answer.text == "It is upstream." and "refine failed: DeadlineError" in answer.additional_kwargs["decision"]
