"""SimRAG with a scripted teacher and a tiny student: what is proposed, kept, trained, scored and shipped."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fakes import AnsweringChat, HashedWords, json_lines, tiny_matrices
from test_causal import make_base

from artrag import build_simrag
from artrag.errors import ModelCallError, TrainingDataError, UsageError
from artrag.evaluation.rows import read_rows
from artrag.index.catalog import StoredChunk
from artrag.interfaces.wiring import wired_simrag
from artrag.ledger import Ledger, line_of, read_lines
from artrag.models import load_chat
from artrag.models.weights import ADAPTER
from artrag.nodes.simrag import HOW, Plan
from artrag.nodes.simrag import score as score_node
from artrag.training import answerer
from artrag.training.answerer_sets import load_examples
from artrag.training.candidates import Span, kind_of, named_by_model, spans
from artrag.training.claims import statement
from artrag.training.clauses import clauses
from artrag.training.distractors import distractors
from artrag.training.fitting import saying, told_already
from artrag.training.keeping import REASONS, SURE, Pair, Seen, answered, brought_back, fault, sureness
from artrag.training.proposing import Candidate, candidates, pair
from artrag.training.rounds import example_of, pair_of, parted, round_folder, seconds_of

TINY = replace(HOW, epochs=1, rate=1e-2, rank=4, batch=2, window=900, evaluations=1)
ROOMS = "amber blue coral dusky ebony fern gold hazel ivory jade khaki lilac".split()
PASSAGE = (
    "The Alpha Lamp was built in 1987 by Ann Miller. It weighs 4.5 kg and needs an XR-9 bulb. "
    "Its makers sold 120,000 pieces in the United States of America."
)


@pytest.fixture(scope="module", autouse=True)
def _tiny_matrices() -> Iterator[None]:
    with tiny_matrices(answerer):
        yield


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_base(tmp_path_factory.mktemp("base"), 0))


# --- candidates


def test_spans_are_numbers_names_terms_and_phrases() -> None:
    found = {span.text: span.kind for span in spans(PASSAGE)}
    assert found["1987"] == "number" and found["4.5 kg"] == "number" and found["120,000"] == "number"
    assert found["Ann Miller"] == "name" and found["United States of America"] == "name" and found["XR-9"] == "term"
    assert "The" not in found and "Its makers" not in found
    for span in spans(PASSAGE):
        assert PASSAGE[span.start : span.start + len(span.text)] == span.text
    ends = [(span.start, span.start + len(span.text)) for span in spans(PASSAGE)]
    assert all(end <= start for (_, end), (start, _) in zip(ends, ends[1:], strict=False))
    assert spans("") == [] and spans("of the and") == []


def test_what_a_model_names_must_stand_in_the_passage() -> None:
    reply = '- Ann Miller\n2. "4.5 kg"\nBob Miller\n1987.\nthe\n' + PASSAGE
    assert [span.text for span in named_by_model(reply, PASSAGE)] == ["Ann Miller", "4.5 kg", "1987"]


def test_clauses_follow_the_words_that_begin_a_reason_a_list_or_what_something_is() -> None:
    passage = (
        "Gulls fled because of heavy storms over the northern cliffs, and nobody saw them again. MALAT1 is a long "
        "non-coding RNA of the nucleus (see Figure 2). The kit includes hooks, lines, rods, and nets of all sizes. "
        "It works by closing its valves at night. Some were lost due to a late frost [12] in spring. He is a man."
    )
    found = clauses(passage)
    assert [span.text for span in found] == [
        "heavy storms over the northern cliffs",
        "a long non-coding RNA of the nucleus",
        "hooks, lines, rods, and nets of all sizes",
    ]
    for span in found:
        assert passage[span.start : span.start + len(span.text)] == span.text and span.kind == "clause"
    assert clauses("") == [] and clauses("Gulls fled due to " + 31 * "cold " + ".") == []
    twice = "Gulls fled due to cold nights in spring. Gulls fled due to cold nights in spring."
    assert [span.start for span in clauses(twice)] == [18, 59]


def test_wrong_options_are_of_the_same_kind_and_nowhere_in_the_passage() -> None:
    others = [
        Span(text, 0, kind_of(text)) for text in ("2001", "1987", "12 kg", "Bob Smith", "3.5 kg", "4.5 kg", "3 kg")
    ]
    assert distractors("4.5 kg", others, PASSAGE, 3) == ["3.5 kg", "9.0 kg", "2.2 kg"]
    assert distractors("Ann Miller", others, PASSAGE, 3) == ["Bob Smith"]
    assert distractors("long spare parts", [Span("old pump house", 0, "phrase")], "", 3) == []


@pytest.mark.parametrize(
    ("answer", "like", "expected"),
    [
        ("167", ("0.1", "05", "12%", "166"), ["166", "334", "84"]),
        ("60%", ("61", "70%"), ["70%", "30%", "90%"]),  # no share of more than a hundred
        ("1976 and 2008", ("1990",), ["1977 and 2009", "1974 and 2006", "1979 and 2011"]),
        ("26 January 2020", (), ["27 January 2021", "24 January 2018", "1 January 2023"]),  # dates that there are
        ("2 May", (), ["3 May", "28 May", "5 May"]),
        ("23,348", (), ["46,696", "11,674", "35,022"]),
        ("HPLC", ("0-15", "mRNA", "ELISA", "HPLC-MS"), ["ELISA"]),
        ("IL-6", ("TNF", "CD-4"), ["CD-4"]),
        ("Rome criteria group", (), []),
    ],
)
def test_wrong_options_have_the_form_of_the_right_one(answer: str, like: Sequence[str], expected: list[str]) -> None:
    others = [Span(text, 0, kind_of(text)) for text in like]
    assert distractors(answer, others, f"It was {answer}.", 3) == expected


def test_ranges_signs_and_parts_of_words_are_no_candidates() -> None:
    text = "Over 12-18 months at -15 °C, in the 1980s, 15q11 grew by 10 cm. Since Germany won, Ann Lee left in 2010."
    found = [span.text for span in spans(text)]
    assert not {"12", "18 months", "15", "1980", "Since Germany", "Germany"} & set(found)
    assert {"10 cm", "Ann Lee", "2010"} <= set(found)
    assert named_by_model("10\nLee\nion", text) == [
        Span("10 cm", text.index("10 cm"), "number"),
        Span("Lee", text.index("Lee"), "phrase"),
    ]
    assert distractors("12%", [Span(text, 0, "number") for text in ("12 %", "12 per cent", "13%")], "", 1) == ["13%"]
    text = "It fell in 25% of 40 rats (P=0.006)."
    assert [one.text for one in named_by_model("25\n40\nP=0.006\n0-4", text)] == ["25%", "40"]


# --- pairs


def chunk(text: str = PASSAGE) -> StoredChunk:
    fields: dict[str, Any] = dict.fromkeys(StoredChunk.__dataclass_fields__)
    return StoredChunk(**fields | {"id": "lamp#0", "document": "lamp", "text": text, "context": "Lamps"})


def test_candidates_of_the_model_come_first_and_do_not_overlap() -> None:
    found = candidates(chunk(), "built in 1987\n4.5 kg", kinds={"short": 1.0}, most=4)
    assert {one.span.text for one in found[:2]} == {"built in 1987", "4.5 kg"} and len(found) == 4
    assert "1987" not in {one.span.text for one in found} and {one.kind for one in found} == {"short"}
    assert candidates(chunk(), "", seed=3) == candidates(chunk(), "", seed=3)


def test_what_no_question_could_single_out_is_not_asked_for() -> None:
    text = "Rats and mice got doses of 3 mg and 4 mg, respectively, in 1999. They had 7 cages in Uppsala Hall. " + (
        "In a spring that was long, and then a summer that was longer, " * 5 + "the Swedish Board paid 55 euros."
    )
    found = candidates(chunk(text), "3 mg\n1999\nSwedish Board\n7 cages\nUppsala Hall", kinds={"short": 1.0}, most=9)
    assert {one.span.text for one in found} == {"7 cages", "Uppsala Hall"}
    assert not candidates(chunk(text[text.index("In a spring") :]), "", kinds={"short": 0.5, "long": 0.5})


def test_clauses_take_their_share_of_the_places_and_no_other_kind() -> None:
    text = PASSAGE + " It broke because of cold nights in spring. The bulb is a gift of old Ann Miller."
    mixed = candidates(chunk(text), "1987", kinds={"short": 0.3, "long": 0.4, "choice": 0.3}, most=5)
    assert [one.span.kind for one in mixed if one.kind == "long"] == ["clause", "clause"] and len(mixed) == 5
    assert mixed[0].span.text == "1987" and all(one.span.kind != "clause" for one in mixed[:3])
    rare = [candidates(chunk(text), "1987", kinds={"short": 0.9, "long": 0.1}, seed=seed) for seed in range(40)]
    assert 10 < sum(any(one.kind == "long" for one in found) for found in rare) < 30  # half a place of five
    alone = candidates(chunk(text), "1987", kinds={"long": 1.0})
    assert {one.span.text for one in alone} == {"cold nights in spring", "a gift of old Ann Miller"}
    assert all(one.kind != "long" for one in candidates(chunk(text), "1987", kinds={"short": 1.0}))
    made = pair(alone[0], "Why did the lamp break?", [])
    assert (made.kind, made.answer, made.options) == ("long", alone[0].span.text, ())


def span(text: str) -> Span:
    return Span(text, PASSAGE.index(text), kind_of(text))


def test_a_pair_of_each_kind() -> None:
    others = [Span(text, 0, kind_of(text)) for text in ("12 kg", "3.5 kg", "7 kg")]
    short = pair(Candidate(chunk(), span("4.5 kg"), "short"), ' "How heavy is\nthe Alpha Lamp?" ', others)
    assert (short.question, short.answer, short.passage) == ("How heavy is the Alpha Lamp?", "4.5 kg", "lamp#0")
    choice = pair(Candidate(chunk(), span("4.5 kg"), "choice"), "How heavy is the Alpha Lamp?", others)
    assert dict(choice.options)[choice.answer] == "4.5 kg" and len(choice.options) == 4 and choice.span == "4.5 kg"
    asked = "What is the weight of the Alpha Lamp?"
    claims = [pair(Candidate(chunk(), span("4.5 kg"), "claim"), asked, others, seed=seed) for seed in range(8)]
    told = {"Yes": "4.5 kg", "No": "3.5 kg"}
    assert {one.answer for one in claims} == set(told) and {one.plain for one in claims} == {asked}
    for one in claims:
        assert one.question == f"Is it true that the weight of the Alpha Lamp is {told[one.answer]}?"
        assert one.span == "4.5 kg" and pair_of(json.loads(json.dumps(asdict(one)))) == one
    for of, question, like in (("4.5 kg", "How heavy is the Alpha Lamp?", others), ("XR-9", asked, [])):
        fallen = pair(Candidate(chunk(), span(of), "claim"), question, like)
        assert (fallen.kind, fallen.question, fallen.answer) == ("short", question, of)
        assert pair(Candidate(chunk(), span(of), "claim"), question, like, else_short=False).question == ""


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("How many rats died in Rome?", "12 rats died in Rome"),
        ("What percentage of rats died?", "12 of rats died"),
        ("What was the dose for rats?", "the dose for rats was 12"),
        ("What is used against pain?", "12 is used against pain"),
        ("Which gene is lost in rats?", "12 is lost in rats"),
        ("What type of test was used?", "12 was used"),
        ("What database recorded all cases?", "12 recorded all cases"),
        ("What is pain?", "12 is pain"),
        ("What could be given instead?", "12 could be given instead"),
        ("Who visited all rats?", "12 visited all rats"),
        ("How many rats did they treat?", ""),
        ("What did they treat?", ""),
        ("What age was the girl?", ""),
        ("What is it used for?", ""),
        ("What infection increases pain and augmented fever?", ""),
        ("When did it end?", ""),
        ("How heavy is it?", ""),
        ("", ""),
    ],
)
def test_a_question_and_its_answer_make_a_statement(question: str, told: str) -> None:
    assert statement(question, "12") == told


def test_a_statement_says_its_words_once_and_in_their_order() -> None:
    assert statement("How many patients were seen?", "12 patients") == "12 patients were seen"
    assert statement("What is COVID?", "a disease") == "COVID is a disease"


def test_phrases_are_asked_for_only_where_little_else_is_and_have_no_wrong_options() -> None:
    found = candidates(chunk("The old pump runs dry in 1987. Bob Hill keeps 4.5 kg of spare parts."), "", most=5)
    assert {one.span.kind for one in found} == {"number", "name"} and len(found) == 3
    phrases = chunk("The old pump runs dry and the spare parts rust.")
    for kind in ("choice", "claim"):
        found = candidates(phrases, "", kinds={kind: 1.0, "short": 1e-9}, most=5)
        assert [(one.span.kind, one.kind) for one in found] == 2 * [("phrase", "short")]
        assert candidates(phrases, "spare parts", kinds={kind: 1.0}, most=5) == []


def test_marks_that_lead_to_other_works_are_not_asked_for() -> None:
    text = "Lamps weigh 4.5 kg [12] (Miller and Lee, 1985; Hill et al., 2001), as Hill (68, 69) said."
    assert [one.text for one in spans(text) if one.kind in ("number", "name")] == ["4.5 kg"]
    assert named_by_model("Hill et al\n4.5 kg", text) == [Span("4.5 kg", text.index("4.5"), "number")]


def made(question: str, span: str = "4.5 kg", **changes: Any) -> Pair:
    return replace(Pair("short", question, span, span, "lamp#0", PASSAGE), **changes)


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (made("How heavy is the Alpha Lamp?"), None),
        (made("Heavy?"), "not one question"),
        (made("How heavy is the Alpha Lamp"), "not one question"),
        (made("How heavy is it? And how large is the Alpha Lamp?"), "not one question"),
        (made("How heavy is the lamp in this study?"), "needs its text"),
        (made("How many of the patients got better?"), "needs its text"),
        (made("How many patients with asthma got better?", "12", text="12 patients with asthma got better."), None),
        (made("How heavy was it in the year of 1987?"), "needs its text"),
        (made("What did she build in the year of 1987?"), "needs its text"),
        (made("Which lamp weighs 4.5 kg and is by Ann Miller?"), "the answer is in the question"),
        (made("How heavy is the Alpha Lamp?", "9 kg"), "not an answer in its passage"),
        (made("How heavy is the Alpha Lamp?", kind="choice", options=(("A", "4.5 kg"),)), "too few wrong options"),
        (made("Is it true that it is 4.5 kg?", kind="claim", answer="Yes", asks="How heavy is the Alpha Lamp?"), None),
        (made("Is it true that they weigh 9 kg?", kind="claim", asks="How heavy are they all?"), "needs its text"),
        (made("Is it true that 4.5 kg is?", kind="claim", asks="Who paid 4.5 kg?"), "the answer is in the question"),
        (made("How many participants were enrolled in 1987?"), "needs its text"),
        (made("What are the heaviest ones?"), "needs its text"),
        (made("How many such lamps weigh 4 kg?"), "needs its text"),
        (made("According to the abstract, how heavy is the Alpha Lamp?"), "needs its text"),
    ],
)
def test_what_is_dropped_by_rule(one: Pair, reason: str | None) -> None:
    assert fault(one) == reason and (reason is None or reason in REASONS)


@pytest.mark.parametrize(
    ("question", "answer", "passage", "good"),
    [
        ("How heavy is the Alpha Lamp?", "4.5 kg", PASSAGE, True),  # "It weighs": the sentence before says what does
        ("What caused the death of the rats?", "LITT", "Fischer rats were subject to LITT of the left side.", False),
        ("What share of calls came late?", "14%", "Of all calls, 14% came late.", True),
        ("What percentage of calls did not come late?", "14%", "Of all calls, 14% came late.", False),
        ("Which gene had no mutations?", "COL1A1", "There were no mutations in the gene COL1A1.", True),
        ("What percentage got treatment?", "25", "Treatment was 25 Gy for those who got it.", False),
        ("What percentage got treatment?", "25", "About 25 percent got treatment.", True),
        ("How many patients got treatment?", "25", "Of patients, 25% got treatment.", False),
        ("How many patients got treatment?", "oral", "Patients got oral treatment.", False),
        ("How many patients got treatment?", "twelve", "Patients who got treatment: twelve.", True),
        ("How many patients came until 2011?", "30", "Patients came until 30 June 2011.", False),
        ("How many lamps shone?", "12", "It took 12 days.\n\nAll of the 12 lamps shone.", True),  # any of its places
        ("What was the dose for rats?", "3.5 mg", "The dose was 3.5 mg for rats and 4.0 mg for mice.", False),
        ("What was the dose for rats?", "3.5 mg", "The dose was 3.5 mg for rats on 3 days.", True),
        ("How many rats were there?", "12", "There were 12 rats and 14 mice.", True),  # told apart by what is counted
        ("How many lamps shone?", "20", "It was 2020. Lamps shone for 20.5 days.", False),
        ("How many lamps shone?", "20", "It was 2020. In all, 20 lamps shone.", True),
        ("How many operations were there?", "12 operations", "There were 12 operations.", True),
        ("How many patients came?", "30", "Since 1930 patients came until 30 June 2011.", False),
        ("What is the name of the dose?", "3.5 mg", "The dose was 3.5 mg.", False),
        ("Which gene was lost?", "COL1A1", "Lost were the genes COL1A1 and TP53.", False),
        ("Which gene was lost?", "TP53", "Lost was the gene COL1A1, or TP53.", False),
        ("Which genes were lost?", "COL1A1 and TP53", "Lost were the genes COL1A1 and TP53.", True),
        ("Which gene was lost?", "COL1A1", "The gene COL1A1 was lost and found.", True),
        ("When did it rain?", "2017", "It did rain in 2017 and 2018.", False),
        ("When did it rain?", "2017", "It did rain in 2017 and snow.", True),
        ("What was the dose for rats?", "3 mg", "Rats and mice got doses of 3 mg, 4 g, respectively.", False),
        ("Wie viele Lampen leuchten?", "12", "Alle 12 brennen.", True),
        ("灯有多重？ what", "4.5 kg", "它重 4.5 kg。", True),
    ],
)
def test_a_question_fits_its_sentence(question: str, answer: str, passage: str, good: bool) -> None:
    assert bool(saying(question, answer, passage)) is good


def test_short_sentences_with_the_words_near_the_answer_are_surest() -> None:
    near = made("How heavy is the Alpha Lamp?", text="The Alpha Lamp weighs 4.5 kg.")
    far = replace(
        near, text="The Alpha Lamp was, as everybody in town knew for years" + ", and years" * 9 + ", 4.5 kg."
    )
    long = replace(
        near, text="The Alpha Lamp weighs 4.5 kg, as everybody in town knew for years" + ", and years" * 9 + "."
    )
    assert 1 > sureness(near, 0.6) > sureness(long, 0.6) > sureness(far, 0.6) > 0
    assert sureness(near, 0.6) > SURE > sureness(far, 0.6) and sureness(near, 0.6) > sureness(near, 0.1) > 0
    assert 0 < sureness(near, 0.0) < 0.01


def test_what_the_question_tells_is_no_answer() -> None:
    text = "A higher rate of cardiovascular risk factors (CRFs) was seen."
    assert told_already("What are the cardiovascular risk factors?", "CRFs", text)
    assert not told_already("What was seen at a higher rate?", "CRFs", text)
    assert not told_already("What are the cardiovascular risk factors?", "CRFs", "Risk factors: CRFs.")
    assert told_already("How many children of 195 starved?", "195 million", "195 million children starved.")


def test_the_same_question_is_kept_once() -> None:
    seen = Seen()
    assert not seen.again(made("How heavy is the Alpha Lamp?"))
    assert seen.again(made("how heavy is the alpha lamp ?"))
    assert seen.again(made("The Alpha Lamp is how heavy?"))
    assert not seen.again(made("How heavy is the Alpha Lamp?", kind="choice"))
    assert not seen.again(made("Who made the Alpha Lamp?", "Ann Miller"))


def test_the_round_trip() -> None:
    one = made("How heavy is the Alpha Lamp?")
    assert brought_back(one, [("x", "no"), ("lamp#0", "")]) and brought_back(one, [("x", "It has 4.5 kg.")])
    assert not brought_back(one, [("x", "It has 45 kg.")]) and not brought_back(one, [])
    assert not brought_back(made("When?", "1987"), [("x", "In 1987.")])
    for span, said in (
        ("12 men with asthma", "15 men with asthma"),
        ("linked to age", "not linked to age"),
        ("15", "-15"),
    ):
        assert not answered(made("What?", span), said) and answered(made("What?", span), f"{span} [1]")
    long = Pair("long", "Why?", "cold nights of 1987 in the north", "cold nights of 1987 in the north", "", "")
    for said in ("cold nights of 1987 [1]", "cold nights in the north", "the cold nights of 1987 in the north"):
        assert answered(long, said)
    for said in (
        "cold",
        "cold nights of 1988",
        "no cold nights of 1987",
        "cold wind and long frost",
        "cold nights but ",
    ):
        assert not answered(long, said + "warm days and rain" * said.endswith(" "))
    assert answered(one, "4.5 kg [1]") and not answered(one, "9 kg") and not answered(one, "The passages do not say.")


# --- the whole graph


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for n, room in enumerate(ROOMS):
        text = (
            f"# The {room} room\n\nThe {room} room of the museum holds a lamp that was made in {1900 + n} by Meister "
            f"{room.capitalize()}son. Visitors of the {room} room pay {n + 3} francs at the door, and the guard of the "
            f"{room} room is called Guard {room[::-1].capitalize()}. Nobody knows more about the {room} room.\n"
        )
        (folder / f"{room}.md").write_text(text, "utf-8")
    return folder


def teacher() -> AnsweringChat:
    """Names a number and a name of the room, asks for them well, and knows the answers."""

    def said(prompt: str) -> str:
        room = re.findall(r"The (\w+) room of the museum", prompt)[-1]
        year = re.findall(r"made in (\d+)", prompt)[-1]
        if "Write down the parts" in prompt:
            return f"{year}\nGuard {room[::-1].capitalize()}"
        asked = prompt.rsplit("Answer:", 1)[-1].strip()
        if "Write one question" in prompt:
            if asked == year:
                return f"In which year was the lamp of the {room} room made?"
            return f"What is the guard of the {room} room called?" if "Guard" in asked else "What is this study about?"
        question = prompt.rsplit("Question:", 1)[-1]
        return f"{year} [1]" if "year" in question else f"Guard {room[::-1].capitalize()} [1]"

    return AnsweringChat(said)


Simrag = Callable[..., dict[str, Any]]


@pytest.fixture
def simrag(documents: Path, student: str, tmp_path: Path) -> Simrag:
    def go(chat: Any = None, **given: Any) -> dict[str, Any]:
        graph = build_simrag(teacher=chat or teacher(), embedder=HashedWords(), student=student, plan=TINY).compile()
        state = {"paths": [str(documents)], "run": str(tmp_path / "run"), "passages": 12, "rounds": 1, **given}
        return graph.invoke(state, context={"retries": 0})  # type: ignore[arg-type]

    return go


def test_weights_that_know_the_task_are_taught_gently(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr("artrag.graphs.simrag.build_simrag", lambda **given: plans.append(given["plan"]))
    wired_simrag()
    wired_simrag(epochs=3)
    assert plans == [HOW, replace(HOW, epochs=3)]
    assert replace(answerer.HOW, rate=1e-4, warmup=0.2) == HOW


def test_documents_become_pairs_weights_scores_and_a_report(simrag: Simrag, tmp_path: Path) -> None:
    found = simrag(kinds={"short": 1.0})
    first = tmp_path / "run/round-1"
    assert found["proposed"] == 41 and found["kept"] == 24
    assert found["rejected"]["needs its text"] + found["rejected"].get("the answer is in the question", 0) > 10
    kept = [row for _, row in read_rows(first / "kept.jsonl")]
    assert {row["kind"] for row in kept} == {"short"} and len({row["passage"] for row in kept}) == 12
    assert sum(found["rejected"].values()) + found["kept"] == found["proposed"]
    assert set(found["scores"]["systems"]) == {"base", "base with passages", "before", "after"}
    assert found["scores"]["own_questions"] and 0 < found["scores"]["questions"] < 24
    assert found["decision"] in ("ship", "reject") and found["trained"]["rows"]["in"] > 0
    page = Path(found["outcome"]["report"]).read_text("utf-8")
    assert "SimRAG" in page and kept[0]["question"] in page and "own: they flatter it" in page
    told = json.loads((tmp_path / "run/report.json").read_text("utf-8"))
    assert told["decision"] == found["decision"] and "seconds a kept pair" in page
    took = told["rounds"][0]["seconds"]
    assert set(took) == {"propose", "keep", "train"} and took["train"] == round(found["trained"]["seconds"], 1) > 0
    assert (tmp_path / "run/answerer").exists() == (found["decision"] == "ship")
    assert load_chat(str(first / "answerer")).invoke("x") is not None
    assert found["usage"]["propose"]["calls"] == 12 + 41


def test_several_processes_are_refused(simrag: Simrag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"train answerer RUN/round-1/kept.jsonl"):
        simrag()


def test_what_was_kept_is_what_an_answerer_is_trained_on(tmp_path: Path) -> None:
    claim = made("Is it true that it is 9 kg?", kind="claim", answer="No", asks="How heavy is the Alpha Lamp?")
    choice = made("How heavy is the Alpha Lamp?", kind="choice", answer="A", options=(("A", "4.5 kg"), ("B", "9 kg")))
    path = json_lines(tmp_path / "kept.jsonl", [asdict(claim), asdict(choice)])
    examples, counts = load_examples(path)
    assert counts == {"simrag": 2} and examples == [example_of(claim), example_of(choice)]
    assert [one.completion for one in examples] == ["No [1]", "A. 4.5 kg [1]"] and examples[0].span == "4.5 kg"


def test_no_question_serves_for_two_parts_in_another_form() -> None:
    pairs = [
        made("How heavy is the Alpha Lamp?", passage=f"lamp#{n}", kind=kind, asks=asks)
        for n in range(14)
        for kind, asks in (("short", ""), ("claim", "How heavy is the Alpha Lamp?"))
    ]
    parts = parted([replace(one, question="Is it true?") if one.asks else one for one in pairs], test=True)
    assert len(parts.train) == 20 and parts.dev == parts.test == []


def test_a_run_goes_on_and_pays_for_nothing_twice(simrag: Simrag, tmp_path: Path) -> None:
    whole = simrag(kinds={"short": 1.0})

    def never(prompt: str) -> str:
        raise AssertionError("asked again")

    weights = (tmp_path / "run/round-1/answerer" / ADAPTER).stat().st_mtime_ns
    again = simrag(AnsweringChat(never), kinds={"short": 1.0})
    assert again["scores"] == whole["scores"] and again["kept"] == whole["kept"]
    assert (tmp_path / "run/round-1/answerer" / ADAPTER).stat().st_mtime_ns == weights
    other = simrag(teacher(), kinds={"short": 1.0}, passages=9)
    assert other["kept"] < whole["kept"] and (tmp_path / "run/round-1/answerer" / ADAPTER).stat().st_mtime_ns > weights


class WeighingChat(AnsweringChat):
    """Tells how likely its words are: it would ask for years, and hardly for guards."""

    weighed: ClassVar[list[str]] = []

    def likelihood(self, messages: Any, answer: str) -> float:
        prompt = messages[-1].text
        self.weighed.append(prompt)
        assert answer.endswith("?") and "Nobody knows more" not in prompt  # the answer's sentence alone
        return 0.9 if "year" in answer else 0.05


def test_what_the_teacher_would_not_ask_of_the_sentence_is_dropped(simrag: Simrag, tmp_path: Path) -> None:
    WeighingChat.weighed.clear()
    found = simrag(WeighingChat(teacher().said()), kinds={"short": 1.0})
    kept = [row for _, row in read_rows(tmp_path / "run/round-1/kept.jsonl")]
    assert found["kept"] == found["rejected"]["it is not sure enough"] == 12
    assert all(row["answer"].isdigit() for row in kept) and len(WeighingChat.weighed) == 24
    assert simrag(WeighingChat(teacher().said()), kinds={"short": 1.0})["kept"] == 12
    assert len(WeighingChat.weighed) == 24, "weighed again"


def test_a_teacher_that_talks_nonsense_ends_clearly(simrag: Simrag, tmp_path: Path) -> None:
    found = simrag(AnsweringChat(lambda prompt: "bla bla"), kinds={"short": 1.0})
    assert found["kept"] == 0 and "trained" not in found and found["decision"] == "reject"
    assert "nothing to learn from" in found["outcome"]["why"] and Path(found["outcome"]["report"]).is_file()
    with pytest.raises(ModelCallError):
        simrag(AnsweringChat(lambda prompt: ""), kinds={"short": 1.0}, run=str(tmp_path / "other"))


def test_passages_that_are_too_short_are_counted(documents: Path, student: str, tmp_path: Path) -> None:
    (documents / "sign.md").write_text("# Sign\n\nMind the step.\n", "utf-8")
    graph = build_simrag(teacher=teacher(), embedder=HashedWords(), student=student).compile(
        interrupt_after=["propose"]
    )
    given: Any = {"paths": [str(documents)], "run": str(tmp_path / "run"), "passages": 3}
    told = [one["message"] for _, one in graph.stream(given, stream_mode="custom", subgraphs=True)]
    assert "3 passages are asked about; 1 of the index are too short" in told


def test_a_share_of_other_examples_is_mixed_in(simrag: Simrag, tmp_path: Path) -> None:
    others = [{"task": "instruct", "question": f"Say {n}.", "answer": str(n)} for n in range(40)]
    mix = [str(json_lines(tmp_path / "mix.jsonl", others))]
    alone = simrag(kinds={"short": 1.0})["trained"]["rows"]["in"]
    assert simrag(kinds={"short": 1.0}, mix=mix)["trained"]["rows"]["in"] == round(alone * 4 / 3)
    assert simrag(kinds={"short": 1.0}, mix=mix, mix_share=0.0)["trained"]["rows"]["in"] == alone
    assert simrag(kinds={"short": 1.0}, mix=mix, mix_share=0.9)["trained"]["rows"]["in"] == alone + 40
    with pytest.raises(UsageError, match=r"1.0 is no share .*'mix_share' from 0 to below 1"):
        simrag(mix_share=1.0)


def test_tiny_documents_are_refused(simrag: Simrag, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/a.md").write_text("Not much.", "utf-8")
    with pytest.raises(TrainingDataError, match="long enough to ask about"):
        simrag(paths=[str(tmp_path / "tiny")])
    with pytest.raises(UsageError, match="no questions of the kind 'song'"):
        simrag(kinds={"song": 1.0})


@pytest.mark.parametrize(
    ("before", "after", "decision"),
    [(0, 24, "ship"), (12, 12, "reject"), (24, 0, "reject"), (12, 13, "reject"), (0, 5, "ship")],
)
def test_only_what_is_surely_better_is_shipped(
    simrag: Simrag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int, decision: str
) -> None:
    asked = [f"Who {does} the {room} room?" for room in ROOMS for does in ("keeps", "guards")]
    rows = [{"question": question, "answer": "Ann"} for question in asked]
    path = json_lines(tmp_path / "questions.jsonl", rows)

    def said(chat: Any, file: Path, wanted: Any, run: Any) -> Any:
        right = after if file.stem == "after" else before
        return {name: "Ann [1]" if n < right else "Bob" for n, name in enumerate(wanted)}
        yield

    monkeypatch.setitem(score_node.__globals__, "replies", said)
    found = simrag(kinds={"short": 1.0}, questions=str(path), rounds=2)
    assert found["round"] == (1 if decision == "ship" else 2) and found["decision"] == decision
    assert found["scores"]["questions"] == 24
    assert (tmp_path / "run/answerer/part.json").exists() == (decision == "ship")
    page = (tmp_path / "run/report.html").read_text("utf-8")
    assert ("An answerer was shipped" in page) == (decision == "ship")


def test_questions_that_were_learned_from_are_left_out_and_counted(simrag: Simrag, tmp_path: Path) -> None:
    questions = [{"question": "What is the guard of the AMBER room called", "answer": "Guard Amber"}]
    questions += [{"question": f"Who keeps the {room} room?", "answer": f"Guard {room}"} for room in ROOMS]
    found = simrag(kinds={"short": 1.0}, questions=str(json_lines(tmp_path / "q.jsonl", questions)))
    assert found["scores"]["leaked"] == 1 and found["scores"]["questions"] == 12
    assert not found["scores"]["own_questions"]


def test_what_a_round_took_is_the_sum_of_its_lines(tmp_path: Path) -> None:
    for name, rows in (("extracted", [1.5, 2.0]), ("posed", [0.25]), ("answered", [4.0])):
        lines = [line_of({"key": str(n), "said": "", "seconds": one}) for n, one in enumerate(rows)]
        (round_folder(str(tmp_path), 1)).mkdir(exist_ok=True)
        (round_folder(str(tmp_path), 1) / f"{name}.jsonl").write_bytes(b"".join(lines) + b'{"key": "half')
    assert seconds_of(str(tmp_path), 1) == {"propose": 3.8, "keep": 4.0}
    assert seconds_of(str(tmp_path), 2) == {"propose": 0.0, "keep": 0.0}


@pytest.mark.parametrize("half", ['{"n": 2', "x" * 200_000])
def test_a_ledger_outlives_a_kill(tmp_path: Path, half: str) -> None:
    path = tmp_path / "deep" / "a.jsonl"
    ledger = Ledger.open(path)
    ledger.add({"n": 1})
    ledger.close()
    with path.open("a") as file:
        file.write(half)
    ledger = Ledger.open(path)
    assert list(read_lines(path)) == [{"n": 1}]
    ledger.add({"n": 3})
    ledger.close()
    assert [row for _, row in read_rows(path)] == [{"n": 1}, {"n": 3}]
    path.write_text(half, "utf-8")  # nothing whole at all
    Ledger.open(path).close()
    assert path.read_bytes() == b""
