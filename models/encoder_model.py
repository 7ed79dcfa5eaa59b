"""A small encoder that reads a question, an answer and what a calculator says about it, and gives one number.

The input is `[CLS] question [SEP] answer [SEP] checks [SEP]`. The answer alone has the second token type, so that
checks which an answer invents look different from ours. A linear head on the final state of `[CLS]` gives the number.
"""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from artrag.arithmetic import written
from artrag.errors import MissingExtraError, ModelUnavailableError, PartError
from artrag.evidence import is_refusal, supports
from artrag.final_answer import read_number
from artrag.models.causal import Item, checks
from artrag.models.causal_model import batches
from artrag.models.local_chat import place
from artrag.models.signals import given_numbers
from artrag.models.weights import merge_lora, quiet
from artrag.models.writing import inert
from artrag.working import Step, near, read_steps

HEAD = "head.safetensors"
VERSION = 1
"""Of the text that the encoder reads: weights trained on another one are refused."""
WINDOW = 512
BATCH = 16
MOST_KNOWN = 4096
"""Scores that are remembered."""
MOST_NAMED = 5
"""Wrong steps, unused numbers and the like that are told one by one."""
MOST_SENTENCES = 12
LONGEST = 20_000
"""Characters of a text that are looked at; where it is longer, a quarter of them from its start, the others its end."""

_CALCULATOR_MARK = re.compile(r"<<[^<>\n]{0,200}>>")  # GSM8K's "20*35=<<20*35=700>>700"

Row = tuple[int, ...]


def verdicts(question: str, answer: str, passages: Sequence[Document] | None) -> str:
    """What can be checked about an answer without a model, in words.

    Without passages: each wrong step of the working with its right result, or that all hold, and the numbers of the
    question that no step uses. With passages: what `artrag.models.causal.checks` says, and each sentence's support.
    """
    if passages is not None:
        shares = [f"{support.share:.0%}" for support in supports(answer, passages)]
        told = f"; sentence by sentence {', '.join(shares[:MOST_SENTENCES])}" if shares else ""
        return checks(question, answer, passages) + told
    steps = read_steps(answer)
    wrong = [step for step in steps if not step.correct]
    said = [_mended(step) for step in wrong[:MOST_NAMED]]
    if len(wrong) > MOST_NAMED:
        said.append(f"{len(wrong)} of {len(steps)} steps are wrong")
    elif steps and not wrong:
        said.append(f"all {len(steps)} steps hold" if len(steps) > 1 else "the one step holds")
    elif not steps:
        said.append("no step to check")
    used = [number for step in steps for number in step.operands]
    unused = [written(n) for n in given_numbers(question) if steps and not any(_uses(each, n) for each in used)]
    if unused:
        said.append(f"not used: {', '.join(unused[:MOST_NAMED])}")
    if not answer.strip() or is_refusal(answer):
        said.append("gives no answer")
    return "; ".join(said)


def _mended(step: Step) -> str:
    left = step.text if len(step.text) <= 40 else f"{step.text[:37]}..."
    return f"{left} = {written(step.stated)} is wrong, it is {written(step.actual)}"


def _uses(operand: float, number: float) -> bool:
    return near(operand, number) or near(100 * operand, number)  # "20%" counts as 0.2


def calculates(answer: str) -> bool:
    """Does an answer state a step, or come to a number?"""
    return bool(read_steps(answer)) or read_number(answer) is not None


def encoded(tokenizer: Any, window: int, item: Item) -> tuple[Row, bool]:
    """The tokens of a question with an answer and its checks, at most `window` of them; was anything cut?

    Question and answer lose tokens after their first quarter: the question's end says what is asked, the answer's end
    is its final answer. The checks are kept.
    """
    question, answer, said = (
        tuple(tokenizer(inert(tokenizer, _clipped(text)), add_special_tokens=False, verbose=False)["input_ids"])
        for text in (*item[:2], verdicts(*item))
    )
    room = window - 4
    ours = said[: room // 2]
    room -= len(ours)
    asked = _cut(question, max(room // 2, room - len(answer)))
    given = _cut(answer, room - len(asked))
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    whole = len(asked) + len(given) + len(ours) == len(question) + len(answer) + len(said)
    return (start, *asked, end, *given, end, *ours, end), not whole


def _clipped(text: str) -> str:
    text = " ".join(_CALCULATOR_MARK.sub("", text).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 4]} {text[-LONGEST * 3 // 4 :]}"


def _cut(tokens: Row, room: int) -> Row:
    if len(tokens) <= room:
        return tokens
    return tokens[: room // 4] + tokens[len(tokens) - (room - room // 4) :]


def stacked(tokenizer: Any, rows: Sequence[Row], device: str) -> dict[str, Any]:
    """Rows as one batch, padded on the right; what stands between first and second `[SEP]` is of the second type."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[tokenizer.pad_token_id] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    ends = (ids == tokenizer.sep_token_id).long() * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": ((ends.cumsum(1) - ends) == 1).long()}


def scored(encoder: Any, weight: Any, bias: Any, batch: dict[str, Any]) -> Any:
    """The scores (rows,) of a batch, in float32 whatever the encoder calculates in."""
    state = encoder(**batch).last_hidden_state[:, 0]
    return (state.float() * weight).sum(-1) + bias


def open_encoder(folder: Path) -> tuple[Any, Any]:
    """A BERT-like encoder in float32 without its pooler, and its tokenizer.

    Attention has no dropout: with it, a CPU takes several times as long for a step of training.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ModelUnavailableError: there is no such model.
    """
    try:
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(f"local models need {error.name!r}: pip install 'artrag[local]'") from None
    try:
        with quiet():
            model = AutoModel.from_pretrained(folder, dtype=torch.float32, attention_probs_dropout_prob=0.0)
            tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:
        raise ModelUnavailableError(f"no encoder at {str(folder)!r}: {error}") from None
    if None in (tokenizer.cls_token_id, tokenizer.sep_token_id) or getattr(model.config, "type_vocab_size", 0) < 2:
        raise ModelUnavailableError(
            f"{str(folder)!r} has no [CLS] and [SEP] or but one token type: name an encoder of BERT's kind"
        )
    model.pooler = None
    return model, tokenizer


@dataclass(frozen=True, slots=True)
class EncoderModel:
    """An encoder with our LoRA weights merged into it, and its head; one caller at a time uses it.

    `half` says that its matrices are in bfloat16, where a CPU is fast in that: a score then differs by some thousandths
    of what scores differ by.
    """

    encoder: Any
    weight: Any
    bias: Any
    tokenizer: Any
    device: str
    window: int
    half: bool
    lock: threading.Lock = field(default_factory=threading.Lock)
    known: dict[Row, float] = field(default_factory=dict)

    @classmethod
    def load(cls, base: Path, adapter: Path, *, window: int = WINDOW) -> "EncoderModel":
        """Load a base model with the LoRA weights and the head in the folder `adapter`; peft is not needed.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            ModelUnavailableError: there is no such base model.
            PartError: the weights do not fit it.
        """
        encoder, tokenizer = open_encoder(base)
        import torch

        try:
            merge_lora(encoder, adapter)
            weight, bias = _head(adapter, encoder.config.hidden_size)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise PartError(
                f"the weights in {str(adapter)!r} do not fit the encoder {str(base)!r} ({error}): name their base model"
            ) from None
        device, dtype = place()
        half = device == "cpu" and dtype is torch.bfloat16
        if half:  # the matrices once and for all, not at every call
            for module in encoder.modules():
                if isinstance(module, torch.nn.Linear):
                    module.to(dtype)
        window = min(window, int(encoder.config.max_position_embeddings))
        return cls(encoder.to(device).eval(), weight.to(device), bias.to(device), tokenizer, device, window, half)

    def scores(self, items: Sequence[Item]) -> list[float]:
        """The raw score of each answer: higher is more likely right."""
        return self.row_scores([encoded(self.tokenizer, self.window, item)[0] for item in items])

    def row_scores(self, rows: Sequence[Row]) -> list[float]:
        """The number that the head gives for each row of tokens.

        A CPU reads rows no faster side by side, so there each is read alone: no score depends on the other rows.
        """
        import torch

        with self.lock:
            found = {row: self.known[row] for row in rows if row in self.known}
            new = list(dict.fromkeys(row for row in rows if row not in found))
            for chosen in batches(new, 1 if self.device == "cpu" else BATCH):
                batch = stacked(self.tokenizer, [new[place] for place in chosen], self.device)
                with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                    values = scored(self.encoder, self.weight, self.bias, batch).tolist()
                found |= zip((new[place] for place in chosen), values, strict=True)
            if len(self.known) > MOST_KNOWN:
                self.known.clear()
            self.known.update(found)
        return [found[row] for row in rows]


def _head(folder: Path, size: int) -> tuple[Any, Any]:
    from safetensors.torch import load_file

    head = load_file(folder / HEAD)
    weight, bias = head["weight"].float(), head["bias"].float()
    if weight.shape != (size,) or bias.shape != ():
        raise ValueError(f"{HEAD} has {tuple(weight.shape)} weights, the encoder {size} states")
    return weight, bias
