"""What a system said to a question, what that cost, and every measure of it; no judge is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from langchain_core.documents import Document

from artrag.errors import MissingExtraError
from artrag.evaluation.metrics import Score, exact_match, holds_answer, holds_wording
from artrag.evaluation.questions import Question
from artrag.evaluation.retrieval import ndcg, ranks, share
from artrag.evidence import claim, is_refusal, supports, whole, without_marks
from artrag.final_answer import final_answer
from artrag.passages import own_words

RIGHT = 0.5
"""Quality from which on an answer counts as right, where a yes or no is wanted (calibration, causes)."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One row of an evaluation.

    Attributes:
        system: who answered.
        id: of the question.
        answer: what was said; empty where it failed.
        passages: what was read, best first: `id`, `document`, `text`, `context`; None where nothing was retrieved.
        confidence: of the answer, 0 to 1; None where the system has none.
        abstained: the system would not answer.
        decision: why it answered so.
        draft: what was said before it was refined; empty where nothing was.
        need: what a router found that the question needs; empty where none was asked.
        calls: of models.
        prompt_tokens: read.
        completion_tokens: written.
        seconds: it took, replies that were known already counted as when they were made.
        error: why it failed; empty where it did not.
    """

    system: str
    id: str
    answer: str
    passages: tuple[Mapping[str, str], ...] | None = None
    confidence: float | None = None
    abstained: bool = False
    decision: str = ""
    draft: str = ""
    need: str = ""
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    error: str = ""

    def as_row(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Answered":
        """From JSON; what else the row has is passed over."""
        known = {name: row[name] for name in cls.__slots__ if name in row}
        read = known.get("passages")
        return cls(**known | {"passages": None if read is None else tuple(read)})

    @property
    def read(self) -> list[Document]:
        """The passages as documents."""
        return [_document(one["text"], one.get("context", "")) for one in self.passages or ()]


@lru_cache(maxsize=512)
def _document(text: str, context: str) -> Document:
    return Document(text, metadata={"context": context})


def quality(question: Question, row: Answered) -> Score:
    """What the answer is worth by the measure that fits its question, 0 to 1 (`Question.score`)."""
    if row.error:
        return Score(0.0, f"failed: {row.error}")
    if row.abstained:
        right = question.kind == "refusal"
        return Score(float(right), "rightly abstained" if right else "abstained from what can be answered")
    return question.score(_said(row))


def _said(row: Answered) -> str:
    """What the answer says; of an answer from passages without what small models make up behind it."""
    return own_words(row.answer) if row.passages else row.answer


def measures(question: Question, row: Answered) -> dict[str, Score]:
    """Every measure that the question and the row allow.

    `quality` for all. For words `em`, `f1`, `rouge_l` and `gives_answer` (a right wording stands in the answer); for
    others `accuracy` or `refusal`. With passages `support` (share of the answer that stands in one of them, by
    sentence; of a bare yes or no, of its question) and `answer_in_passages`, and with relevant ids `recall`, `mrr` and
    `ndcg` over the passages read.
    """
    found = {"quality": quality(question, row)}
    said = "" if row.abstained or row.error else _said(row)
    if question.kind == "words":
        short = final_answer(said) or said
        found["em"] = exact_match(short, question.answers)
        found["f1"] = found["quality"]
        found["rouge_l"] = rouge_l(short, question.answers)
        found["gives_answer"] = holds_answer(said, question.answers)
    else:
        found["refusal" if question.kind == "refusal" else "accuracy"] = found["quality"]
    if row.passages is not None:
        if said.strip() and not is_refusal(said):
            found["support"] = support(claim(question.question, said), row.read)
        if question.kind == "words":
            found["answer_in_passages"] = told(row.read, question.answers)
        if question.relevant:
            found |= _ranking(question, row.passages)
    return found


def told(passages: Sequence[Document], references: Sequence[str]) -> Score:
    """1 where one of the passages gives a reference (`holds_wording`)."""
    found = (holds_wording(whole(one), references) for one in passages)
    return max(found, key=lambda one: one.value, default=Score(0.0, "nothing was read"))


def support(said: str, passages: Sequence[Document]) -> Score:
    """How much of an answer stands in the passages: over its sentences, the mean share that the best passage covers."""
    found = supports(said, passages)
    if not found:
        return Score(0.0, "nothing to support")
    worst = min(found, key=lambda one: one.share)
    value = sum(one.share for one in found) / len(found)
    return Score(value, f"least borne out: {worst.sentence!r} ({worst.share:.2f})")


def rouge_l(said: str, references: Sequence[str]) -> Score:
    """The best ROUGE-L F over the references, stems compared (Lin, 2004).

    Raises:
        MissingExtraError: `rouge-score` is not installed.
    """
    scorer = _rouge()
    best = Score(0.0, "shares no sequence of words with a reference")
    for reference in references:
        value = float(scorer.score(reference, without_marks(said))["rougeL"].fmeasure)
        if value > best.value:
            best = Score(value, f"the longest common sequence is with {reference!r}")
    return best


def _rouge() -> Any:
    global _SCORER
    if _SCORER is None:
        try:
            from rouge_score.rouge_scorer import RougeScorer
            from rouge_score.tokenize import tokenize
            from rouge_score.tokenizers import porter
        except ImportError as error:
            raise MissingExtraError(f"ROUGE needs {error.name!r}: pip install 'artrag[evaluate]'") from None
        # The library's own tokens, but no word is stemmed twice: that takes most of its time.
        stems = SimpleNamespace(stem=lru_cache(maxsize=50_000)(porter.PorterStemmer().stem))
        _SCORER = RougeScorer(["rougeL"], tokenizer=SimpleNamespace(tokenize=lambda text: tokenize(text, stems)))
    return _SCORER


_SCORER: Any = None


def _ranking(question: Question, passages: Sequence[Mapping[str, str]]) -> dict[str, Score]:
    wanted = [
        {n for n, one in enumerate(passages) if name in (one["id"], one["document"])} for name in question.relevant
    ]
    places = ranks(range(len(passages)), wanted)
    k, first = max(1, len(passages)), min(places)
    told = f"ranks {[int(place) if place < k + 1 else None for place in places]} of {k}"
    return {
        "recall": Score(share(places, k), told),
        "mrr": Score(1 / first, told),
        "ndcg": Score(ndcg(places, k, len(places)), told),
    }
