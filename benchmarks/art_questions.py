"""Rows of the replay for what is dear, and what a chat model makes of them.

One row a question and model, votes over all of its answers, and the chat model's own doubts and grades: each is read
once and kept on disk.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from art_data import chains, read, swapped
from langchain_core.documents import Document

from artrag import prompts
from artrag.evaluation.predictions import Prediction, RecordedAnswer
from artrag.models.judges import ExpectedGradeTruster, LikelihoodAsker
from artrag.passages import numbered
from artrag.protocols import Doubt
from artrag.training.convert import convert

LONGEST = 2400
"""Characters of an answer that a chat model reads; the middle of a longer one (they run on) is left out."""
QUESTIONER, FAMILY = "chatgpt", "gpt-3.5"


def one_each(rows: Sequence[Prediction]) -> list[Prediction]:
    """Of the rows of each question and model one, by a hash of their names: nobody chose it."""
    groups: dict[tuple[str, str], list[Prediction]] = {}
    for row in rows:
        groups.setdefault((row.id, row.candidates[0].source), []).append(row)
    chosen = []
    for (name, source), group in groups.items():
        group.sort(key=lambda row: (str(row.metadata.get("questioner")), row.candidates[0].text))
        place = int(hashlib.sha256(f"{name} {source}".encode()).hexdigest(), 16) % len(group)
        chosen.append(group[place])
    return chosen


def with_samples(chosen: Sequence[Prediction], rows: Sequence[Prediction]) -> list[Prediction]:
    """The chosen rows with the drafts of the same question and model in `rows` as samples: something to vote on."""
    drafts: dict[tuple[str, str], list[tuple[Prediction, RecordedAnswer]]] = {}
    for row in rows:
        drafts.setdefault((row.id, row.candidates[0].source), []).append((row, row.candidates[0]))
    made = []
    for row in chosen:
        others = [
            replace(draft, stage="sample")
            for place, draft in drafts[row.id, row.candidates[0].source]
            if place is not row
        ]
        made.append(replace(row, candidates=(*row.candidates, *others)))
    return made


def forms(data: Path, ids: Iterable[str]) -> dict[Literal["chain of thought", "decomposition"], list[Prediction]]:
    """Answers by one family of models in two forms, each once as the initial one and once as the refined one.

    The chains of thought are by a model of the GPT-3.5 family that its source does not name, the decompositions are
    ChatGPT's along its own subquestions. Only questions that have both.
    """
    wanted = set(ids)
    questions = convert(read(data / "gsm8k" / "test.jsonl"))
    thought: dict[str, RecordedAnswer] = {}
    for row in convert(read(data / "llm_predictions" / "arithmetic_gpt_cot.jsonl")):
        if (same := row.metadata.get("same_question_as")) in wanted:
            thought[str(same)] = replace(row.candidates[0], stage="initial", source=FAMILY)
    first: list[Prediction] = []
    for row in chains(data, QUESTIONER, questions):
        if row.id in thought and row.metadata.get("questioner") == QUESTIONER:
            refined = replace(row.candidates[0], stage="refined", source=FAMILY)
            first.append(replace(row, candidates=(thought[row.id], refined)))
    return {"chain of thought": first, "decomposition": swapped(first)}


class Readings:
    """A chat model as Asker and Truster, by its probabilities; what it has said is kept, so a killed run goes on.

    The doubt is that of `LikelihoodAsker`, score and confidence are those of `ExpectedGradeTruster`.

    Args:
        place: the file; it may serve several models, prompts and files of rows.
        name: of the model.
        open_chat: called when something has not been read yet.
        tell: is told how many readings were made anew.
    """

    pointwise = True

    def __init__(
        self, place: Path, name: str, open_chat: Callable[[], Any], tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._place, self._name, self._open, self._tell = place, name, open_chat, tell
        lines = place.read_text("utf-8").split("\n")[:-1] if place.exists() else []  # a line cut by a kill has no end
        self._known: dict[str, dict[str, Any]] = {row["key"]: row for row in map(json.loads, lines)}
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        self._parts: dict[str, Callable[[str, str], float]] = {}
        self._made = 0

    def ask(self, question: str, draft: str, passages: Sequence[Document] | None = None) -> Doubt:
        """See `artrag.protocols.Asker`; without subquestions."""
        return Doubt([], self._read("doubt", question, draft)["value"], "")

    def score(self, question: str, answers: Sequence[str], passages: Sequence[Document] | None = None) -> list[float]:
        """See `artrag.protocols.Truster`."""
        return [self.confidence(question, answer, passages) for answer in answers]

    def confidence(self, question: str, answer: str, passages: Sequence[Document] | None = None) -> float:
        """See `artrag.protocols.Truster`."""
        return float(self._read("grade", question, answer)["value"])

    def tokens(self, question: str, draft: str) -> int:
        """Tokens that were read to doubt the draft."""
        return int(self._read("doubt", question, draft)["tokens"])

    def _read(self, kind: Literal["doubt", "grade"], question: str, text: str) -> dict[str, Any]:
        if len(text) > LONGEST:  # the end holds the final answer
            text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
        said = {"draft" if kind == "doubt" else "answer": text}
        messages = prompts.load(kind).format_messages(passages=numbered(None), question=question, **said)
        whole = json.dumps([self._name, kind, *(message.text for message in messages)])
        key = hashlib.sha256(whole.encode()).hexdigest()
        if key not in self._known:
            chat = self._open()
            if not self._parts:
                asker, truster = LikelihoodAsker(chat), ExpectedGradeTruster(chat)
                self._parts = {"doubt": lambda q, a: asker.ask(q, a).refine_probability, "grade": truster.confidence}
            row = {"key": key, "value": self._parts[kind](question, text)}
            row["tokens"] = len(chat.get_token_ids(chat.prompt(messages)))
            with self._place.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self._known[key] = row
            self._made += 1
            if self._made % 50 == 0:
                self._tell(f"{self._made} readings made")
        return self._known[key]
