"""A causal language model on this machine, as a LangChain chat model."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManager, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables.config import ensure_config
from pydantic import PrivateAttr

from artrag.errors import MissingExtraError, ModelUnavailableError, PromptTooLongError
from artrag.models.decoding import plain_attention
from artrag.models.parts import sha256
from artrag.models.serving import Serving, settle
from artrag.models.taught import without_examples
from artrag.models.weights import ADAPTER, teach
from artrag.models.writing import Streamer, Writing, criteria, inert, loop, seeded, until, usage

ROWS = 32
"""Answers decoded at once: on two cores 32 take four times as long as one."""

_ROLES = {"human": "user", "ai": "assistant", "system": "system"}


class LocalChat(BaseChatModel):
    """A transformers model that answers chats, greedily unless a temperature is given.

    With a `seed` the same prompt is answered the same way at any temperature; a call with `n` gives that many answers,
    made side by side. Greedy calls that come while others are being answered join them (`artrag.models.serving`); other
    work has the model to itself, in the order of arrival. Special tokens inside messages are taken apart, so that no
    document can open a turn of its own.
    """

    name_or_path: str
    max_tokens: int = 96
    temperature: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0

    _model: Any = PrivateAttr()
    _tokenizer: Any = PrivateAttr()
    _serving: Serving = PrivateAttr()
    _taught: bool = PrivateAttr(default=False)

    def __init__(self, model: Any, tokenizer: Any, **options: Any) -> None:
        super().__init__(**{"name_or_path": str(model.name_or_path)} | options)
        self._model, self._tokenizer = model.eval(), tokenizer
        self._serving = Serving(model, self._ends, rows=ROWS)

    @classmethod
    def load(cls, folder: str, *, part: Path | None = None, **options: Any) -> "LocalChat":
        """Load from a folder, or by name from the model hub.

        Args:
            folder: of the weights, or the hub's name of them.
            part: folder of a trained answerer or verifier, whose LoRA weights are added in float32, once.
            options: fields of this class.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            ModelUnavailableError: there is no such model.
            PartError: the answerer is damaged, or was trained on another model.
        """
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
            from transformers.utils import logging
        except ImportError as error:
            raise MissingExtraError(f"local models need {error.name!r}: pip install 'artrag[local]'") from None
        logging.disable_progress_bar()
        device, dtype = place()
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32" if part else dtype)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise ModelUnavailableError(f"no chat model at {folder!r}: {error}") from None
        name = Path(folder).name
        if part:
            teach(model, Path(folder), part, "answerer", "verifier")
            name += f"+{sha256(part / ADAPTER)[:12]}"
        chat = cls(model.to(device, dtype), tokenizer, name_or_path=name, **options)
        chat._taught = part is not None
        return chat

    @property
    def _llm_type(self) -> str:
        return "artrag-local"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model_name": self.name_or_path,
            "temperature": self.temperature,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }

    @property
    def window(self) -> int:
        """Tokens of prompt and answer together."""
        return int(self._model.config.max_position_embeddings)

    def get_token_ids(self, text: str) -> list[int]:
        """The model's own tokens of a text."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt(self, messages: Sequence[BaseMessage]) -> str:
        """The chat as the model reads it, ready for its answer; a trained one needs no worked examples."""
        messages = without_examples(messages) if self._taught else messages
        turns = [{"role": _ROLES.get(m.type, "user"), "content": inert(self._tokenizer, m.text)} for m in messages]
        return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def _inputs(self, messages: Sequence[BaseMessage], max_tokens: int) -> Any:
        inputs = self._tokenizer(self.prompt(messages), return_tensors="pt", add_special_tokens=False)
        length = inputs["input_ids"].shape[1]
        if length + max_tokens > self.window:
            raise PromptTooLongError(
                f"the prompt has {length} tokens and the answer may have {max_tokens}, but {self.name_or_path!r} has "
                f"a window of {self.window}: ask less, pass fewer passages, or name a model with a longer window"
            )
        return inputs.to(self._model.device)

    def _options(self, given: dict[str, Any]) -> dict[str, Any]:
        temperature = given.get("temperature", self.temperature)
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        return sampling | {
            "max_new_tokens": given.get("max_tokens", self.max_tokens),
            "repetition_penalty": self.repetition_penalty,
            "pad_token_id": self._tokenizer.pad_token_id,
        }

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        import torch

        if self._joins(kwargs):
            read, answer = self._begin(messages, kwargs)
            try:
                return self._result([answer.result()], read, stop, kwargs)
            finally:
                answer.cancel()  # when the caller is interrupted
        options = self._options(kwargs)
        inputs = self._inputs(messages, options["max_new_tokens"])
        read = inputs["input_ids"].shape[1]
        with self._serving.alone(), seeded(kwargs.get("seed", self.seed)), torch.inference_mode():
            made = self._model.generate(
                **inputs,
                **options,
                num_return_sequences=kwargs.get("n", 1) if options["do_sample"] else 1,
                stopping_criteria=criteria(lambda row: loop(row[read:].tolist()) > 0),
            )[:, read:]
        return self._result(made.tolist(), read, stop, kwargs)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if not self._joins(kwargs):
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        read, answer = self._begin(messages, kwargs)
        return self._result([await asyncio.wrap_future(answer)], read, stop, kwargs)

    def _joins(self, given: dict[str, Any]) -> bool:
        """Can this call be answered beside others: greedily, by a model of a kind that decodes side by side?"""
        greedy = given.get("temperature", self.temperature) <= 0 and self.repetition_penalty == 1
        return greedy and plain_attention(self._model.config)

    def _begin(
        self, messages: Sequence[BaseMessage], given: dict[str, Any], told: Callable[[int], None] | None = None
    ) -> tuple[int, Future[list[int]]]:
        """Begin to answer: the tokens of the prompt, and those of the answer to come, each `told` as it is made.

        Who cancels the answer frees the model.
        """
        options = self._options(given)
        inputs = self._inputs(messages, options["max_new_tokens"])
        read = inputs["input_ids"].shape[1]
        if self._joins(given):
            return read, self._serving.ask(inputs["input_ids"][0].tolist(), options["max_new_tokens"], told)
        import torch

        answer: Future[list[int]] = Future()

        def work() -> None:
            made: Any = None
            try:
                with self._serving.alone(), seeded(given.get("seed", self.seed)), torch.inference_mode():
                    made = self._model.generate(
                        **inputs,
                        **options,
                        streamer=Streamer(told) if told else None,
                        stopping_criteria=criteria(lambda row: answer.cancelled() or loop(row[read:].tolist()) > 0),
                    )[0, read:].tolist()
            except BaseException as error:  # raised again in the caller
                made = error
            settle(answer, made)

        threading.Thread(target=work, name="artrag-sampling", daemon=True).start()
        return read, answer

    def _result(self, made: list[list[int]], read: int, stop: list[str] | None, given: dict[str, Any]) -> ChatResult:
        answers = [self._ended(tokens) for tokens in made]
        generations = [
            # The prompt was read once, however many answers it has.
            ChatGeneration(message=AIMessage(until(text, stop).strip(), usage_metadata=usage(0 if n else read, size)))
            for n, (text, size) in enumerate(answers)
        ]
        return ChatResult(generations=generations * (given.get("n", 1) // len(generations)))

    def _ended(self, tokens: list[int]) -> tuple[str, int]:
        """The text of an answer and its length in tokens, without its padding and the loop at its end."""
        marks = self._marks()
        end = next((at for at, token in enumerate(tokens, start=1) if token in marks), len(tokens))
        tokens = tokens[:end]
        tokens = tokens[: len(tokens) - loop(tokens)]
        return self._tokenizer.decode(tokens, skip_special_tokens=True), len(tokens)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        tokens: SimpleQueue[int | None] = SimpleQueue()
        read, answer = self._begin(messages, kwargs, tokens.put)
        answer.add_done_callback(lambda _: tokens.put(None))
        writing = Writing(self._tokenizer, stop)
        try:
            while not writing.stopped and (token := tokens.get()) is not None:
                if chunk := writing.add(token):
                    if run_manager:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk
            if not writing.stopped:
                answer.result()  # raises what went wrong
        finally:
            answer.cancel()  # when the reader goes away
        yield writing.end(read)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        tokens: asyncio.Queue[int | None] = asyncio.Queue()
        here = asyncio.get_running_loop()

        def hand(token: int | None) -> None:
            with suppress(RuntimeError):  # the reader's loop is closed
                here.call_soon_threadsafe(tokens.put_nowait, token)

        read, answer = self._begin(messages, kwargs, hand)
        answer.add_done_callback(lambda _: hand(None))
        writing = Writing(self._tokenizer, stop)
        try:
            while not writing.stopped and (token := await tokens.get()) is not None:
                if chunk := writing.add(token):
                    if run_manager:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk
            if not writing.stopped:
                answer.result()  # it is there; raises what went wrong
        finally:
            answer.cancel()
        yield writing.end(read)

    def fits(self, messages: Sequence[BaseMessage]) -> bool:
        """Do these messages and an answer to them fit the window?"""
        return len(self.get_token_ids(self.prompt(messages))) + self.max_tokens <= self.window

    def answer_many(
        self,
        conversations: Sequence[Sequence[BaseMessage]],
        *,
        done: Callable[[int, AIMessage], None] = lambda _number, _answer: None,
        rows: int = ROWS,
    ) -> list[AIMessage]:
        """The answers that `invoke` gives to each, in order; what neighbours begin with is read once.

        In float32 the texts are those of `invoke`; in bfloat16 sums are rounded in another order, and where two words
        are equally likely the other one may come. A chat that samples, and a model of a kind that cannot
        decode side by side (`artrag.models.decoding`), is asked once for each.

        Args:
            conversations: those that begin alike stand together.
            done: called with the number and the answer of each, as soon as it exists.
            rows: answers decoded at once.

        Raises:
            PromptTooLongError: one of them does not fit the window; none is answered then.
        """
        from artrag.models.prefix_cache import decode

        if not conversations:
            return []
        prompts = [self._inputs(messages, self.max_tokens)["input_ids"][0].tolist() for messages in conversations]
        found: dict[int, AIMessage] = {}

        def keep(number: int, answer: AIMessage) -> None:
            found[number] = answer
            done(number, answer)

        if not self._joins({}):
            for number, messages in enumerate(conversations):
                keep(number, self.invoke(list(messages)))
        else:
            with self._serving.alone(), self._told(conversations) as finished:
                for number, tokens, read in decode(self._model, prompts, self._ends, most=self.max_tokens, rows=rows):
                    text, made = self._ended(tokens)
                    answer = AIMessage(text.strip(), usage_metadata=usage(read, made))
                    finished(number, answer)
                    keep(number, answer)
        return [found[number] for number in range(len(conversations))]

    def _ends(self, tokens: list[int]) -> bool:
        return tokens[-1] in self._marks() or loop(tokens) > 0

    def _marks(self) -> set[int]:
        """Tokens that end an answer."""
        ends = self._model.generation_config.eos_token_id
        return {self._tokenizer.pad_token_id, *(ends if isinstance(ends, list) else [ends])}

    @contextmanager
    def _told(self, conversations: Sequence[Sequence[BaseMessage]]) -> Iterator[Callable[[int, AIMessage], None]]:
        """Tell the callbacks of the run that is going on (tracers, meters) of each conversation, as `invoke` does."""
        config = ensure_config()
        manager = CallbackManager.configure(
            config.get("callbacks"), self.callbacks, self.verbose, config.get("tags"), self.tags, config.get("metadata")
        )
        about = {"name": type(self).__name__, "id": [type(self).__name__], "kwargs": {}}
        runs = dict(
            enumerate(
                manager.on_chat_model_start(
                    about, [list(messages) for messages in conversations], invocation_params=self._identifying_params
                )
            )
        )

        def finished(number: int, answer: AIMessage) -> None:
            runs.pop(number).on_llm_end(LLMResult(generations=[[ChatGeneration(message=answer)]]))

        try:
            yield finished
        except BaseException as error:
            for run in runs.values():
                run.on_llm_error(error)
            raise

    def choice_probabilities(self, messages: Any, choices: Sequence[str]) -> list[float]:
        """How likely the answer begins with each of `choices`, normalised over them; read off the logits."""
        import torch

        inputs = self._inputs(convert_to_messages(messages), 1)
        first = [self.get_token_ids(choice)[0] for choice in choices]
        with self._serving.alone(), torch.inference_mode():
            logits = self._model(**inputs, logits_to_keep=1).logits[0, -1].float()
        return [float(p) for p in torch.softmax(logits[first], dim=0)]

    def likelihood(self, messages: Any, answer: str) -> float:
        """How likely the model answers with these words, a token: the geometric mean, 0 to 1."""
        import torch

        inputs = self._inputs(convert_to_messages(messages), self.max_tokens)["input_ids"]
        said = torch.tensor([self.get_token_ids(answer)], device=inputs.device)
        with self._serving.alone(), torch.inference_mode():
            ids = torch.cat([inputs, said], dim=1)
            logits = self._model(ids, logits_to_keep=said.shape[1] + 1).logits[0, :-1].float()
        return float(logits.log_softmax(-1).gather(1, said[0][:, None]).mean().exp())


def place() -> tuple[str, Any]:
    """The device, and the number format that it is fast in."""
    import torch

    if torch.cuda.is_available():
        return "cuda", torch.bfloat16
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "cpu", torch.bfloat16 if fast else torch.float32
