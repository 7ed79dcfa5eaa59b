"""One local model, many callers."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from artrag.errors import ModelBusyError
from artrag.models import LocalChat, decoding, serving

QUESTIONS = [f"{'word ' * (n % 4)}What is {n} times {n + 3}?" for n in range(16)]


@pytest.fixture
def chat(tiny_chat_folder: Path) -> LocalChat:
    return LocalChat.load(str(tiny_chat_folder), max_tokens=24)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each decoding step had."""
    seen: list[int] = []
    usual = decoding.Decoding.step

    def counted(self: decoding.Decoding) -> None:
        if self.rows:
            seen.append(len(self.rows))
        usual(self)

    monkeypatch.setattr(decoding.Decoding, "step", counted)
    return seen


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Decoding waits before each step until the event is set."""
    go = threading.Event()
    usual = decoding.Decoding.step

    def held(self: decoding.Decoding) -> None:
        if self.rows:
            go.wait(20)
        usual(self)

    monkeypatch.setattr(decoding.Decoding, "step", held)
    yield go
    go.set()


def until(true: Any) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


async def test_concurrent_calls_are_decoded_side_by_side_and_answer_as_alone(chat: LocalChat, steps: list[int]) -> None:
    alone = [chat.invoke(question) for question in QUESTIONS]
    assert set(steps) == {1}
    serial = len(steps)
    steps.clear()
    together = await asyncio.gather(*(chat.ainvoke(question) for question in QUESTIONS))
    assert [a.text for a in together] == [a.text for a in alone]
    assert [a.usage_metadata for a in together] == [a.usage_metadata for a in alone]
    assert max(steps) > 8 and len(steps) < serial / 4
    steps.clear()
    with ThreadPoolExecutor(16) as pool:
        threads = list(pool.map(chat.invoke, QUESTIONS))
    assert [a.text for a in threads] == [a.text for a in alone] and max(steps) > 4


async def test_asynchronous_calls_take_one_thread(chat: LocalChat) -> None:
    before = set(threading.enumerate())
    tasks = [asyncio.ensure_future(chat.ainvoke(question)) for question in QUESTIONS]
    await asyncio.sleep(0.01)
    new = [thread.name for thread in threading.enumerate() if thread not in before]
    await asyncio.gather(*tasks)
    assert new in ([], ["artrag-serving"])


def test_an_answer_of_another_length_and_prompt_can_join(chat: LocalChat, slow: threading.Event) -> None:
    """A row that needs more room than those before makes the room."""
    long = "Tell me about " + "many things, " * 20
    expected = [chat_alone(chat, "short?", 4), chat_alone(chat, long, 40), chat_alone(chat, "third?", 8)]
    slow.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(chat.bind(max_tokens=4).invoke, "short?")
        until(lambda: chat._serving._thread is not None)
        rest = [
            pool.submit(chat.bind(max_tokens=40).invoke, long),
            pool.submit(chat.bind(max_tokens=8).invoke, "third?"),
        ]
        slow.set()
        assert [f.result().text for f in (first, *rest)] == expected


def chat_alone(chat: LocalChat, question: str, most: int) -> str:
    """What transformers' own loop makes of it."""
    other = LocalChat(chat._model, chat._tokenizer, max_tokens=most, repetition_penalty=1.0000001)
    return other.invoke(question).text


def test_less_memory_admits_fewer(chat: LocalChat, steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [chat.invoke(question).text for question in QUESTIONS]
    steps.clear()
    token = 2 * 2 * 16 * chat._model.dtype.itemsize
    monkeypatch.setattr(decoding, "MEMORY", 2 * 300 * token)  # four rows of 75 tokens, three of 80 and more
    with ThreadPoolExecutor(16) as pool:
        assert [a.text for a in pool.map(chat.invoke, QUESTIONS)] == alone
    assert 1 <= max(steps) <= 4


def test_too_many_callers_are_refused(chat: LocalChat, slow: threading.Event) -> None:
    chat._serving._most_waiting = 2
    answers = [chat._serving.ask([1, 2, 3], 4)]
    until(lambda: not chat._serving._waiting)
    with chat_blocked(chat):
        answers += [chat._serving.ask([1, 2, 3], 4)]
        with pytest.raises(ModelBusyError, match="2 callers wait for this model already"):
            chat.invoke("one too many")
        slow.set()
    assert len({tuple(answer.result(20)) for answer in answers}) == 1


def chat_blocked(chat: LocalChat) -> Any:
    """A caller that waits to have the model alone, and holds back those behind it."""

    class Blocked:
        def __enter__(self) -> None:
            self.thread = threading.Thread(target=self.wait)
            self.thread.start()
            until(lambda: chat._serving._waiting)

        def wait(self) -> None:
            with chat._serving.alone():
                pass

        def __exit__(self, *_: Any) -> None:
            self.thread.join(20)

    return Blocked()


def test_who_comes_first_is_served_first(chat: LocalChat, slow: threading.Event) -> None:
    """Work that needs the model alone waits for those before it, and those behind it wait for it."""
    order: list[str] = []
    first = chat._serving.ask([5, 6], 6)
    first.add_done_callback(lambda _: order.append("first"))
    until(lambda: not chat._serving._waiting)

    def alone() -> None:
        with chat._serving.alone():
            order.append("alone")

    thread = threading.Thread(target=alone)
    thread.start()
    until(lambda: chat._serving._waiting)
    last = chat._serving.ask([5, 6], 1)
    last.add_done_callback(lambda _: order.append("last"))
    slow.set()
    assert last.result(20) == first.result(20)[:1]
    thread.join(20)
    assert order == ["first", "alone", "last"]


async def test_a_caller_that_goes_away_frees_its_row(chat: LocalChat, slow: threading.Event, steps: list[int]) -> None:
    leaving = asyncio.ensure_future(chat.ainvoke(QUESTIONS[0]))
    staying = asyncio.ensure_future(chat.ainvoke(QUESTIONS[1]))
    await asyncio.to_thread(until, lambda: chat._serving._thread is not None and not chat._serving._waiting)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    slow.set()
    answer = await staying
    slow.set()
    assert steps.count(2) <= 2, "the row of the one who left was decoded on"
    assert answer.text == chat.invoke(QUESTIONS[1]).text


def test_one_who_goes_away_while_waiting_is_skipped(chat: LocalChat, slow: threading.Event) -> None:
    first = chat._serving.ask([5, 6], 3)
    until(lambda: not chat._serving._waiting)
    with chat_blocked(chat):
        gone, after = chat._serving.ask([7], 3), chat._serving.ask([5, 6], 3)
        assert gone.cancel()
        slow.set()
    assert after.result(20) == first.result(20)


def test_a_failing_step_is_told_to_each_caller_and_the_next_is_served(
    chat: LocalChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = chat.invoke("again?").text
    usual, broken = decoding.Decoding.step, [True]

    def fails(self: decoding.Decoding) -> None:
        if self.rows and broken:
            raise MemoryError("no room for a tensor")
        usual(self)

    monkeypatch.setattr(decoding.Decoding, "step", fails)
    asked = [chat._serving.ask([5, 6], 3), chat._serving.ask([7, 8], 3)]
    for answer in asked:
        with pytest.raises(MemoryError, match="no room"):
            answer.result(20)
    broken.clear()
    assert chat.invoke("again?").text == right


def test_a_prompt_that_cannot_be_read_fails_alone(chat: LocalChat, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = serving.read

    def read(model: Any, beginning: Any, rest: list[int]) -> Any:
        if rest[0] == 13:
            raise RuntimeError("unlucky")
        return usual(model, beginning, rest)

    monkeypatch.setattr(serving, "read", read)
    bad, good = chat._serving.ask([13], 3), chat._serving.ask([5, 6], 3)
    assert len(good.result(20)) == 3
    with pytest.raises(RuntimeError, match="unlucky"):
        bad.result(20)


def test_the_thread_ends_when_nobody_asks(chat: LocalChat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "IDLE", 0.01)
    said = chat.invoke("hello?").text
    thread = chat._serving._thread
    until(lambda: chat._serving._thread is None and not (thread and thread.is_alive()))
    assert chat.invoke("hello?").text == said


@pytest.mark.parametrize("options", [{}, {"temperature": 0.8, "seed": 3}])
async def test_streams_give_what_a_call_gives(chat: LocalChat, options: dict[str, Any]) -> None:
    bound = chat.model_copy(update=options)
    whole = bound.invoke("stream?")
    pieces = list(bound.stream("stream?"))
    later = [piece async for piece in bound.astream("stream?")]
    assert len(pieces) > 3 and "".join(p.text for p in pieces).strip().startswith(whole.text[:8])
    assert [p.text for p in later] == [p.text for p in pieces]
    assert pieces[-1].usage_metadata or pieces[-2].usage_metadata


async def test_a_reader_that_goes_away_frees_the_model(chat: LocalChat, steps: list[int]) -> None:
    long = chat.bind(max_tokens=400)
    with closing(long.stream("stream?")) as stream:
        next(iter(stream))
    async with aclosing(long.astream("stream?")) as later:
        async for _ in later:
            break
    made = len(steps)
    until(lambda: not chat._serving._waiting)
    chat.invoke("next?")
    assert made < 300 and len(steps) < 500


async def test_a_stream_ends_at_a_stop_word_and_raises_what_went_wrong(
    chat: LocalChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = "".join(p.text for p in chat.stream("stream?"))
    mark = whole[4:6]
    assert "".join(p.text for p in chat.stream("stream?", stop=[mark])) == whole[: whole.index(mark)]
    assert "".join([p.text async for p in chat.astream("stream?", stop=[mark])]) == whole[: whole.index(mark)]

    def fails(self: decoding.Decoding) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(decoding.Decoding, "step", fails)
    with pytest.raises(MemoryError):
        list(chat.stream("stream?"))
    with pytest.raises(MemoryError):
        [p async for p in chat.astream("stream?")]


def test_a_character_is_streamed_when_it_is_whole(chat: LocalChat) -> None:
    from artrag.models.writing import Writing

    writing = Writing(chat._tokenizer, None)
    tokens = chat.get_token_ids("a€b")
    said = [chunk.text if (chunk := writing.add(token)) else "" for token in tokens]
    assert "".join(said) == "a€b" and "\ufffd" not in "".join(said) and "" in said


def test_no_caller_waits_for_ever_whatever_fails(chat: LocalChat) -> None:
    right = chat.invoke("again?").text
    usual = chat._serving._ended
    chat._serving._ended = lambda _: 1 // 0  # type: ignore[assignment]
    for answer in [chat._serving.ask([5, 6], 3), chat._serving.ask([7, 8], 3)]:
        with pytest.raises(ZeroDivisionError):
            answer.result(20)
    chat._serving._ended = usual
    assert chat.invoke("again?").text == right
