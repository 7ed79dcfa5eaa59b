"""Models that reorder passages: they read a question and a passage together, and give one number."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import PrivateAttr

from artrag.errors import MissingExtraError, ModelUnavailableError
from artrag.models.encoder_model import EncoderModel, Row
from artrag.models.local_chat import LocalChat, place
from artrag.models.parts import check_base, read_part
from artrag.models.verifier import Verifier
from artrag.models.weights import base_weights, quiet
from artrag.models.writing import inert

WINDOW = 320
"""Tokens of question and passage that are read."""
RANK_CONSTANT = 2.0
"""Of the reciprocal ranks that join a verifier's order with the retriever's; that of the shipped fusion."""

Scorer = Callable[[str, Sequence[Document]], list[float]]
"""(question, passages) -> a score each, higher is better."""


class LocalReranker(BaseDocumentCompressor):
    """Reorders passages by a cross-encoder or a verifier that is run here; none is dropped.

    A cross-encoder's scores are the order. A verifier tells what answers from what does not, not the better of two
    answers: its order and the one that the passages come in count the same (reciprocal ranks, Cormack et al., SIGIR
    2009). A passage's score by the model stands in its metadata as `rerank_score`.
    """

    _score: Scorer = PrivateAttr()
    _joined: bool = PrivateAttr()

    def __init__(self, score: Scorer, *, joined: bool = False) -> None:
        """`joined`: the order that passages come in counts as much as the scores."""
        super().__init__()
        self._score, self._joined = score, joined

    @classmethod
    def load(cls, folder: str, *, part: Path | None = None) -> "LocalReranker":
        """Load a trained reranker or verifier over its base model, or a sequence classifier with one score.

        Args:
            folder: of the weights, or the hub's name of them.
            part: folder of a trained reranker, or of a verifier, which takes ten times as long.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            ModelUnavailableError: there is no such model, or it gives several scores.
            PartError: the trained reranker is damaged, or was trained on another model.
        """
        if part is None:
            return cls(_classifier(folder))
        kind, score = _trained(Path(folder), part)
        return cls(score, joined=kind == "verifier")

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """All documents, best first; equal ones keep their order."""
        scores = self._score(query, documents)
        scored = [
            document.model_copy(update={"metadata": document.metadata | {"rerank_score": score}})
            for document, score in zip(documents, scores, strict=True)
        ]
        worth = _joined(scores) if self._joined else scores
        return [scored[row] for row in _best_first(worth)]


def _best_first(worth: Sequence[float]) -> list[int]:
    """Rows by their worth; equal ones keep their order."""
    return sorted(range(len(worth)), key=lambda row: -worth[row])


def _joined(scores: Sequence[float]) -> list[float]:
    """What each row is worth by its own rank and by its score's."""
    worth = [1 / (RANK_CONSTANT + rank) for rank in range(1, len(scores) + 1)]
    for rank, row in enumerate(_best_first(scores), 1):
        worth[row] += 1 / (RANK_CONSTANT + rank)
    return worth


def _situated(document: Document) -> str:
    """A passage with the context that it was indexed with, as the reranker learned to read it."""
    context = document.metadata.get("context")
    return f"{context}\n{document.page_content}" if context else document.page_content


def couple(tokenizer: Any, window: int, question: str, passage: str) -> Row:
    """`[CLS] question [SEP] passage [SEP]` in at most `window` tokens; what is too long loses its end."""
    asked, told = (
        tuple(tokenizer(inert(tokenizer, text), add_special_tokens=False, verbose=False)["input_ids"])
        for text in (question, passage)
    )
    asked = asked[: window // 2]
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    return (start, *asked, end, *told[: window - 3 - len(asked)], end)


def _trained(base: Path, folder: Path) -> tuple[str, Scorer]:
    """(kind of the part, its scorer)."""
    part = read_part(folder, "reranker", "verifier")
    if part.kind == "verifier":
        verifier = Verifier(LocalChat.load(str(base), part=folder))
        return part.kind, lambda question, passages: [verifier.logit(question, passage) for passage in passages]
    check_base(part, base_weights(base))
    model = EncoderModel.load(base, folder, window=part.options.get("window", WINDOW))
    return part.kind, lambda question, passages: model.row_scores(
        [couple(model.tokenizer, model.window, question, _situated(passage)) for passage in passages]
    )


def _classifier(folder: str) -> Scorer:
    try:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(f"local models need {error.name!r}: pip install 'artrag[local]'") from None
    try:
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(f"no cross-encoder at {folder!r}: {error}") from None
    if model.config.num_labels != 1:
        raise ModelUnavailableError(
            f"{folder!r} gives {model.config.num_labels} scores: name a cross-encoder that gives one"
        )
    device, _ = place()
    model = model.to(device).eval()
    window = min(512, int(getattr(model.config, "max_position_embeddings", 512)))

    def score(question: str, passages: Sequence[Document]) -> list[float]:
        found: list[float] = []
        for passage in passages:  # a CPU is no faster with several, and padding changes nothing this way
            row = tokenizer(
                question, _situated(passage), truncation="longest_first", max_length=window, return_tensors="pt"
            )
            with torch.inference_mode():
                found.append(float(model(**row.to(device)).logits[0, 0]))
        return found

    return score
