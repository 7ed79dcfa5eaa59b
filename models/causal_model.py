"""A small causal language model, with LoRA weights of ours or without, that is read off and sampled in batches."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from artrag.errors import MissingExtraError, ModelUnavailableError, PartError, PromptTooLongError
from artrag.models.local_chat import place
from artrag.models.weights import quiet
from artrag.models.writing import inert, loop

Head = Literal["words", "scalar"]
Message = dict[str, str]

WINDOW = 768
"""Tokens of prompt and answer together, unless told otherwise."""
SHORTEST = 16
"""Tokens that a shortened text keeps at least."""
BATCH = 16
"""Rows side by side when words are written; a GPU reads as many together."""


@dataclass(frozen=True, slots=True)
class CausalModel:
    """A loaded model with its tokenizer; one caller at a time uses it."""

    model: Any
    tokenizer: Any
    device: str
    window: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(
        cls, base: Path, head: Head = "words", *, adapter: Path | None = None, window: int = WINDOW
    ) -> "CausalModel":
        """Load a base model, and merge the LoRA weights of the folder `adapter` into it in float32, once.

        Raises:
            MissingExtraError: torch, transformers or peft is not installed.
            ModelUnavailableError: there is no such base model.
            PartError: the LoRA weights do not fit it.
        """
        model, tokenizer = open_base(base, head)
        if adapter is not None:
            try:
                from peft import PeftModel
            except ImportError as error:
                raise MissingExtraError(f"LoRA weights need {error.name!r}: pip install 'artrag[train]'") from None
            try:
                with quiet():
                    model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
            except (RuntimeError, ValueError, KeyError, OSError) as error:
                raise PartError(
                    f"the LoRA weights in {str(adapter)!r} do not fit {str(base)!r} ({error}): name their base model"
                ) from None
        device, dtype = place()
        window = min(window, int(model.config.max_position_embeddings))
        return cls(model.to(device, dtype).eval(), tokenizer, device, window)

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text of ours."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt(self, messages: Sequence[Message], room: int) -> list[int]:
        """The tokens of a prompt, shortened to `room` of them where it must be.

        Raises:
            PromptTooLongError: it cannot be shortened so far.
        """
        found = fitted(self.tokenizer, messages, room)
        if found is None:
            raise PromptTooLongError(f"the prompt cannot be shortened to {room} tokens: ask less, or shorten its frame")
        return found[0]

    def projected(self, rows: Sequence[Sequence[int]], weight: Any) -> list[list[float]]:
        """`weight` (outputs, hidden size) times the last token's final state of each row, in float32.

        A CPU reads long rows no faster side by side, so there each is read alone: no value depends on its neighbours.
        """
        import torch

        found: list[list[float]] = [[] for _ in rows]
        for chosen in batches(rows, 1 if self.device == "cpu" else BATCH):
            batch = padded([rows[row] for row in chosen], self.tokenizer.pad_token_id, self.device)
            with self.lock, torch.inference_mode():
                states = self.model.base_model(**batch, use_cache=False).last_hidden_state[:, -1]
                values = states.float() @ weight.float().T
            for row, value in zip(chosen, values.tolist(), strict=True):
                found[row] = value
        return found

    def log_odds(self, rows: Sequence[Sequence[int]], one: str, other: str) -> list[float]:
        """How much likelier each row goes on with the word `one` than with `other`: the difference of their logits.

        Only the two logits are computed: in half precision, whole rows of logits come in steps of an eighth.
        """
        a, b = self.tokens(one), self.tokens(other)
        alike = next(i for i in range(len(a)) if a[i] != b[i])
        words = self.model.get_output_embeddings().weight[[a[alike], b[alike]]]
        return [said - unsaid for said, unsaid in self.projected([[*row, *a[:alike]] for row in rows], words)]

    def write(
        self,
        rows: Sequence[Sequence[int]],
        *,
        most: int,
        until: str = "",
        temperature: float = 0.0,
        seed: int = 0,
        batch: int = BATCH,
    ) -> list[str]:
        """What the model writes after each row, in batches.

        Args:
            rows: prompts as tokens.
            most: tokens written at most.
            until: a row ends once it has written this text; a row that loops ends, too.
            temperature: 0 for the likeliest words.
            seed: of the sampling.
            batch: rows side by side.
        """
        import torch
        from transformers import StoppingCriteriaList

        sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        found = [""] * len(rows)
        for chosen in batches(rows, batch):
            given = padded([rows[row] for row in chosen], self.tokenizer.pad_token_id, self.device)
            with self.lock, torch.inference_mode(), torch.random.fork_rng():
                torch.manual_seed(seed)
                ids = self.model.generate(
                    input_ids=given["input_ids"],
                    attention_mask=given["attention_mask"],
                    max_new_tokens=most,
                    **sampling,
                    eos_token_id=self.tokenizer.eos_token_id,
                    pad_token_id=self.tokenizer.pad_token_id,
                    stopping_criteria=StoppingCriteriaList([self._over(given["input_ids"].shape[1], until)]),
                )[:, given["input_ids"].shape[1] :]
            for row, text in zip(chosen, self.tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
                found[row] = str(text).strip()
        return found

    def _over(self, start: int, until: str) -> Callable[..., Any]:
        import torch

        def over(ids: Any, *_: Any, **__: Any) -> Any:
            ended = [
                loop(row) > 0 or bool(until and until in self.tokenizer.decode(row)) for row in ids[:, start:].tolist()
            ]
            return torch.tensor(ended, device=ids.device)

        return over


def batches(rows: Sequence[Sequence[int]], width: int) -> list[list[int]]:
    """Row numbers in batches; rows of like length share one, so that little is padded."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    return [order[start : start + width] for start in range(0, len(order), width)]


def fitted(tokenizer: Any, messages: Sequence[Message], room: int) -> tuple[list[int], bool] | None:
    """The tokens of a prompt, ready for its answer and at most `room` of them, and whether it was shortened.

    Where it is longer, its longest message loses tokens from its middle: the ends hold the question and the final
    answer. None where fewer than 16 tokens of that message would be left.
    """
    turns = [message | {"content": inert(tokenizer, message["content"])} for message in messages]
    ids = _rendered(tokenizer, turns)
    if len(ids) <= room:
        return ids, False
    longest = max(turns, key=lambda turn: len(turn["content"]))
    tokens = tokenizer(longest["content"], add_special_tokens=False)["input_ids"]
    keep = len(tokens) - (len(ids) - room) - 8
    while keep >= SHORTEST:
        head, tail = tokens[: keep // 2], tokens[len(tokens) - (keep - keep // 2) :]
        longest["content"] = f"{tokenizer.decode(head)} ... {tokenizer.decode(tail)}"
        ids = _rendered(tokenizer, turns)
        if len(ids) <= room:
            return ids, True
        keep -= len(ids) - room + 8  # cut texts may be tokenised into more pieces
    return None


def _rendered(tokenizer: Any, turns: Sequence[Message]) -> list[int]:
    text = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def padded(rows: Sequence[Sequence[int]], pad: int, device: str) -> dict[str, Any]:
    """Token rows padded on the left, so that all of them end in the last column; mask and positions are given.

    The mask never comes from the padding token: that equals the end token, which stands inside prompts.
    """
    import torch

    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def open_base(folder: Path, head: Head) -> tuple[Any, Any]:
    """A base model in float32, with its own head for words or a new scalar one, and its tokenizer.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ModelUnavailableError: there is no such model.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(f"local models need {error.name!r}: pip install 'artrag[local]'") from None
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            if head == "words":
                model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            else:
                model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, num_labels=1)
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(f"no causal language model at {str(folder)!r}: {error}") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer
