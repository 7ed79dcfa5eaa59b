"""Sentence embeddings by a local BERT-like encoder: mean over token states, unit length."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from artrag.errors import MissingExtraError, ModelUnavailableError
from artrag.models.parts import sha256
from artrag.models.weights import ADAPTER, teach
from artrag.text import STOP_WORDS

BATCH = 16


class LocalEmbeddings(Embeddings):
    """An encoder of sentence-transformers' plain kind (mean pooling, normalised), such as all-MiniLM-L6-v2.

    Attributes:
        window: tokens it reads of a text; what comes after is cut, and counted in `cut`.
        cut: how many texts were longer than the window so far.
        fingerprint: tells this model from others in an index manifest.
        reference: the model reference it was loaded by, which opens it again.
    """

    def __init__(self, model: Any, tokenizer: Any, *, window: int = 512, fingerprint: str = "") -> None:
        self._model, self._tokenizer = model.eval(), tokenizer
        self.window = min(window, model.config.max_position_embeddings)
        self.fingerprint = fingerprint
        self.reference = ""
        self.cut = 0

    @classmethod
    def load(cls, folder: str, *, part: Path | None = None, window: int = 512) -> "LocalEmbeddings":
        """Load from a folder, or by name from the model hub.

        Args:
            folder: of the weights, or the hub's name of them.
            part: folder of a trained retriever, whose LoRA weights are added.
            window: tokens read of a text at most.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            ModelUnavailableError: there is no such model.
            PartError: the retriever is damaged, or was trained on another model.
        """
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging
        except ImportError as error:
            raise MissingExtraError(f"local models need {error.name!r}: pip install 'artrag[local]'") from None
        logging.disable_progress_bar()
        try:
            model = AutoModel.from_pretrained(folder, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise ModelUnavailableError(f"no embedding model at {folder!r}: {error}") from None
        fingerprint = f"{Path(folder).name}:{window}"
        if part:
            teach(model, Path(folder), part, "retriever")
            fingerprint += f"+{sha256(part / ADAPTER)[:12]}"
        return cls(model, tokenizer, window=window, fingerprint=fingerprint)

    @cached_property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._model.config.hidden_size)

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (texts, dimension), float32."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for rows, mean, _, _ in self._read(texts):
            vectors[rows] = mean
        return vectors

    def encode_tokens(self, texts: list[str]) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        """The vectors of texts and of their tokens, read once: what late interaction compares.

        Returns:
            Unit vectors, shape (texts, dimension), and for each text those of its content tokens, shape (tokens,
            dimension): function words and punctuation are left out, unless there is nothing else.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        tokens: list[NDArray[np.float32]] = [np.empty((0, self.dimension), dtype=np.float32)] * len(texts)
        for rows, mean, states, ids in self._read(texts):
            vectors[rows] = mean
            for row, own, seen in zip(rows, states, ids, strict=True):
                kept = self._content[seen]
                own = own[kept] if kept.any() else own
                tokens[row] = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-9)
        return vectors, tokens

    @cached_property
    def _content(self) -> NDArray[np.bool_]:
        return content_tokens(self._tokenizer)

    def _read(self, texts: list[str]) -> Iterator[tuple[list[int], Any, list[Any], list[Any]]]:
        """For a batch at a time: which texts, their unit vectors, and the states and ids of each one's tokens."""
        import torch

        # Texts of like length share a batch, so that little is padded.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            batch = self._tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=self.window, return_tensors="pt"
            )
            lengths = batch["attention_mask"].sum(dim=1)
            self.cut += sum(bool(encoding.overflowing) for encoding in batch.encodings)
            with torch.inference_mode():
                states = self._model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).float()
            mean = torch.nn.functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=1).numpy()
            ends = lengths.tolist()
            own = [state[:end].numpy() for state, end in zip(states, ends, strict=True)]
            yield rows, mean, own, [ids[:end].numpy() for ids, end in zip(batch["input_ids"], ends, strict=True)]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """LangChain's form of `encode`."""
        return self.encode(texts).tolist()  # type: ignore[no-any-return]

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return self.encode([text])[0].tolist()  # type: ignore[no-any-return]


def content_tokens(tokenizer: Any) -> NDArray[np.bool_]:
    """Which tokens of the vocabulary carry meaning, shape (vocabulary,)."""
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_tokens)
    return np.array([name not in special | STOP_WORDS and any(map(str.isalnum, name)) for name in names])
