"""The baseline that trained parts must beat: a logistic regression over bags of n-grams and the calculator's findings.

It is an Asker and a Truster at once, fitted in seconds on recorded predictions. It is not kept: it lives in benchmarks.
"""

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from langchain_core.documents import Document
from numpy.typing import NDArray

from artrag.errors import MissingExtraError, TrainingDataError
from artrag.evaluation.predictions import Prediction
from artrag.evidence import Evidence, examine
from artrag.models.askers import EvidenceAsker
from artrag.protocols import Doubt
from artrag.text import numbers, words

MOST_TERMS = 30_000


class NgramBaseline:
    """P(answer is right) from its word 1-2-grams, those of the question, and what a calculator finds in it."""

    pointwise = True

    def __init__(self, vectorizers: tuple[Any, Any], scaler: Any, model: Any) -> None:
        self._vectorizers, self._scaler, self._model = vectorizers, scaler, model

    @classmethod
    def fit(cls, predictions: Sequence[Prediction], *, strength: float = 0.03) -> Self:
        """Learn from every distinct labelled answer of `predictions`.

        Args:
            predictions: recorded answers; those without a label are passed over.
            strength: inverse of the L2 penalty.

        Raises:
            TrainingDataError: the labels are of one class only.
            MissingExtraError: scikit-learn is not installed.
        """
        try:
            from sklearn.feature_extraction.text import CountVectorizer
            from sklearn.linear_model import LogisticRegression
            from sklearn.preprocessing import MaxAbsScaler
        except ImportError as error:
            raise MissingExtraError(f"the n-gram baseline needs {error.name!r}: pip install 'artrag[train]'") from None
        seen: dict[tuple[str, str], tuple[Prediction, bool]] = {}
        for row in predictions:
            for answer in row.candidates:
                if answer.correct is not None:
                    seen.setdefault((row.question, answer.text), (row, answer.correct))
        labels = np.array([right for _, right in seen.values()], dtype=bool)
        if not len(labels) or labels.all() or not labels.any():
            raise TrainingDataError(
                f"{int(labels.sum())} of {len(labels)} labelled answers are right: give right and wrong ones"
            )
        options = {
            "analyzer": ngrams,
            "binary": True,
            "max_features": MOST_TERMS,
            "min_df": min(3, len(labels) // 20 + 1),
        }
        vectorizers = CountVectorizer(**options), CountVectorizer(**options)
        questions, answers = [question for question, _ in seen], [answer for _, answer in seen]
        for vectorizer, texts in zip(vectorizers, (questions, answers), strict=True):
            vectorizer.fit(texts)
        made = cls(vectorizers, MaxAbsScaler(), LogisticRegression(C=strength, max_iter=500, solver="liblinear"))
        checked = [
            features(question, answer, row.passages)
            for (question, answer), (row, _) in zip(seen, seen.values(), strict=True)
        ]
        made._scaler.fit(np.array(checked))
        made._model.fit(made._table(questions, answers, checked), labels)
        return made

    def _table(self, questions: Sequence[str], answers: Sequence[str], checked: Sequence[Sequence[float]]) -> Any:
        from scipy.sparse import csr_matrix, hstack

        asked, said = self._vectorizers
        found = csr_matrix(self._scaler.transform(np.array(checked)))
        return hstack([asked.transform(questions), said.transform(answers), found], format="csr")

    def _log_odds(
        self, question: str, answers: Sequence[str], passages: Sequence[Document] | None
    ) -> NDArray[np.float64]:
        checked = [features(question, answer, passages) for answer in answers]
        return np.asarray(self._model.decision_function(self._table([question] * len(answers), answers, checked)))

    def score(self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None) -> list[float]:
        """See `artrag.protocols.Truster`: the log odds of being right."""
        return [float(odds) for odds in self._log_odds(question, answers, passages)] if answers else []

    def confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> float:
        """See `artrag.protocols.Truster`."""
        return 0.5 * (1 + math.tanh(self.score(question, [answer], passages)[0] / 2))

    def ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Doubt:
        """See `artrag.protocols.Asker`; the subquestions are the checks of the evidence."""
        checked = EvidenceAsker().ask(question, draft, passages)
        return Doubt(checked.subquestions, 1 - self.confidence(question, draft, passages), "by n-grams and arithmetic")


def ngrams(text: str) -> list[str]:
    """Lower-case words and pairs of neighbours; a number counts by its length only, or the model learns results."""
    found = [f"#{len(word)}" if word.isdigit() else word for word in words(text)]
    return found + [f"{a} {b}" for a, b in zip(found, found[1:], strict=False)]


def features(question: str, answer: str, passages: Sequence[Document] | None) -> list[float]:
    """What can be checked about an answer, as numbers: equations, wrong ones, where its numbers come from, its form."""
    seen: Evidence = examine(question, answer, passages)
    asked, said = numbers(question), numbers(answer)
    wrong = len(seen.wrong)
    return [
        float(seen.equations),
        float(wrong),
        float(wrong > 0),
        wrong / max(seen.equations, 1),
        float(seen.equations == 0),
        seen.support,
        seen.on_topic,
        seen.numbers_found,
        float(seen.refuses),
        float(seen.empty),
        math.log1p(len(answer)),
        float(answer.count("\n")),
        float(len(said)),
        sum(number in said for number in set(asked)) / max(len(set(asked)), 1),
        float(bool(said) and said[-1] < 0),
        float(bool(said) and said[-1] != int(said[-1])),
        float(bool(said) and said[-1] in asked),
    ]
