"""A causal language model on this machine, as a LangChain chat model."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManager, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_messages
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables.config import ensure_config
from pydantic import PrivateAttr

from artrag.errors import MissingExtraError, ModelUnavailableError, PromptTooLongError
from artrag.models.parts import sha256
from artrag.models.weights import ADAPTER, teach

SHORTEST_LOOP = 16
ROWS = 32
"""Answers decoded at once: on two cores 32 take four times as long as one."""

_ROLES = {"human": "user", "ai": "assistant", "system": "system"}


class LocalChat(BaseChatModel):
    """A transformers model that answers chats, greedily unless a temperature is given.

    With a `seed` the same prompt is answered the same way at any temperature; a call with `n` gives that many answers,
    made side by side. One call at a time uses the model; others wait. Special tokens inside messages are taken apart,
    so that no document can open a turn of its own.
    """

    name_or_path: str
    max_tokens: int = 96
    temperature: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0

    _model: Any = PrivateAttr()
    _tokenizer: Any = PrivateAttr()
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, model: Any, tokenizer: Any, **options: Any) -> None:
        super().__init__(**{"name_or_path": str(model.name_or_path)} | options)
        self._model, self._tokenizer = model.eval(), tokenizer

    @classmethod
    def load(cls, folder: str, *, part: Path | None = None, **options: Any) -> "LocalChat":
        """Load from a folder, or by name from the model hub.

        Args:
            folder: of the weights, or the hub's name of them.
            part: folder of a trained answerer, whose LoRA weights are added in float32, once.
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
            teach(model, Path(folder), part, "answerer")
            name += f"+{sha256(part / ADAPTER)[:12]}"
        return cls(model.to(device, dtype), tokenizer, name_or_path=name, **options)

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
        """The chat as the model reads it, ready for its answer."""
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

        options = self._options(kwargs)
        inputs = self._inputs(messages, options["max_new_tokens"])
        read = inputs["input_ids"].shape[1]
        wanted = kwargs.get("n", 1)
        with self._lock, _seeded(kwargs.get("seed", self.seed)), torch.inference_mode():
            made = self._model.generate(
                **inputs,
                **options,
                num_return_sequences=wanted if options["do_sample"] else 1,
                stopping_criteria=_criteria(lambda row: loop(row[read:].tolist()) > 0),
            )[:, read:]
        answers = [self._ended(row.tolist()) for row in made]
        generations = [
            # The prompt was read once, however many answers it has.
            ChatGeneration(message=AIMessage(_until(text, stop).strip(), usage_metadata=_usage(0 if n else read, size)))
            for n, (text, size) in enumerate(answers)
        ]
        return ChatResult(generations=generations * (wanted // len(generations)))

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
        import torch
        from transformers import TextIteratorStreamer

        options = self._options(kwargs)
        inputs = self._inputs(messages, options["max_new_tokens"])
        read = inputs["input_ids"].shape[1]
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        left = threading.Event()  # set when the reader goes away
        outcome: list[Any] = []

        def work() -> None:
            try:
                with self._lock, _seeded(kwargs.get("seed", self.seed)), torch.inference_mode():
                    outcome.append(
                        self._model.generate(
                            **inputs,
                            **options,
                            streamer=streamer,
                            stopping_criteria=_criteria(lambda row: left.is_set() or loop(row[read:].tolist()) > 0),
                        )
                    )
            except BaseException as error:  # raised again in the reader
                outcome.append(error)
                streamer.end()

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            text = ""
            for piece in streamer:
                new = _until(text + piece, stop)[len(text) :]
                text += new
                if new:
                    chunk = ChatGenerationChunk(message=AIMessageChunk(content=new))
                    if run_manager:
                        run_manager.on_llm_new_token(new, chunk=chunk)
                    yield chunk
                if new != piece:
                    break
        finally:
            left.set()
            worker.join()
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        made = int(outcome[0].shape[1]) - read
        yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=_usage(read, made)))

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
        are equally likely the other one may come. A chat that samples, and a model of a kind that cannot share a
        beginning (`artrag.models.prefix_cache`), is asked once for each.

        Args:
            conversations: those that begin alike stand together.
            done: called with the number and the answer of each, as soon as it exists.
            rows: answers decoded at once.

        Raises:
            PromptTooLongError: one of them does not fit the window; none is answered then.
        """
        from artrag.models.prefix_cache import decode, shares_beginnings

        if not conversations:
            return []
        prompts = [self._inputs(messages, self.max_tokens)["input_ids"][0].tolist() for messages in conversations]
        found: dict[int, AIMessage] = {}

        def keep(number: int, answer: AIMessage) -> None:
            found[number] = answer
            done(number, answer)

        if self.temperature > 0 or self.repetition_penalty != 1 or not shares_beginnings(self._model.config):
            for number, messages in enumerate(conversations):
                keep(number, self.invoke(list(messages)))
        else:
            with self._lock, self._told(conversations) as finished:
                for number, tokens, read in decode(self._model, prompts, self._ends, most=self.max_tokens, rows=rows):
                    text, made = self._ended(tokens)
                    answer = AIMessage(text.strip(), usage_metadata=_usage(read, made))
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
        with self._lock, torch.inference_mode():
            logits = self._model(**inputs, logits_to_keep=1).logits[0, -1].float()
        return [float(p) for p in torch.softmax(logits[first], dim=0)]


def inert(tokenizer: Any, text: str) -> str:
    """The text with its special tokens taken apart: it cannot open a turn of its own. Half characters become "?"."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def place() -> tuple[str, Any]:
    """The device, and the number format that it is fast in."""
    import torch

    if torch.cuda.is_available():
        return "cuda", torch.bfloat16
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "cpu", torch.bfloat16 if fast else torch.float32


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Draw from a generator of this seed, and leave the process's own one as it is."""
    if seed is None:
        yield
        return
    import torch

    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(seed)
        yield


def _criteria(stop: Callable[[Any], bool]) -> Any:
    """A transformers stopping criterion from a function of one answer's tokens so far."""
    import torch
    from transformers import StoppingCriteriaList

    def flags(ids: Any, *_: Any, **__: Any) -> Any:
        return torch.tensor([stop(row) for row in ids], dtype=torch.bool, device=ids.device)

    return StoppingCriteriaList([flags])


def loop(tokens: list[int]) -> int:
    """How many tokens at the end only repeat what stands before them: small models loop. 0 where they do not.

    A run of at most 40 tokens counts as a loop when its repetitions come to 16 tokens or more.
    """
    for size in range(1, 41):
        repeats = 0
        while _repeated(tokens, size, repeats + 1):
            repeats += 1
        if repeats and size * repeats >= SHORTEST_LOOP:
            return size * repeats
    return 0


def _repeated(tokens: list[int], size: int, turn: int) -> bool:
    """Does the last run of `size` tokens stand `turn` runs before the end, too?"""
    if size * (turn + 1) > len(tokens):
        return False
    return tokens[-size:] == tokens[-size * (turn + 1) : -size * turn]


def _until(text: str, stop: Sequence[str] | None) -> str:
    ends = [at for mark in stop or () if (at := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text


def _usage(read: int, made: int) -> UsageMetadata:
    return UsageMetadata(input_tokens=read, output_tokens=made, total_tokens=read + made)
