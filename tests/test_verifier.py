"""The verifier: what it learns from, what it reads, and what a Truster makes of it."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedAsker, ScriptedChat, ScriptedRetriever, json_lines, tiny_matrices
from langchain_core.documents import Document
from test_answerer import TINY
from test_causal import make_base

from artrag import build_art
from artrag.errors import ModelUnavailableError, PromptTooLongError, TrainingDataError
from artrag.models import load_chat, load_truster, reranker, verified
from artrag.models.parts import Part, read_part
from artrag.models.reranker import LocalReranker
from artrag.models.trusters import EvidenceTruster
from artrag.models.verified import VerifiedTruster, bearing
from artrag.models.verifier import CERTAIN, Verifier
from artrag.training import answerer
from artrag.training.answerer_data import Example, chat_of, example
from artrag.training.verifier import check_sorts, verdicts

LAMP = Document("The red lamp means that the battery is low.", metadata={"context": "Manual > Lamps"})
SHELF = Document("The shelf is of oak and bears forty kilograms.")


class Says:
    """A chat model that says "Yes" with a chance, by words of the passage."""

    def __init__(self, **chances: float) -> None:
        self.chances, self.asked = chances, list[str]()

    def choice_probabilities(self, messages: Any, choices: Any) -> list[float]:
        assert choices == ("Yes", "No") and "Does the passage answer" in messages[0].text
        self.asked.append(messages[-1].text)
        yes = next(chance for word, chance in self.chances.items() if word in messages[-1].text)
        return [yes, 1 - yes]


class TooLong:
    def choice_probabilities(self, messages: Any, choices: Any) -> list[float]:
        raise PromptTooLongError("too long")


# --- what it reads


def test_a_passage_is_read_once_with_its_context() -> None:
    chat = Says(lamp=0.8)
    verifier = Verifier(chat)
    assert verifier.logit("What does the red lamp mean?", LAMP) == pytest.approx(math.log(4))
    assert verifier.logit("What does the red lamp mean?", LAMP) == pytest.approx(math.log(4))
    (asked,) = chat.asked
    assert (
        asked
        == f"<passage>\n(Manual > Lamps)\n{LAMP.page_content}\n</passage>\n\nQuestion: What does the red lamp mean?"
    )


@pytest.mark.parametrize(("chance", "logit"), [(1.0, CERTAIN), (0.0, -CERTAIN), (0.5, 0.0)])
def test_nothing_is_more_than_certain(chance: float, logit: float) -> None:
    assert Verifier(Says(lamp=chance)).logit("?", LAMP) == logit


def test_what_is_too_long_tells_nothing() -> None:
    assert Verifier(TooLong()).logit("?", LAMP) == 0.0


# --- what a Truster makes of it


def confident(
    chance: float, answer: str = "The battery is low.", question: str = "What does the red lamp mean?"
) -> float:
    truster = VerifiedTruster(Verifier(Says(lamp=chance, shelf=0.5)))
    return truster.confidence(question, answer, [SHELF, LAMP])


def test_the_passage_that_bears_the_answer_out_is_asked_and_no_other() -> None:
    chat = Says(lamp=0.9, shelf=0.9)
    VerifiedTruster(Verifier(chat)).confidence("What is low?", "The battery", [SHELF, LAMP])
    assert len(chat.asked) == 1 and "battery" in chat.asked[0]


HALL = Document("Ann is tall. A lamp hangs in the hall. The lamp was bought by Ann.", metadata={"context": "Hall"})
DOOR = Document("The door is green. It creaks.", metadata={"context": "Door"})
BARE = Document("", metadata={"context": "House"})


@pytest.mark.parametrize(
    ("question", "answer", "read"),
    [
        ("What hangs in the hall?", "A lamp [1].", {"A lamp hangs in the hall.": HALL}),
        ("Who bought the lamp?", "Ann", {"The lamp was bought by Ann.": HALL}),  # the other one with Ann is of her size
        ("And?", "A lamp hangs. The door is green.", {"A lamp hangs in the hall.": HALL, "The door is green.": DOOR}),
        ("Where?", "House", {"": BARE}),  # stands in the context alone
    ],
)
def test_the_sentence_that_an_answer_was_taken_from_is_read(
    question: str, answer: str, read: dict[str, Document]
) -> None:
    found = bearing(question, answer, [HALL, DOOR, BARE])
    assert {one.page_content: one.metadata for one in found} == {text: its.metadata for text, its in read.items()}
    chat = Says(passage=0.9)
    VerifiedTruster(Verifier(chat)).confidence(question, answer, [HALL, DOOR, BARE])
    assert all(text in asked for text, asked in zip(read, chat.asked, strict=True))


def test_of_several_sentences_the_surest_counts() -> None:
    passages = [Document("A lamp hangs."), Document("The door is green.")]

    def confidence(lamp: float, door: float) -> float:
        truster = VerifiedTruster(Verifier(Says(lamp=lamp, door=door)))
        return truster.confidence("What is in the house?", "A lamp hangs. The door is green.", passages)

    assert confidence(0.9, 0.1) == confidence(0.9, 0.9) == confidence(0.1, 0.9) > confidence(0.1, 0.1)


def test_the_surer_the_verifier_the_higher_the_confidence() -> None:
    assert 0 <= confident(0.05) < confident(0.5) < confident(0.95) <= 1
    assert confident(0.05) < 0.35 < 0.6 < confident(0.95)


@pytest.mark.parametrize("answer", ["The passages do not say.", "", "2 + 2 = 5"])
def test_where_nothing_is_claimed_the_evidence_decides(answer: str) -> None:
    question = "What does the red lamp mean?"
    evidence = EvidenceTruster().confidence(question, answer, [SHELF, LAMP])
    assert confident(0.99, answer) == evidence < 0.2


@pytest.mark.parametrize("answer", ["Yes", "No [2].", "maybe"])
def test_a_bare_verdict_counts_what_its_question_is_on_topic(answer: str) -> None:
    asked = ["Does the red lamp mean that the battery is low?", "Does the red lamp need oil?", "Is rent due in May?"]
    first, second, third = (confident(0.01, answer, question) for question in asked)
    assert first > second > third and first > VerifiedTruster.floor > third
    assert [confident(0.99, answer, question) for question in asked] == [first, second, third]  # it is not read


def test_without_passages_nothing_is_read() -> None:
    truster = VerifiedTruster(Verifier(Says()))
    for passages in (None, []):
        assert truster.confidence("What?", "That.", passages) == EvidenceTruster().confidence(
            "What?", "That.", passages
        )


def test_without_its_model_the_evidence_decides_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def none() -> Verifier:
        tries.append(1)
        raise ModelUnavailableError("no weights here")

    monkeypatch.setattr(verified, "open_verifier", none)
    truster = VerifiedTruster()
    question, answer = "What does the red lamp mean?", "The battery is low."
    evidence = EvidenceTruster().confidence(question, answer, [LAMP])
    assert [truster.confidence(question, answer, [LAMP]) for _ in range(2)] == [evidence, evidence]
    assert truster.unread == "without its verifier: no weights here" and len(tries) == 1
    trained = load_truster("trained")
    monkeypatch.setattr(trained, "_grounded", VerifiedTruster())
    parts: dict[str, Any] = {"chat": ScriptedChat(answer), "asker": ScriptedAsker(0.0), "truster": trained}
    graph = build_art(**parts, retriever=ScriptedRetriever(found=[LAMP])).compile()
    decision = graph.invoke({"question": question})["decision"]
    assert "only one answer to trust" in decision
    assert decision.endswith("; the Truster is without its verifier: no weights here")


def test_the_trained_truster_asks_it_about_answers_from_passages(monkeypatch: pytest.MonkeyPatch) -> None:
    truster = load_truster("trained")
    monkeypatch.setattr(truster, "_grounded", VerifiedTruster(Verifier(Says(lamp=0.01))))
    question, answer = "What does the red lamp mean?", "The battery is low."
    sure = EvidenceTruster().confidence(question, answer, [LAMP])
    assert truster.confidence(question, answer, [LAMP]) < sure
    assert truster.score(question, [answer], [LAMP]) == [truster.confidence(question, answer, [LAMP])]


def test_it_abstains_where_it_does_not_find_the_answer() -> None:
    question, answer = "What does the red lamp mean?", "The battery is low."
    for chance, abstained in ((0.02, True), (0.9, False)):
        chat = Says(lamp=chance, shelf=0.5)
        graph = build_art(
            chat=ScriptedChat(answer),
            asker=ScriptedAsker(0.0),
            truster=VerifiedTruster(Verifier(chat)),
            retriever=ScriptedRetriever(found=[SHELF, LAMP]),
        ).compile()
        found = graph.invoke({"question": question})
        assert found["abstained"] is abstained and len(chat.asked) == 1
    assert VerifiedTruster().limits(None) == {} == VerifiedTruster().limits([])


# --- what it learns from


HANGS = "The lamp{0} in the hall has the colour {0}."
HOUSE = [
    Example("answer", question.format(n), (answer.format(n),), ((HANGS.format(n), "House"),), source="mine")
    for n in range(10, 99)
    for question, answer in (("Which colour has lamp{0}?", "colour {0}"), ("Who hung lamp{0} in the hall?", ""))
]


def test_questions_become_verdicts() -> None:
    made = verdicts(HOUSE)
    assert {one.task for one in made} == {"verify"} and {one.source for one in made} == {"mine"}
    yes = [one for one in made if one.answers == ("Yes",)]
    no = [one for one in made if one.answers == ("No",)]
    assert [one.question for one in yes] == [one.question for one in HOUSE if one.answers[0]]
    elsewhere = [one for one in no if one.question.startswith("Which")]
    assert len(yes) == 89 and len(yes) + len(no) == len(made)
    assert len(no) - len(elsewhere) == 89 and 6 <= len(elsewhere) <= 30
    assert all(one.question.split()[-1].rstrip("?") not in one.passages[0][0] for one in elsewhere)
    assert verdicts(HOUSE) == made != verdicts(HOUSE, seed=1)


@pytest.mark.parametrize(("some", "told"), [(HOUSE[::2], "all of them"), (HOUSE[1::2], "none of them"), ([], "none")])
def test_one_sort_alone_teaches_nothing(some: list[Example], told: str) -> None:
    with pytest.raises(TrainingDataError, match=f"{len(some)} questions about one passage, and {told}"):
        check_sorts(some)


def test_it_learns_the_chat_that_it_is_asked() -> None:
    chat = Says(lamp=0.5)
    Verifier(chat).logit("Why?", LAMP)
    one = Example("verify", "Why?", ("Yes",), ((LAMP.page_content, "Manual > Lamps"),))
    assert chat_of(one)[-1]["content"] == chat.asked[0] and one.completion == "Yes"


@pytest.mark.parametrize(
    ("changed", "told"), [({"answer": "Perhaps"}, "neither 'Yes' nor 'No'"), ({"passages": ["a", "b"]}, "needs one")]
)
def test_another_form_is_refused(changed: dict[str, Any], told: str) -> None:
    row = {"task": "verify", "passages": ["a"], "question": "Q?", "answer": "Yes"}
    assert example(row).completion == "Yes"
    with pytest.raises(ValueError, match=told):
        example(row | changed)


def test_a_question_of_dev_is_not_learned(tmp_path: Path) -> None:
    one = Example("verify", "Who came?", ("Yes",), (("Ann came.", ""),))
    with pytest.raises(TrainingDataError, match="1 questions are in the training data"):
        answerer.check_apart([one], [replace(one, passages=(("Bob went.", ""),), answers=("No",))])


def test_the_command_trains_one_that_opens(
    shell: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answerer, "HOW", replace(TINY, epochs=1))
    rows = [
        {"task": "answer", "passages": [one.passages[0][0]], "question": one.question, "answer": one.answers[0]}
        for one in HOUSE
    ]
    path, out, base = json_lines(tmp_path / "rows.jsonl", rows), tmp_path / "part", make_base(tmp_path / "base", 0)
    with tiny_matrices(answerer):
        code, said, _ = shell("train", "verifier", path, "--out", out, "--base", base, "--epochs", 1, "--json")
    found = json.loads(said)
    assert code == 0 and found["kind"] == "verifier" and found["rows"]["in"] + found["rows"]["dev"] >= 178
    assert read_part(out, "verifier").base == str(base)
    assert -CERTAIN <= Verifier(load_chat(str(out))).logit("What?", LAMP) <= CERTAIN


def test_it_reranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A verifier's part is a reranker's reference, too: its order counts as much as the one that passages come in."""
    monkeypatch.setattr(reranker, "read_part", lambda folder, *kinds: Part("verifier", "causal"))
    monkeypatch.setattr(reranker.LocalChat, "load", lambda base, part: Says(lamp=0.8, shelf=0.3, roof=0.3))
    roof = Document("The roof is of slate.")
    theirs = LocalReranker.load(str(tmp_path), part=tmp_path)

    def order(*given: Document) -> list[Document]:
        found = theirs.compress_documents(given, "What is low?")
        assert {one.page_content: one.metadata["rerank_score"] for one in found} == pytest.approx(
            {LAMP.page_content: math.log(4), SHELF.page_content: math.log(3 / 7), roof.page_content: math.log(3 / 7)}
        )
        return [Document(one.page_content) for one in found]

    lamp, shelf = Document(LAMP.page_content), Document(SHELF.page_content)
    assert order(SHELF, LAMP, roof) == [shelf, lamp, roof]  # 1/3 + 1/4 = 1/4 + 1/3, and equal ones stay
    assert order(SHELF, roof, LAMP) == [shelf, lamp, roof]  # 1/3 + 1/4, 1/4 + 1/5, 1/5 + 1/3
    assert order(LAMP, SHELF, roof) == [lamp, shelf, roof]
