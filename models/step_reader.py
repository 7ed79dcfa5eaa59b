"""The step reader: a small encoder reads the question, a small network over it the steps of each answer as a graph.

It says of an answer what signals cannot: whether its steps do what the question tells. A share of its reading is added
to the scores of Asker and Truster. A reader is a folder with `part.json`, LoRA weights for the encoder and the network.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from artrag.errors import PartError
from artrag.models.encoder_model import open_encoder
from artrag.models.parts import Part, check_base, read_part
from artrag.models.references import weights_folder
from artrag.models.step_graph import VERSION, Quantity, answer_graph, quantities
from artrag.models.weights import base_weights, merge_lora

if TYPE_CHECKING:
    from artrag.models.step_network import Questions

NETWORK = "network.safetensors"
WINDOW = 192
"""Tokens of a question that are read."""
KNOWN = 256
"""Questions whose states are remembered: the Asker and the Truster read the same one, answer after answer."""
MOST_READ = 256
"""Answers to each of them whose readings are remembered."""
TOGETHER = 64
"""Answers read at once."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Known:
    """A question as the encoder left it, its numbers, and the readings of the answers seen so far."""

    states: "Questions"
    numbers: list[Quantity]
    read: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepReader:
    """An encoder with our LoRA weights merged into it, and the network; one caller at a time uses them."""

    encoder: Any
    tokenizer: Any
    network: Any
    part: Part
    lock: threading.Lock = field(default_factory=threading.Lock)
    known: OrderedDict[str, _Known] = field(default_factory=OrderedDict)

    @classmethod
    def load(cls, folder: Path) -> "StepReader":
        """Open the reader in a folder; peft is not needed.

        Raises:
            PartError: there is none, it is damaged, of another version, or of another base model.
            MissingExtraError: torch or transformers is not installed.
            ModelUnavailableError: the base model cannot be had.
        """
        part = read_part(folder, "reader")
        if part.options.get("graph") != VERSION:
            raise PartError(
                f"the reader in {str(folder)!r} was trained on version {part.options.get('graph')!r} of the graph, "
                f"this artrag has {VERSION}: train it again"
            )
        base = weights_folder(part.base)
        check_base(part, base_weights(base))
        encoder, tokenizer = open_encoder(base)
        from safetensors.torch import load_file

        from artrag.models.step_network import StepNetwork

        try:
            merge_lora(encoder, folder)
            network = StepNetwork(encoder.config.hidden_size, part.options["size"], part.options["layers"])
            network.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / NETWORK).items()})
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise PartError(
                f"the weights in {str(folder)!r} do not fit {part.base!r} ({error}): train it again"
            ) from None
        return cls(encoder.eval(), tokenizer, network.eval(), part)

    def read(self, question: str, answers: Sequence[str]) -> Floats:
        """The readings [n] of answers to one question, as log-odds; higher is more likely right."""
        import torch

        with self.lock, torch.inference_mode():
            if question not in self.known:
                states, (numbers,) = encode_questions(self.encoder, self.tokenizer, [question])
                self.known[question] = _Known(states, numbers)
            self.known.move_to_end(question)
            while len(self.known) > KNOWN:
                self.known.popitem(last=False)
            asked = self.known[question]
            if len(asked.read) > MOST_READ:
                asked.read.clear()
            new = list(dict.fromkeys(answer for answer in answers if answer not in asked.read))
            graphs = [(0, answer_graph(asked.numbers, answer)) for answer in new]
            found = readings(self.network, asked.states, graphs, len(asked.numbers))
            asked.read.update(zip(new, found.tolist(), strict=True))
            return np.array([asked.read[answer] for answer in answers], np.float32)


def open_reader(folder: Path, sha256: str) -> StepReader:
    """The reader in a folder, once a process; its network must have this checksum.

    Raises:
        PartError: it is missing, damaged, or not the one that is asked for.
        MissingExtraError: torch or transformers is not installed.
        ModelUnavailableError: the base model cannot be had.
    """
    reader = _opened(folder, (folder / NETWORK).stat().st_mtime_ns if (folder / NETWORK).is_file() else 0)
    if reader.part.files[NETWORK] != sha256:
        raise PartError(
            f"the reader in {str(folder)!r} is not the one that the part was trained with: copy both together, or "
            "train the part again with --reader"
        )
    return reader


@lru_cache(maxsize=4)
def _opened(folder: Path, _written: int) -> StepReader:
    return StepReader.load(folder)


def encode_questions(
    encoder: Any, tokenizer: Any, questions: Sequence[str]
) -> tuple["Questions", list[list[Quantity]]]:
    """What the encoder makes of questions, and the numbers of each."""
    batch, places, numbers = question_batch(tokenizer, questions)
    from artrag.models.step_network import Questions

    states = encoder(**batch).last_hidden_state.float()
    return Questions(states, batch["attention_mask"], places), numbers


def question_batch(tokenizer: Any, questions: Sequence[str]) -> tuple[dict[str, Any], Any, list[list[Quantity]]]:
    """Questions as tokens, the token [q, m] at which each number begins, and the numbers.

    A number behind the window points to the first token, which stands for the whole question. Half characters, which
    no tokenizer takes, are read as "?".
    """
    import torch

    found = tokenizer(
        [question.encode("utf-8", "replace").decode("utf-8") for question in questions],
        truncation=True,
        max_length=WINDOW,
        padding=True,
        return_tensors="pt",
        return_offsets_mapping=True,
        verbose=False,
    )
    offsets = found.pop("offset_mapping").tolist()
    numbers = [quantities(question) for question in questions]
    places = torch.zeros(len(questions), max([1, *map(len, numbers)]), dtype=torch.long)
    for row, (spans, given) in enumerate(zip(offsets, numbers, strict=True)):
        for column, quantity in enumerate(given):
            places[row, column] = next((n for n, (a, b) in enumerate(spans) if a <= quantity.start < b), 0)
    return dict(found), places, numbers


def readings(network: Any, questions: "Questions", graphs: Sequence[Any], numbers: int) -> Floats:
    """The readings [n] of graphs, each with the row of its question."""
    from artrag.models.step_network import stack_graphs

    found = np.zeros(len(graphs), dtype=np.float32)
    order = sorted(range(len(graphs)), key=lambda n: len(graphs[n][1]))
    for begin in range(0, len(order), TOGETHER):
        chosen = order[begin : begin + TOGETHER]
        found[chosen] = network(questions, stack_graphs([graphs[n] for n in chosen], numbers))[0].numpy()
    return found
