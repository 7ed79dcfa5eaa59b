"""Recorded predictions: the files, what contradicts itself, labels, and other people's layouts."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT, json_lines
from langchain_core.documents import Document

from artrag.errors import PredictionsError, TrainingDataError
from artrag.evaluation.labels import label
from artrag.evaluation.predictions import (
    Prediction,
    RecordedAnswer,
    check,
    check_split,
    from_row,
    question_id,
    read_predictions,
    to_row,
    write_predictions,
)
from artrag.evaluation.rows import write_rows
from artrag.final_answer import read_number
from artrag.protocols import Subquestion
from artrag.training.convert import convert, convert_files, layout_of, paired

SHARED = Path(os.environ.get("ARTRAG_SHARED", ROOT.parent / "shared")) / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the recorded answers are not at {SHARED}")


def row(**about: Any) -> dict[str, Any]:
    answer = {"stage": "initial", "text": "2 + 2 = 4", "predicted": 4, "correct": True}
    return {"id": "a", "question": "What is 2 + 2?", "gold": 4, "candidates": [answer]} | about


def answer(**about: Any) -> dict[str, Any]:
    return row(candidates=[{"stage": "initial", "text": "four"} | about])


def prediction(name: str, question: str = "Q?", **labels: bool) -> Prediction:
    answers = tuple(RecordedAnswer("sample", text, correct=correct) for text, correct in labels.items())
    return Prediction(name, question, answers)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    passages = (Document("Four."), Document("Sum.", id="d#1", metadata={"id": "d#1", "title": "T", "context": "C"}))
    asked = (Subquestion("Sum of what?", True), Subquestion("In which base?", False))
    answers = (
        RecordedAnswer("initial", "It's 4.\u2028\x85Or \ud800?", 4, True, asked, "m/cot"),
        RecordedAnswer("refined", "", None, False),
        RecordedAnswer("sample", "word " * 10_000, "five", None),
    )
    whole = Prediction("a", "Was ergibt 2 + 2? 二加二", answers, True, passages, {"kind": [1, {"x": None}]})
    bare = Prediction("b", "Q?", ())
    for name in ("rows.jsonl", "rows.jsonl.gz"):
        write_predictions(tmp_path / "new" / name, [whole, bare])
        assert read_predictions(tmp_path / "new" / name) == [whole, bare]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["rows.jsonl", "rows.jsonl.gz"]
    assert gzip.decompress((tmp_path / "new/rows.jsonl.gz").read_bytes()) == (tmp_path / "new/rows.jsonl").read_bytes()


def test_unknown_fields_are_kept_or_passed_over(tmp_path: Path) -> None:
    given = row(split="dev", nested={"a": 1}) | {"candidates": [{"stage": "sample", "text": "x", "logprob": -1}]}
    (read,) = read_predictions(json_lines(tmp_path / "p.jsonl", [given]))
    assert read.metadata == {"split": "dev", "nested": {"a": 1}} and read.candidates[0] == RecordedAnswer("sample", "x")
    assert to_row(read) == given | {"candidates": [{"stage": "sample", "text": "x"}]}


def test_the_short_forms_of_the_format() -> None:
    read = from_row(
        answer(subquestions=["How much?", " "], predicted=True) | {"id": 7, "passages": ["P", {"text": "Q"}]}
    )
    assert read.id == "7" and read.candidates[0].subquestions == (Subquestion("How much?", False),)
    assert read.candidates[0].predicted == "yes"
    assert [passage.page_content for passage in read.passages or ()] == ["P", "Q"]
    assert from_row(answer(predicted=10**400)).candidates[0].predicted == str(10**400)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ("{", "no JSON object"),
        ("[1]", "no JSON object"),
        ('{"id": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "no JSON object"),
        ('{"a": ' + "9" * 5000 + "}", "no JSON object"),
        (row(id=None), "'id' is None"),
        (row(id=" "), "'id' is ' '"),
        (row(id=True), "'id' is True"),
        (row(question=" "), "'question' is ' '"),
        (row(question=3), "'question' is 3"),
        (row(gold=[4]), r"'gold' is \[4\]"),
        (row(candidates=None), "'candidates' is None.*artrag convert"),
        (row(candidates=["4"]), "candidate 0 is '4'"),
        (row(passages="P"), "'passages' is 'P'"),
        (row(passages=[{"title": "T"}]), "passage 0 is"),
        (answer(stage="draft"), "stage 'draft': known are initial, refined, sample"),
        (answer(stage=None), "stage None"),
        (answer(text=None), "text None"),
        (answer(text=4), "text 4"),
        (answer(correct="yes"), "'correct' 'yes': it must be true or false"),
        (answer(correct=1), "'correct' 1"),
        (answer(predicted=[4]), r"'predicted' \[4\]"),
        (answer(subquestions="Q?"), "'subquestions' is 'Q\\?'"),
        (answer(subquestions=[{"text": "Q?", "answered": "no"}]), "subquestion"),
        (answer(subquestions=[3]), "subquestion 3"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, bad: Any, complaint: str) -> None:
    path = tmp_path / "p.jsonl"
    line = bad if isinstance(bad, str) else json.dumps(bad)
    path.write_text(f"{json.dumps(row())}\n\n{line}\n{json.dumps(row())}\n", "utf-8")
    with pytest.raises(PredictionsError, match=rf"p\.jsonl:3: .*{complaint}"):
        read_predictions(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    empty, damaged, latin = tmp_path / "e.jsonl", tmp_path / "d.jsonl.gz", tmp_path / "l.jsonl"
    empty.write_text("\n \n")
    whole = gzip.compress(json.dumps(row()).encode() * 50)
    damaged.write_bytes(whole[:-20])
    latin.write_bytes('{"id": "ü"}'.encode("latin-1"))
    for path, complaint in (
        (tmp_path / "none.jsonl", "there is no file"),
        (tmp_path, "cannot be read"),
        (empty, "is empty"),
        (damaged, "cannot be read"),
        (latin, r"l\.jsonl:1: no JSON object"),
    ):
        with pytest.raises(PredictionsError, match=complaint):
            read_predictions(path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(row()).encode())
    assert read_predictions(tmp_path / "p.jsonl")[0].gold == 4


def test_a_failing_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "p.jsonl", [row()])
    with pytest.raises(TypeError):
        write_rows(path, [{"a": 1}, {"a": object()}])
    assert len(read_predictions(path)) == 1 and [entry.name for entry in tmp_path.iterdir()] == ["p.jsonl"]


def test_several_recordings_of_a_question_are_fine(tmp_path: Path) -> None:
    first, second = json_lines(tmp_path / "1.jsonl", [row(), row()]), json_lines(tmp_path / "2.jsonl", [row(gold="4")])
    assert len(read_predictions(first, second)) == 3


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (row(question="What is 2 - 2?"), r"id 'a' names two questions, 'What is 2 \+ 2\?' and 'What is 2 - 2\?'"),
        (row(gold=5), "id 'a' has two gold answers, 4 and 5"),
        (answer(text="2 + 2 = 4", correct=False), "id 'a': the answer '2 .*' is labelled both right and wrong"),
    ],
)
def test_contradictions_are_named_by_id(tmp_path: Path, other: dict[str, Any], complaint: str) -> None:
    one, two = json_lines(tmp_path / "1.jsonl", [row()]), json_lines(tmp_path / "2.jsonl", [row(id="b"), other])
    with pytest.raises(PredictionsError, match=complaint):
        read_predictions(one, two)
    assert len(check([from_row(row()), from_row(other), from_row(other)])) == 1


def test_labels_contradict_within_a_question_only() -> None:
    assert check([prediction("a", yes=True), prediction("b", yes=False)]) == []
    assert check([prediction("a", yes=True), prediction("a", no=False)]) == []
    assert check([prediction("a", "What  is it?"), prediction("a", "what is it")]) == []


def test_no_question_is_in_both_parts() -> None:
    train = [prediction("a", "How many apples?"), prediction("b", "What is 5 + 3?")]
    check_split(train, [prediction("c", "What is 5 - 3?"), prediction("d", "How many pears?")])
    with pytest.raises(TrainingDataError, match="1 questions are in both train and dev: 'b'"):
        check_split(train, [prediction("b", "Other?"), prediction("c", "New?")])
    with pytest.raises(TrainingDataError, match=r"'x' \(the words of 'a'\)"):
        check_split(train, [prediction("x", " how many  APPLES")])
    many = [prediction(str(n), f"Question {n}?") for n in range(9)]
    with pytest.raises(TrainingDataError, match="9 questions .* '4' and 4 more"):
        check_split(many, many)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 + 4 = 7 apples.\n#### 7", 7),
        ("Final answer: 1,234.50 dollars\nQuestion: next one has 9", 1234.5),
        ("The answer is $18.\nThe answer is 19.", 19),
        ("Final answer: 18\nFinal answer: 20", 18),
        ("Answer: 3 apples + 4 apples = 7 apples", 7),
        ("Final answer: 50+40+2(40)=50+40+80=170", 170),
        ("Final answer: 20-4", 20),
        ("A: -5", -5),
        ("Answer: −5 degrees", -5),
        ("Answer: -$5", -5),
        ("Answer: $-5", -5),
        ("so 20 - 4 apples", 4),
        ("about 10-12", 12),
        ("Answer: 60%", 60),
        ("Answer: .5", 0.5),
        ("The final answer is: $\\boxed{1{,}000}$", 1000),
        ("#### Step 1: add 5\n**Final Answer**\n18", 18),
        ("Then we get the final answer by adding 3.\nAnswer: 12", 12),
        ("Answer: twelve", 12),
        ("Answer: １２", 12),
        ("Final answer: None", None),
        ("9 left. Final answer: not enough information", None),
        ("The final answer is", None),
        ("I count 12. The final answer is:", 12),
        ("It is 18. This answer is correct, trust it", 18),
        ("", None),
        ("no idea", None),
        ("9" * 400, None),
        ("A4 paper and x2", None),
        ("word " * 10_000 + "42", 42),
    ],
)
def test_numbers_are_read_from_answers(text: str, number: float | None) -> None:
    assert read_number(text) == number
    assert label(text, number if number is not None else 1).correct is (number is not None)
    assert label(text, 77).correct is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes, because it is.", "yes"),
        ("No.", "no"),
        ("No he would not.", "no"),
        ("No, he would not.", "no"),
        ("No evidence was found, so the answer is yes.", "yes"),
        ("First: no. Second: no.\nAnswer: yes", "yes"),
        ("Some do. So it is true.", "yes"),
        ("The answer is false", "no"),
        ("Answer: yes and no", None),
        ("There is no reason to think so", None),
        ("Step 1: yes. Step 2: no.", "no"),
        ("maybe", "maybe"),
        ("", None),
    ],
)
def test_verdicts_are_read_from_answers(text: str, said: str | None) -> None:
    for gold, word in ((True, "yes"), (False, "no"), ("Yes", "yes"), ("maybe", "maybe")):
        found = label(text, gold)
        assert found.predicted == said and found.correct is (said == word)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("B", "B"),
        ("(b)", "B"),
        ("B) Paris", "B"),
        ("Reasoning about A and B.\nThe answer is (C).", "C"),
        ("Option C is right.", "C"),
        ("It must be Paris.", "B"),
        ("London Bridge", "D"),
        ("I would take (C) here", "C"),
        ("A or B", None),
        ("A, B, C, D", None),
        ("Paris or London", None),
        ("A new idea", None),
        ("Answer: E", None),
        ("none of these", None),
        ("", None),
    ],
)
def test_options_are_read_from_answers(text: str, key: str | None) -> None:
    options = {"A": "Rome", "B": "Paris", "C": "London", "D": "London Bridge"}
    for gold in (*options, *options.values()):
        found = label(text, gold, options=options)
        assert found.predicted == key and found.correct is (key is not None and gold in (key, options[key]))


def test_options_that_are_verdicts_are_read_as_such() -> None:
    options = {"A": "yes", "B": "no", "C": "maybe"}
    assert label("No, it does not.", "B", options=options).correct
    assert label("B", "B", options=options).correct and label("B", None, answers=["no"], options=options).correct
    assert not label("Yes.", "B", options=options).correct
    with pytest.raises(PredictionsError, match="'X' is none of the options"):
        label("B", "X", options=options)


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("Headache [1]", "headache", True),
        ("Thinking aloud.\nAnswer: the Headache.", "headache", True),
        ("Answer: nausea and headache", "headache", True),  # F1 is 0.5
        ("Answer: nausea, vomiting and headache", "headache", False),
        ("The passages do not say.", "headache", False),
        ("", "headache", False),
        ("头痛", "头痛", True),
        ("It was in 1998", "1998", True),
        ("1,200", "1200", True),
        ("two gods", "12", False),
        ("headache " * 10_000, "headache", False),
    ],
)
def test_words_are_right_by_equality_or_overlap(text: str, gold: str, right: bool) -> None:
    assert label(text, gold).correct is right


def test_labels_have_reasons_further_wordings_and_a_threshold() -> None:
    assert label("NYC", "New York City", answers=["NYC"]).correct
    assert not label("New York", "New York City", f1_above=0.9).correct
    assert label("5", None).correct is None and "no gold" in label("5", None).reason
    assert label("4", 5).reason == "says 4, right is 5" and label("4", 4).predicted == 4
    assert label("0.3333333333", 1 / 3).correct and not label("0.33", 1 / 3).correct


@pytest.mark.parametrize(
    "hostile", [" " * 99_000, "answer " * 9_000, "final answer " * 9_000, "1-1" * 30_000, "#### 1" + "," * 90_000 + "x"]
)
def test_hostile_answers_are_read_in_no_time(hostile: str) -> None:
    for gold, options in ((5, None), (True, None), ("Paris", None), ("A", {"A": "one", "B": "two"})):
        assert not label(f"{hostile}{hostile}", gold, options=options).correct


GSM8K = {"question": "Tom has 3 bags of 4. How many?", "answer": "3 * 4 = <<3*4=12>>12\n#### 1,012"}
CHAIN = {
    "id": "g-1",
    "answerer": "llama",
    "questioner": "gpt2",
    "subquestions": ["How many bags?", "How many in all?", "Why?"],
    "subanswers": ["3 bags", "3 * 4 = 12"],
    "final_text": "12",
    "predicted": 12,
    "is_correct": True,
}


@pytest.mark.parametrize(
    ("given", "layout", "gold", "about"),
    [
        (GSM8K, "gsm8k", 1012, {}),
        (
            {"question": "Q?", "answer": "How many? ** 3 <<1+2=3>>\nAnd? ** 4\n#### 7"},
            "gsm8k",
            7,
            ["How many?", "And?"],
        ),
        ({"question": "Q?", "steps": [{"subquestion": "S?", "answer": "1"}], "final": 1}, "socratic", 1, ["S?"]),
        ({"qid": "s1", "question": "Q?", "answer": False, "decomposition": ["S?", "#1?"]}, "strategyqa", False, 2),
        ({"question": "Q?", "final": 4.5}, "final", 4.5, {}),
        ({"question": "Q?", "final": None, "answer": "red"}, "final", "red", {}),
        ({"sQuestion": "Q?", "lSolutions": [8.0], "iIndex": 5}, "multiarith", 8, {}),
        ({"ID": "s", "Body": "Tom has 2.", "Question": "How many?", "Answer": 2.0}, "svamp", 2, {}),
        ({"id": "q", "question": "Q?", "answers": ["x", "y"]}, "question", "x", {}),
        ({"id": "q", "question": "Q?", "options": {"A": "x"}, "answer": "A"}, "question", "A", {}),
        (row(), "predictions", 4, {}),
    ],
)
def test_common_layouts_are_known_by_their_fields(given: dict[str, Any], layout: str, gold: Any, about: Any) -> None:
    assert layout_of(given) == layout
    (made,) = convert([given])
    assert made.gold == gold and type(made.gold) is type(gold)
    asked = made.metadata.get("subquestions", [])
    assert asked == about if isinstance(about, list) else len(asked) == (about or 0)


def test_ids_and_what_is_known_of_a_question_are_kept() -> None:
    facts = {"qid": "s1", "question": "Q?", "answer": True, "facts": ["F."], "decomposition": ["S?"]}
    multiple = {"id": "m", "question": "Q?", "options": {"A": "x"}, "answer": "A", "type": "mcq"}
    one, two, three, four = convert([facts, multiple, GSM8K, GSM8K | {"question": " tom has 3 bags of 4. how many"}])
    assert (one.id, one.metadata) == ("s1", {"subquestions": ["S?"], "facts": ["F."]})
    assert two.metadata == {"type": "mcq", "options": {"A": "x"}}
    assert three.id == four.id == question_id(GSM8K["question"]) and three.candidates == ()


def test_recorded_chains_find_their_question() -> None:
    questions = convert([{"id": "g-1", "question": "Tom has 3 bags of 4. How many?", "final": 12}])
    (made,) = convert([CHAIN], questions=questions)
    (said,) = made.candidates
    assert said.text == "How many bags? 3 bags\nHow many in all? 3 * 4 = 12\nFinal answer: 12"
    assert (said.stage, said.predicted, said.correct, said.source) == ("initial", 12, True, "llama")
    assert [asked.text for asked in said.subquestions] == CHAIN["subquestions"]
    assert made.gold == 12 and made.question == questions[0].question and made.metadata == {"questioner": "gpt2"}
    with pytest.raises(PredictionsError, match="row 1: the answer to 'g-1' comes without its question"):
        convert([CHAIN])


def test_chains_of_two_questioners_make_a_pair() -> None:
    questions = convert([{"id": "g-1", "question": "Q?", "final": 12}])
    better = CHAIN | {"questioner": "chatgpt", "final_text": "13", "is_correct": False}
    other = CHAIN | {"questioner": "gpt2-bc", "final_text": "14"}
    rows = convert([CHAIN, better, other, better | {"answerer": "x"}], questions=questions)
    pairs = paired(rows, refined_by="chatgpt")
    assert [(p.metadata["questioner"], p.candidates[1].text[-2:]) for p in pairs] == [("gpt2", "13"), ("gpt2-bc", "13")]
    assert [[answer.stage for answer in pair.candidates] for pair in pairs] == [["initial", "refined"]] * 2
    assert len(paired(rows, refined_by="chatgpt", initial_by="gpt2-bc")) == 1
    with pytest.raises(PredictionsError, match="refined by 'gpt4': the rows hold chatgpt, gpt2, gpt2-bc"):
        paired(rows, refined_by="gpt4")


def test_recorded_solutions_keep_their_labels_or_get_them() -> None:
    told = {"id": "s", "question": "Q?", "solution": "It is 4.", "predicted": 4, "is_correct": False, "model": "m"}
    untold = {"id": "t", "question": "Q?", "solution": "It is 4.", "final": 4}
    annotated = {"id": "u", "question": "Q?", "steps": ["2 + 2", "= 5"], "answer_correct": "wrong", "final": 4}
    one, two, three = convert([told, untold, annotated])
    assert one.candidates == (RecordedAnswer("initial", "It is 4.", 4, False, (), "m"),)
    assert two.candidates == (RecordedAnswer("initial", "It is 4.", 4, True),)
    assert three.candidates == (RecordedAnswer("initial", "2 + 2\n= 5", None, False),)


def test_an_unknown_layout_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match=r"fields \['prompt', 'reply'\].*strategyqa.*gsm8k.*svamp"):
        layout_of({"prompt": "Q?", "reply": "A"})
    path = json_lines(tmp_path / "q.jsonl", [GSM8K, GSM8K | {"answer": "#### none"}])
    with pytest.raises(PredictionsError, match=r"q\.jsonl:2: no number follows '####'"):
        convert_files(path)


@needs_data
@pytest.mark.parametrize(
    ("setting", "answerer", "initial", "refined"),
    [
        ("chatgpt_weak_to_strong", "chatgpt", "gpt2-small/bc", "chatgpt"),
        ("chatgpt_strong_to_weak", "chatgpt", "chatgpt", "gpt2-medium/bc"),
        ("llama13b_weak_to_strong", "llama13b", "gpt2-medium/bc", "chatgpt"),
    ],
)
def test_chains_come_out_as_the_replay_files_have_them(setting: str, answerer: str, initial: str, refined: str) -> None:
    """The whole way: questions, chains, pairs - equal to the files that were made elsewhere, letter for letter."""
    files = SHARED / "llm_predictions"
    chains = convert_files(files / f"gsm8k_subq_{answerer}.jsonl.gz", questions=[SHARED / "gsm8k" / "test.jsonl"])
    made = {pair.id: pair for pair in paired(chains, initial_by=initial, refined_by=refined)}
    expected = read_predictions(files / "replay" / f"{setting}.dev.jsonl", files / "replay" / f"{setting}.test.jsonl")
    assert len(expected) == 319
    for wanted in expected:
        found = made[wanted.id]
        assert (found.question, found.gold, found.candidates) == (wanted.question, wanted.gold, wanted.candidates)


@needs_data
def test_labels_agree_with_the_recorded_ones() -> None:
    rows = read_predictions(*sorted((SHARED / "llm_predictions" / "replay").glob("*.jsonl")))
    labels = [label(answer.text, row.gold).correct is answer.correct for row in rows for answer in row.candidates]
    assert len(labels) == 2552 and sum(labels) / len(labels) > 0.99
