"""Asking a chat model for contexts: what to ask, in which order, within which budget."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable

from artrag import prompts
from artrag.errors import ModelCallError, PromptTooLongError
from artrag.index.build import digest
from artrag.index.catalog import StoredChunk, StoredDocument
from artrag.index.windows import ANSWER, Piece, estimate, pieces
from artrag.nodes.calling import say
from artrag.nodes.node import Run
from artrag.passages import data
from artrag.steps import Call, Steps, side_by_side

FAILURES = 3
"""Calls that may fail one after another, retries included, before the model counts as down."""

Kind = Literal["document", "llm"]
Keep = Callable[[Piece, str], None]
_PROMPTS: dict[Kind, str] = {"document": "contextualize_document", "llm": "contextualize"}


class Questions:
    """What is asked about documents, by prompt, model and window; no model is needed to know it.

    Attributes:
        like: a fingerprint of all three.
        fixed: tokens of a prompt besides document and chunk, by estimate.
    """

    def __init__(self, kind: Kind, model: str, window: int) -> None:
        self.prompt = prompts.load(_PROMPTS[kind])
        words = [message.text for message in self.prompt.format_messages(document="", chunk="")]
        self.kind, self.window = kind, window
        self.fixed = sum(estimate(text) + 8 for text in words)
        self._asked = digest(kind, model, *words)
        self.like = digest(self._asked, str(window))

    def about(
        self, document: StoredDocument, chunks: Sequence[StoredChunk], window: int | None = None
    ) -> Iterator[list[Piece]]:
        """The questions about a document, those with the same window in one list.

        Args:
            document: the document.
            chunks: its chunks, in order.
            window: tokens that a prompt may have; None: those of the settings.
        """
        yield from pieces(document, chunks, self.kind, tokens=(window or self.window) - self.fixed, asked=self._asked)

    def cost(self, group: Sequence[Piece], *, once: bool) -> list[int]:
        """About how many prompt tokens each question of a group takes.

        Args:
            group: questions with the same window.
            once: the window is read for the first of them alone.
        """
        window = estimate(group[0].window)
        return [self.fixed + estimate(p.chunk) + (0 if once and n else window) for n, p in enumerate(group)]

    def messages(self, piece: Piece, window: str) -> list[BaseMessage]:
        """The prompt of a question."""
        return self.prompt.format_messages(document=data(window), chunk=data(piece.chunk))


def opened(chat: Runnable[Any, Any]) -> Any:
    """The chat model itself, where `chat` opens one by a method `live`; else `chat`."""
    live = getattr(chat, "live", None)
    return live() if callable(live) else chat


class Asking:
    """One ingest's questions to a chat model: side by side, and no more than the budget allows."""

    def __init__(self, chat: Any, questions: Questions, run: Run, counts: dict[str, int]) -> None:
        self._chat, self._questions, self._run, self._counts = chat, questions, run, counts
        self._many = getattr(chat, "answer_many", None) if hasattr(type(chat), "answer_many") else None
        self._window = min(questions.window, _window(chat) or questions.window)
        self._reckoned = 0  # tokens of the calls made, by estimate
        self._failed = 0  # calls that failed one after another
        self._spent = 0  # tokens, those of the calls that are about to be made by estimate
        self._stopped = False

    def questions(self, document: StoredDocument, chunks: Sequence[StoredChunk]) -> Iterator[list[Piece]]:
        """The questions about a document that fit this model's window."""
        return self._questions.about(document, chunks, self._window)

    def answer(
        self, groups: Sequence[Sequence[Piece]], known: dict[str, str | None], keep: Keep
    ) -> Steps[dict[str, str | None]]:
        """Answers by key: those known, and those made now. None: the model cannot read so much. Missing: not asked.

        Args:
            groups: questions, those with the same window together.
            known: answers from earlier.
            keep: takes each new answer as soon as it exists.
        """
        answers, seen = dict(known), set(known)
        meter = self._run.meter
        # What the model reports counts; where it reports nothing, what its calls were reckoned with.
        self._spent = meter.prompt_tokens + meter.completion_tokens or self._reckoned
        wanted: list[list[Piece]] = []
        for group in groups:
            self._counts["reused"] += sum(piece.key in known for piece in group)
            new = list({piece.key: piece for piece in group if piece.key not in seen}.values())
            seen.update(piece.key for piece in new)
            if new and (affordable := self._affordable(new)):
                wanted.append(affordable)
        if self._many:
            yield Call(self._ask_many, None, ([piece for group in wanted for piece in group], answers, keep))
            return answers
        several = {group[0].window for group in wanted if len(group) > 1}

        def one(piece: Piece) -> Callable[[], Steps[None]]:
            return lambda: self._ask(piece, answers, keep, piece.window in several)

        # The first of each window alone: the server then has read what the others begin with.
        limit = self._run.settings.context_calls
        for portion in ([group[0] for group in wanted], [piece for group in wanted for piece in group[1:]]):
            yield from side_by_side([one(piece) for piece in portion], limit)
        return answers

    def _affordable(self, group: list[Piece]) -> list[Piece]:
        """As many of a group's questions, from the first on, as the budget allows; once it does not, none is asked."""
        budget = self._run.settings.context_budget
        taken = []
        for piece, tokens in zip(group, self._questions.cost(group, once=bool(self._many)), strict=True):
            tokens += ANSWER
            self._stopped = self._stopped or (budget is not None and self._spent + tokens > budget)
            if self._stopped:
                self._counts["over budget"] = self._counts.get("over budget", 0) + len(piece.chunks)
                continue
            self._spent += tokens
            self._reckoned += tokens
            taken.append(piece)
        return taken

    def _ask_many(self, asked: list[Piece], answers: dict[str, str | None], keep: Keep) -> None:
        """Ask a model that reads what neighbours share once."""
        read: list[Piece] = []
        conversations = []
        for piece in asked:
            window: str | None = piece.window
            while window is not None and not self._chat.fits(self._questions.messages(piece, window)):
                window = piece.shorter(window)
            if window is None:
                answers[piece.key] = None
            else:
                read.append(piece)
                conversations.append(self._questions.messages(piece, window))

        def done(number: int, answer: AIMessage) -> None:
            piece = read[number]
            said = answers[piece.key] = answer.text.strip()
            keep(piece, said)

        if self._many:
            self._many(conversations, done=done)

    def _ask(self, piece: Piece, answers: dict[str, str | None], keep: Keep, shared: bool) -> Steps[None]:
        """Ask any model for one context."""
        window: str | None = piece.window
        while window is not None:
            messages = self._questions.messages(piece, window)
            if shared and _is_anthropic(self._chat):
                messages = with_cache_control(messages, window)
            try:
                said: str = yield from say(self._chat, messages, self._run)
            except PromptTooLongError:
                window = piece.shorter(window)
                continue
            except ModelCallError:
                self._failed += 1
                if self._failed >= FAILURES or not self._counts["made"]:
                    raise
                self._counts["failed"] = self._counts.get("failed", 0) + 1
                return
            self._failed = 0
            answers[piece.key] = said
            yield Call(keep, None, (piece, said))
            return
        answers[piece.key] = None


def with_cache_control(messages: Sequence[BaseMessage], window: str) -> list[BaseMessage]:
    """The messages, with a mark of Anthropic's after the document: what stands before it is to be kept in its cache."""
    marked = []
    for message in messages:
        text = message.text
        end = text.find(window) + len(window)
        if window and window in text:
            blocks: list[str | dict[str, Any]] = [
                {"type": "text", "text": text[:end], "cache_control": {"type": "ephemeral"}}
            ]
            if text[end:]:
                blocks.append({"type": "text", "text": text[end:]})
            message = message.model_copy(update={"content": blocks})
        marked.append(message)
    return marked


def _is_anthropic(chat: Any) -> bool:
    return any(cls.__name__.startswith("ChatAnthropic") for cls in type(_inner(chat)).__mro__)


def _inner(chat: Any) -> Any:
    """The model inside `bind`, `with_config` and `with_retry`."""
    while "bound" in (getattr(type(chat), "model_fields", None) or {}):
        chat = chat.bound
    return chat


def _window(chat: Any) -> int | None:
    """Tokens of a prompt that a model says it can read."""
    inner = _inner(chat)
    if isinstance(getattr(inner, "window", None), int):
        return int(inner.window) - int(getattr(inner, "max_tokens", 0) or 0)
    profile = getattr(inner, "profile", None) or {}
    most = profile.get("max_input_tokens")
    return int(most) if most else None
