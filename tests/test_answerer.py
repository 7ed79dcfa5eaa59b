"""Stage 1: the form of its examples, rows of trunk and branches, and an answerer on tiny random weights."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import json_lines, tiny_matrices, tiny_tokenizer
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from test_causal import make_base

from artrag import prompts
from artrag.errors import PartError, TrainingDataError
from artrag.models import LocalChat, load_chat
from artrag.models.parts import MANIFEST, read_part
from artrag.models.weights import ADAPTER
from artrag.nodes.answer import NOTHING_FOUND
from artrag.passages import numbered
from artrag.training import answerer, branches, loop
from artrag.training.answerer import HOW, check_apart, train_answerer
from artrag.training.answerer_data import (
    BRANCHES,
    NOT_TOLD,
    Example,
    chat_of,
    example,
    rows_of,
)
from artrag.training.answerer_sets import load_examples, with_distractors
from artrag.training.branches import branches_loss, laid, trunk_of
from artrag.training.loop import CHECKPOINT, LOSSES
from artrag.training.lora_batches import completion_loss

PASSAGES = (("The lamp is red.", "Manual"), ("The shelf is of oak.", ""))
TINY = replace(HOW, epochs=8, rate=1e-2, rank=4, batch=2, window=700, evaluations=1)


@pytest.fixture(scope="module", autouse=True)
def _tiny_matrices() -> Iterator[None]:
    with tiny_matrices(answerer):
        yield


def counted() -> dict[str, int]:
    return {"in": 0, "shortened": 0, "dropped": 0}


def told(question: str, answer: str, *cites: int) -> Example:
    return Example("answer", question, (answer,), PASSAGES, cites)


# --- the form


@pytest.mark.parametrize(
    ("row", "completion"),
    [
        ({"task": "answer", "passages": ["a"], "question": "Q?", "answer": "red", "cites": [1]}, "red [1]"),
        ({"task": "answer", "passages": [{"text": "a"}], "question": "Q?", "answer": ""}, NOT_TOLD),
        (
            {"task": "answer", "passages": ["a"], "question": "Q?", "answer": "B", "options": {"A": "yes", "B": "no"}},
            "B. no",
        ),
        ({"task": "instruct", "question": "Say hello.", "answer": "Hello."}, "Hello."),
        ({"task": "extract", "passages": ["a"], "answers": ["red", "oak"]}, "red\noak"),
        ({"task": "ask", "passages": ["a"], "answer": "red", "question": "Which colour?"}, "Which colour?"),
    ],
)
def test_what_is_to_be_said(row: dict[str, Any], completion: str) -> None:
    assert example(row).completion == completion


def test_silence_is_worded_as_the_node_words_it() -> None:
    assert NOT_TOLD == NOTHING_FOUND


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"task": "sing"}, "the task 'sing' is none of"),
        ({"task": "answer", "question": "Q?", "answer": "a"}, "needs passages"),
        ({"task": "answer", "passages": ["a"], "question": " ", "answer": "a"}, "'question' is empty"),
        (
            {"task": "answer", "passages": ["a"], "question": "Q?", "answer": "a", "cites": [2]},
            "leads to none of the 1",
        ),
        ({"task": "answer", "passages": ["a"], "question": "Q?", "answer": "C", "options": {"A": "x"}}, "no key"),
        ({"task": "extract", "passages": ["a"], "answers": "a"}, "must be a list"),
        ({"task": "extract", "passages": ["a", "b"], "answers": ["a"]}, "needs one passage"),
        ({"task": "ask", "passages": ["a"], "answer": " ", "question": "Q?"}, "an answer is empty"),
        ({"task": "instruct", "question": "Q?"}, "'answer' must be a text"),
    ],
)
def test_another_form_is_refused_by_file_and_line(row: dict[str, Any], told: str, tmp_path: Path) -> None:
    good = {"task": "instruct", "question": "Q?", "answer": "A."}
    with pytest.raises(TrainingDataError, match=r"line 2 of .*rows\.jsonl.*" + told):
        load_examples(json_lines(tmp_path / "rows.jsonl", [good, row]))


def test_the_chats_are_those_of_the_prompt_files() -> None:
    one = replace(told("Which colour?", "A", 1), options=(("A", "red"), ("B", "blue")))
    bare = chat_of(one)
    assert [turn["role"] for turn in bare] == ["system", "user"]
    assert bare[-1]["content"].endswith("Question: Which colour?\nA. red\nB. blue")
    assert "(Manual)\nThe lamp is red." in bare[-1]["content"]
    posed = chat_of(Example("ask", "Which colour?", ("red",), PASSAGES[:1]))
    assert "Answer: red" in posed[-1]["content"] and "Which colour" not in posed[-1]["content"]
    found = chat_of(Example("extract", "", ("red",), PASSAGES[:1]))
    assert "The lamp is red." in found[-1]["content"]
    assert numbered([]) == ""


PARAGRAPH = {"question": "Who came?", "context": "Ann came.", "title": "A_visit"}
CHOICES = {"A": "red", "B": "oak"}
WRONG = ((1, "a"), (2, "c"), (3, "d"))


@pytest.mark.parametrize(
    ("row", "layout", "asked", "said"),
    [
        (PARAGRAPH | {"answers": {"text": ["Miss Ann", "Ann"]}}, "squad", "Who came?", "Ann [1]"),
        (PARAGRAPH | {"answers": {"text": []}}, "squad", "Who came?", NOT_TOLD),
        ({"passage": "p", "question": "How many?", "answers_spans": {"spans": ["3"]}}, "drop", "How many?", "3 [1]"),
        (
            {"passage": "p", "question": "When?", "answer": {"number": "", "spans": [], "date": {"year": "1990"}}},
            "drop",
            "When?",
            "1990 [1]",
        ),
        ({"passage": "p", "question": "is it so", "answer": True}, "boolq", "Is it so?", "Yes [1]"),
        ({"question": "Who?", "context": "p", "answer": "Ann"}, "nq", "Who?", "Ann [1]"),
        (
            {
                "question": "Q?",
                "correct_answer": "b",
                "distractor1": "a",
                "distractor2": "c",
                "distractor3": "d",
                "support": "s",
            },
            "sciq",
            "Q?",
            "B. b [1]",
        ),
        (
            {"question": "Q?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
            "arc",
            "Q?\nA. x\nB. y",
            "B. y",
        ),
        (
            {"question": {"stem": "Q?", "choices": [{"label": "A", "text": "x"}]}, "answerKey": "A"},
            "arc",
            "Q?\nA. x",
            "A. x",
        ),
        (
            {"question": "Q?", "options": CHOICES, "answer": "oak", "answer_idx": "B"},
            "medqa",
            "Q?\nA. red\nB. oak",
            "B. oak",
        ),
        ({"question": "Q?", "choices": ["x", "y"], "answer": 1}, "mmlu", "Q?\nA. x\nB. y", "B. y"),
        ({"instruction": "Say.", "context": "", "response": "So."}, "dolly", "Say.", "So."),
        ({"instruction": "Say.", "context": "c", "response": "So."}, "dolly", "Say.", "So. [1]"),
        ({"instruction": "Do.", "instances": [{"input": "x", "output": "y"}]}, "self-instruct", "Do.\n\nx", "y"),
        ({"dialogue": ["Hi.", "Hello."], "narrative": "Two meet."}, "soda", "Two meet.\nHi.", "Hello."),
    ],
)
def test_public_sets_are_known_by_their_fields(
    row: dict[str, Any], layout: str, asked: str, said: str, tmp_path: Path
) -> None:
    (found,), counts = load_examples(json_lines(tmp_path / "rows.jsonl", [row]))
    assert counts == {layout: 1} and (found.question, found.completion) == (asked, said)


def test_files_of_squad_and_drop_are_read_as_published(tmp_path: Path) -> None:
    squad = {
        "data": [
            {
                "title": "A_visit",
                "paragraphs": [{"context": "Ann came.", "qas": [{"question": "Who?", "answers": [{"text": "Ann"}]}]}],
            }
        ]
    }
    drop = {"nfl_1": {"passage": "p", "qa_pairs": [{"question": "How many?", "answer": {"number": "3"}}]}}
    for name, whole in (("squad", squad), ("drop", drop)):
        (tmp_path / f"{name}.json").write_text(json.dumps(whole), "utf-8")
    found, counts = load_examples(tmp_path / "squad.json", tmp_path / "drop.json")
    assert counts == {"squad": 1, "drop": 1}
    assert found[0].passages == (("Ann came.", "A visit"),) and [one.completion for one in found] == [
        "Ann [1]",
        "3 [1]",
    ]


def test_of_a_conversation_the_best_first_reply_is_learned(tmp_path: Path) -> None:
    def message(name: str, parent: str | None, role: str, rank: int | None = None, lang: str = "en") -> dict[str, Any]:
        return {
            "message_id": name,
            "parent_id": parent,
            "role": role,
            "text": f"text {name}",
            "rank": rank,
            "lang": lang,
        }

    rows = [
        message("q", None, "prompter"),
        message("worse", "q", "assistant", 1),
        message("better", "q", "assistant", 0),
        message("unranked", "q", "assistant"),
        message("more", "better", "prompter"),
        message("fremd", None, "prompter", lang="de"),
    ]
    (found,), counts = load_examples(json_lines(tmp_path / "rows.jsonl", rows))
    assert (found.question, found.completion) == ("text q", "text better") and counts == {"openassistant": 6}


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"line 1 .*\['what'\].* squad, drop"):
        load_examples(json_lines(tmp_path / "rows.jsonl", [{"what": 1}]))


def test_distractors_are_near_and_do_not_answer() -> None:
    texts = [f"The lamp number {n} is red and stands in room {n}." for n in range(12)]
    alone = [
        Example("answer", f"Where is lamp {n}?", (f"in room {n}",), ((text, ""),), (1,)) for n, text in enumerate(texts)
    ]
    twice = [one for one in alone for _ in range(2)]
    made = with_distractors([*twice, Example("instruct", "Say.", ("So.",))], 3, seed=1)
    assert len(made) == 25 and made[-1].task == "instruct"
    sizes = {len(one.passages) for one in made[:-1]}
    assert 1 in sizes and 4 in sizes and sizes <= {1, 2, 3, 4}
    for before, after in zip(twice, made[:-1], strict=True):
        assert after.passages[after.cites[0] - 1] == before.passages[0] and len(set(after.passages)) == len(
            after.passages
        )
        assert not any(
            before.answers[0] in text for n, (text, _) in enumerate(after.passages, 1) if n != after.cites[0]
        )
    assert [one.passages for one in made[:-1:2]] == [one.passages for one in made[1::2]]
    assert len({one.cites for one in made[:-1]}) > 1 and with_distractors(twice, 0) == twice


def test_a_verdict_is_told_apart_by_what_it_rests_on() -> None:
    asked = Example("answer", "Is it true that lamp 1 has 9 bulbs?", ("No",), (("Lamp 1 has 12 bulbs.", ""),), (1,))
    denying, same = ("There is no lamp 1 here.", ""), ("Another lamp 1 has 12 bulbs.", "")
    made = [
        with_distractors([replace(asked, span="12 bulbs")], 2, among=[denying, same], seed=n)[0].passages
        for n in range(9)
    ]
    assert any(denying in shown for shown in made) and not any(same in shown for shown in made)


def test_distractors_come_from_further_passages_too() -> None:
    asked = [Example("answer", "Where is the red lamp?", ("in room 7",), (("The red lamp is in room 7.", "a"),), (1,))]
    near, right, far = ("The red lamp is old.", "b"), ("A red lamp is in room 7.", "c"), ("Nothing else.", "d")
    made = {
        with_distractors(asked, 3, among=[right, near, far, asked[0].passages[0]], seed=n)[0].passages for n in range(9)
    }
    shown = {passage for passages in made for passage in passages}
    assert near in shown and right not in shown and max(map(len, made)) <= 3
    assert all(len(set(passages)) == len(passages) for passages in made)
    assert with_distractors([Example("instruct", "Say.", ("So.",))], 3, among=[near])[0].passages == ()


# --- rows


def test_a_row_is_read_as_its_branches_alone_would_be() -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from artrag.training.attention import with_blocks

    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=50, max_position_embeddings=64, num_key_value_heads=2, **size)
    ).eval()
    rows = [((1, 2, 3, 4, 5), (6, 7)), ((1, 2, 3, 9), (8,)), ((1, 2, 3, 9, 9, 9), (3, 2, 1, 0))]
    row = trunk_of(rows)
    assert row == ((1, 2, 3), (4, 5), (6, 7), (9,), (8,), (9, 9, 9), (3, 2, 1, 0))
    with_blocks(model)
    with torch.inference_mode():
        together = branches_loss(model, [row, row], "cpu")
        model.set_attn_implementation("eager")
        alone = sum(completion_loss(model, [one], 0, "cpu") for one in rows)
    torch.testing.assert_close(together, torch.as_tensor(alone), rtol=1e-5, atol=1e-5)


def test_a_branch_sees_the_trunk_and_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "MULTIPLE", 1)
    one = laid(((1, 2), (3,), (4,), (5,), (6,)), "cpu")
    assert one.ids.tolist() == [1, 2, 3, 4, 5, 6] and one.positions.tolist() == [0, 1, 2, 3, 2, 3]
    assert one.sees[5].tolist() == [True, True, False, False, True, True]
    assert one.before.tolist() == [2, 4] and one.targets.tolist() == [4, 6]


def test_a_padded_row_is_as_long_as_others_and_nobody_sees_what_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "MULTIPLE", 4)
    one = laid(((1, 2), (3,), (4,), (5,), (6,)), "cpu")
    assert one.ids.tolist() == [1, 2, 0, 0, 3, 4, 5, 6] and (one.trunk, one.start) == (2, 4)
    assert one.positions.tolist() == [0, 1, 0, 0, 2, 3, 2, 3]
    assert one.sees[7].tolist() == [True, True, False, False, False, False, True, True]
    assert one.before.tolist() == [4, 6] and one.targets.tolist() == [4, 6]
    assert len(laid(((1, 2), (3,), (4, 5, 6, 7)), "cpu").ids) == 12


def test_prompts_that_are_alike_keep_a_token_to_branch_at() -> None:
    assert trunk_of([((1, 2, 3), (4,)), ((1, 2, 3), (5,))]) == ((1, 2), (3,), (4,), (3,), (5,))
    assert trunk_of([((1, 2), (4,)), ((1, 2, 3), (5,))]) == ((1,), (2,), (4,), (2, 3), (5,))


def test_questions_about_the_same_passages_share_rows() -> None:
    tokenizer = tiny_tokenizer()
    many = [told(f"Question {n}?", "red", 1) for n in range(BRANCHES + 3)]
    other = Example("instruct", "Say hello.", ("Hello.",))
    counts = counted()
    rows = rows_of(tokenizer, [*many, other, other], 4000, counts)
    assert [len(row) // 2 for row in rows] == [BRANCHES, 3, 1, 1] and counts == {"in": 13, "shortened": 0, "dropped": 0}
    trunk, asked, answer = rows[0][:3]
    whole = tokenizer.decode(trunk) + tokenizer.decode(asked)
    assert whole.endswith("0?<|im_end|>\n<|im_start|>assistant\n") and "The shelf is of oak." in whole
    assert tokenizer.decode(answer) == "red [1]<|im_end|>"
    assert rows_of(tokenizer, many, 4000, counted()) == rows[:2]


def test_no_answer_is_cut() -> None:
    tokenizer = tiny_tokenizer()
    long = (("The lamp is red.", ""), ("It rains. " * 30, ""), ("The shelf is of oak. " * 30, ""))
    group = [Example("answer", "Wood?", ("oak",), long, (3,)), Example("answer", "Colour?", ("red",), long, (1,))]
    counts = counted()
    (row,) = rows_of(tokenizer, group, 1100, counts)
    text = "".join(tokenizer.decode(part) for part in row)
    assert counts == {"in": 2, "shortened": 2, "dropped": 0}
    assert "oak [2]<|im_end|>" in text and "red [1]<|im_end|>" in text and "It rains" not in text and "[3]" not in text
    assert rows_of(tokenizer, group, 500, counts) == [] and counts["dropped"] == 2


# --- training


def examples(word: str, n: int) -> list[Example]:
    return [Example("instruct", f"{word} {i}", ("yes" if i % 2 else "no",)) for i in range(n)]


TRAIN, DEV = examples("say", 24), examples("tell", 8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), 0)


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("answerer")
    return folder, train_answerer(TRAIN, DEV, folder, base=str(base), plan=TINY)


def test_it_learns_and_is_opened_by_its_folder(trained: tuple[Path, dict[str, Any]], base: Path) -> None:
    folder, found = trained
    assert found["rows"] == {"in": 24, "shortened": 0, "dropped": 0, "read": 24, "dev": 8}
    losses = [json.loads(line) for line in (folder / LOSSES).read_text("utf-8").splitlines()]
    assert found["losses"]["dev"] < 0.7 * losses[0]["loss"] and not (folder / CHECKPOINT).exists()
    assert read_part(folder, "answerer").data == [{"source": "instruct", "examples": 24}]
    taught, plain = load_chat(str(folder)), load_chat(str(base))
    assert isinstance(taught, LocalChat) and isinstance(plain, LocalChat)
    assert taught.name_or_path.startswith(plain.name_or_path + "+")
    assert taught.invoke([HumanMessage("say 3")]).text[0] in "yn"
    assert plain.invoke([HumanMessage("say 3")]).text[:1] not in ("y", "n")


def test_a_trained_one_is_asked_without_the_examples_it_learned_from(
    trained: tuple[Path, dict[str, Any]], base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The prompts that it was taught, as shipped; another prompt, or one of the user's own, is left as it is."""
    taught, plain = load_chat(str(trained[0])), load_chat(str(base))
    assert isinstance(taught, LocalChat) and isinstance(plain, LocalChat)
    values = {"passages": "[1] The lamp is red.", "question": "Colour?"}
    messages = prompts.load("answer").format_messages(**values)
    bare = [messages[0], messages[-1]]
    assert len(messages) > 2 and taught.prompt(messages) == taught.prompt(bare) == plain.prompt(bare)
    assert plain.prompt(messages) != plain.prompt(bare)
    counted_tokens = taught.invoke(messages).usage_metadata
    assert counted_tokens and counted_tokens["input_tokens"] == len(taught.get_token_ids(plain.prompt(bare)))
    others = [HumanMessage("1"), AIMessage("2"), HumanMessage("3")]
    assert taught.prompt(others) == plain.prompt(others)
    prompts.save("answer", ChatPromptTemplate([("system", "My own."), *prompts.load("answer").messages[1:]]), tmp_path)
    own = prompts.load("answer", tmp_path).format_messages(**values)
    assert len(own) == len(messages) and taught.prompt(own) == plain.prompt(own)


def test_a_killed_training_goes_on(
    trained: tuple[Path, dict[str, Any]], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = loop.Run._step, []

    def dying(self: Any, rows: Any, rate: float) -> float:
        seen.append(rate)
        if len(seen) == 20:
            raise KeyboardInterrupt
        return real(self, rows, rate)

    monkeypatch.setattr(loop.Run, "_step", dying)
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train_answerer(TRAIN, DEV, tmp_path, base=str(base), plan=TINY)
    found = train_answerer(TRAIN, DEV, tmp_path, base=str(base), plan=TINY)
    assert found["losses"] == pytest.approx(trained[1]["losses"], rel=0.01)
    assert (tmp_path / ADAPTER).read_bytes() == (trained[0] / ADAPTER).read_bytes()


def test_what_is_measured_by_is_not_learned_from(base: Path, tmp_path: Path) -> None:
    one = told("Which colour is it?", "red", 1)
    with pytest.raises(TrainingDataError, match="1 questions are in the training data .* 'which Colour is it'"):
        check_apart([one], [replace(one, question="which Colour is it"), told("Who?", "Ann", 1)])
    with pytest.raises(TrainingDataError, match="0 rows to learn from and 8 of dev"):
        train_answerer([told("Q" * 900, "a", 1)], DEV, tmp_path, base=str(base), plan=TINY)


def test_a_damaged_answerer_is_refused(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    cut = shutil.copytree(trained[0], tmp_path / "cut")
    (cut / ADAPTER).write_bytes(b"x")
    with pytest.raises(PartError, match=f"not what {MANIFEST} was written for"):
        load_chat(str(cut))


def test_the_command(
    shell: Callable[..., tuple[int, str, str]], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answerer, "HOW", replace(TINY, epochs=1))
    rows = [{"task": "instruct", "question": f"say {n}", "answer": "yes"} for n in range(60)]
    path = json_lines(tmp_path / "rows.jsonl", rows)
    out = tmp_path / "part"
    code, said, _ = shell("train", "answerer", path, "--out", out, "--base", base, "--rate", "1e-4", "--json")
    found = json.loads(said)
    assert code == 0 and found["kind"] == "answerer" and found["rows"]["in"] + found["rows"]["dev"] == 60
    part = read_part(out, "answerer")
    assert (part.base, part.options["rate"]) == (str(base), 1e-4)
    code, said, _ = shell("train", "answerer", path, "--out", out, "--base", base, "--rate", "1e-4")  # done before
    for what, value in (("rows, in", found["rows"]["in"]), ("losses, dev", f"{found['losses']['dev']:.4f}")):
        assert code == 0 and re.search(rf"{what}\W+{value}\b", said), said
