"""The step reader on tiny random weights: what is learned, read, resumed, kept apart, and refused."""

import json
import math
import random
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import json_lines, tiny_matrices
from test_working import HOSTILE

from artrag.errors import PartError, TrainingDataError
from artrag.evaluation.predictions import Prediction, RecordedAnswer
from artrag.evaluation.rows import read_rows
from artrag.models import step_reader as reading
from artrag.models.encoder_model import open_encoder
from artrag.models.parts import MANIFEST, read_part, sha256
from artrag.models.step_graph import VERSION, answer_graph, quantities
from artrag.models.step_reader import (
    NETWORK,
    TOGETHER,
    WINDOW,
    StepReader,
    encode_questions,
    question_batch,
    readings,
)
from artrag.models.weights import ADAPTER, CONFIG, merge_lora, quiet
from artrag.training import step_losses, step_reader
from artrag.training.folds import FOLDS, fold_of
from artrag.training.loop import CHECKPOINT, LOSSES, Plan
from artrag.training.readings import KEPT, Readings, answer_key
from artrag.training.solutions import Calculation, Problem, Solution
from artrag.training.step_reader import train_reader
from artrag.working import near

# --- training: a tiny encoder that knows a few words; every number is the same token to it

SIGNS = "+*"
PAIRS = [(a, b) for a in range(3, 60) for b in range(3, 60) if a != b]
random.Random(0).shuffle(PAIRS)
ON_SOLUTIONS = Plan(epochs=14, rate=4e-3, batch=8, rank=8, evaluations=1, patience=9, seed=1)
ON_ANSWERS = Plan(epochs=2, rate=1e-2, batch=40, evaluations=1)


def asked(sign: str, a: int, b: int) -> str:
    """A question that tells whether to add or to multiply."""
    if sign == "+":
        return f"Ann has {a} pens and Bob has {b} pens. How many pens are there together?"
    return f"Ann has {a} boxes with {b} pens each. How many pens are there?"


def worked(sign: str, a: int, b: int) -> str:
    value = a + b if sign == "+" else a * b
    return f"{a} {sign} {b} = {value}. Final answer: {value}"


def marked(sign: str, a: int, b: int) -> dict[str, Any]:
    value = a + b if sign == "+" else a * b
    answer = f"{a}{sign}{b}=<<{a}{sign}{b}={value}>>{value}\n#### {value}"
    return {"question": asked(sign, a, b), "answer": answer}


def recorded(sign: str, a: int, b: int) -> Prediction:
    """Its right answer calculates as its question tells, its wrong one as the other kind of question does."""
    answers = [
        RecordedAnswer("initial", worked(one, a, b), correct=one == sign, source="tiny")
        for one in (sign, SIGNS.replace(sign, ""))
    ]
    return Prediction(f"{a}{sign}{b}", asked(sign, a, b), tuple(answers))


def of_pairs(make: Callable[[str, int, int], Any], start: int, count: int) -> list[Any]:
    return [make(SIGNS[n % 2], *PAIRS[n]) for n in range(start, start + count)]


TRAIN, DEV = of_pairs(recorded, 300, 40), of_pairs(recorded, 400, 8)


@pytest.fixture(scope="module", autouse=True)
def _tiny_matrices() -> Iterator[None]:
    """One core, float32, a small network, and few forms of a solution: what is learned is simple."""
    from artrag.models.step_network import StepNetwork

    with tiny_matrices(step_reader) as patch:
        for name, value in {"RIGHT": 2, "WRONG": 3, "TRIES": 5}.items():
            patch.setattr(step_losses, name, value)
        patch.setattr(StepNetwork.__init__, "__defaults__", (32, 2, 0.1))
        yield


def make_base(folder: Path, seed: int, **config: Any) -> str:
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = "[PAD] [UNK] [CLS] [SEP] ann bob has and boxes with pens each how many together are there . ?".split()
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    special = {name: f"[{name[:3].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    options = {
        "vocab_size": len(words),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "hidden_dropout_prob": 0.05,
    }
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        BertModel(BertConfig(**options | config)).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("base"), 1)


Trained = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def trained(base: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from artrag.models.step_network import StepNetwork

    folder = tmp_path_factory.mktemp("reader")
    path = json_lines(folder / "problems.jsonl", of_pairs(marked, 0, 120))
    plans = {"on_solutions": ON_SOLUTIONS, "on_answers": ON_ANSWERS}
    with pytest.MonkeyPatch.context() as patch:  # it learns a rule: dropout would but take time
        patch.setattr(StepNetwork.__init__, "__defaults__", (32, 2, 0.0))
        return folder / "out", train_reader([path], TRAIN, DEV, folder / "out", base=base, **plans)


@pytest.fixture(scope="module")
def reader(trained: Trained) -> StepReader:
    return StepReader.load(trained[0])


def test_it_learns_what_a_question_tells_to_do(reader: StepReader) -> None:
    """Of numbers that it never saw, to both kinds of questions; the words of the two answers are the same."""
    for sign in SIGNS:
        gaps = []
        for a, b in PAIRS[500:530]:
            read = reader.read(asked(sign, a, b), [worked(one, a, b) for one in SIGNS])
            right = SIGNS.index(sign)
            gaps.append(read[right] - read[1 - right])
        assert np.mean(np.array(gaps) > 1) > 0.9


def test_figures_say_how_well_it_reads(trained: Trained) -> None:
    folder, figures = trained
    assert figures["auc"]["value"] == figures["within_question_auc"]["value"] == 1
    assert figures["rows"] == {"solutions": 120, "train": 40, "dev": 8} and figures["kind"] == "reader"
    guessing = math.log(2)  # the loss is that of the first weights that rank all rows right: how sure they are differs
    assert figures["losses"]["solutions"] < 0.3 and figures["losses"]["answers"] < guessing
    assert figures["seconds"]["solutions"] > 0 and figures["peak_memory_mb"] > 50
    json.dumps(figures, allow_nan=False)


def test_a_reader_is_small_and_says_where_it_comes_from(trained: Trained, base: str) -> None:
    folder, figures = trained
    part = read_part(folder, "reader")
    assert (part.kind, part.variant, part.base) == ("reader", "encoder", base)
    assert part.base_sha256 == sha256(Path(base) / "model.safetensors")
    assert set(part.files) == {ADAPTER, CONFIG, NETWORK} and part.figures["auc"] == figures["auc"]
    assert part.data == [{"source": "problems.jsonl", "solutions": 120}, {"source": "tiny", "answers": 80}]
    assert part.options == {
        "graph": VERSION,
        "size": 32,
        "layers": 2,
        "on_solutions": asdict(ON_SOLUTIONS),
        "on_answers": asdict(ON_ANSWERS),
    }
    names = {path.name for path in folder.iterdir()}
    assert names == {ADAPTER, CONFIG, NETWORK, MANIFEST, KEPT, LOSSES, f"answers.{LOSSES}"}
    assert json.loads((folder / CONFIG).read_text("utf-8"))["base_model_name_or_path"] == base
    curve = [json.loads(line) for line in (folder / LOSSES).read_text("utf-8").splitlines()]
    losses = [line["loss"] for line in curve if "loss" in line]
    assert sum(losses[-10:]) / 10 < losses[0] / 4


def test_answers_it_learned_from_have_readings_of_a_network_that_had_not(trained: Trained, reader: StepReader) -> None:
    folder, _ = trained
    kept = {row["key"]: row["reading"] for _, row in read_rows(folder / KEPT)}
    assert len(kept) == 80 and all(isinstance(value, float) for value in kept.values())
    found, row = Readings(folder), TRAIN[3]
    texts = [answer.text for answer in row.candidates]
    mixed = found.of(row.question, [texts[0], "3 + 4 = 7", texts[1], " "])
    fresh = reader.read(row.question, ["3 + 4 = 7", " "])
    assert mixed.dtype == np.float32 and mixed.shape == (4,)
    wanted = [kept[answer_key(row.question, text)] for text in texts]
    assert mixed[[0, 2]] == pytest.approx(np.array(wanted)) and mixed[[1, 3]] == pytest.approx(fresh, abs=1e-4)
    assert abs(mixed[[0, 2]] - reader.read(row.question, texts)).max() > 1e-3  # another network
    assert mixed[0] > mixed[2]  # it reads them rightly all the same
    # Another spelling of the question is no question that was kept.
    assert found.of(f" {row.question}", texts) == pytest.approx(reader.read(row.question, texts), abs=1e-4)
    assert found.of(row.question, []).shape == (0,)
    (folder / KEPT).rename(folder / "away")
    try:
        assert Readings(folder).of(row.question, texts) == pytest.approx(reader.read(row.question, texts), abs=1e-4)
    finally:
        (folder / "away").rename(folder / KEPT)


# --- readings do not depend on anything but question and answer

MIXED = [
    "3 + 4 = 7. Final answer: 7",
    "",
    "I do not know.",
    "Final answer: 12",
    " ".join(f"{n} + 2 = {n + 2}." for n in range(30)),
    "2 * (3 + 4 - 1) / 3 = 4. 4 * 100 = 400",
    "3 + 4 = 8",
]


def test_a_reading_does_not_depend_on_the_other_answers(reader: StepReader) -> None:
    question = asked("+", 3, 4)
    many = [f"{text}{' ' * n}" for n in range(12) for text in MIXED]  # each is read anew
    together = reader.read(question, many)
    assert len(set(many)) > TOGETHER and together.shape == (len(many),)
    alone = np.concatenate([reader.read(question, [text]) for text in MIXED])
    assert together == pytest.approx(np.tile(alone, 12), abs=1e-4)
    assert reader.read(question, MIXED[::-1]) == pytest.approx(alone[::-1], abs=1e-4)
    assert len({round(float(value), 2) for value in alone}) > 4  # they do differ
    assert reader.read(question, []).shape == (0,)


def test_a_reading_does_not_depend_on_the_other_questions(reader: StepReader) -> None:
    """Shorter ones are padded, those with fewer numbers too."""
    import torch

    questions = [asked("+", 3, 4), "How many?", asked("*", 5, 6) + " Ann has 7 pens and 8 boxes."]
    with torch.inference_mode():
        states, numbers = encode_questions(reader.encoder, reader.tokenizer, questions)
        graphs = [(row, answer_graph(numbers[row], text)) for text in MIXED for row in range(3)]
        together = readings(reader.network, states, graphs, states.places.shape[1])
    assert [len(one) for one in numbers] == [2, 0, 4]
    for row, question in enumerate(questions):
        assert together[row::3] == pytest.approx(reader.read(question, MIXED), abs=1e-4)


def test_readings_are_the_same_again_and_from_many_threads(
    trained: Trained, reader: StepReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "KNOWN", 2)
    questions = [asked(SIGNS[n % 2], n + 3, n + 9) for n in range(6)]
    afresh = StepReader.load(trained[0])
    wanted = [reader.read(question, MIXED) for question in questions]
    found: dict[int, list[Any]] = {n: [] for n in range(6)}

    def read(start: int) -> None:
        for n in range(start, start + 12):
            found[n % 6].append(afresh.read(questions[n % 6], MIXED))

    threads = [threading.Thread(target=read, args=(start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(found[n]) == 12 for n in found)
    assert all((one == wanted[n]).all() for n in found for one in found[n])
    assert len(afresh.known) == len(reader.known) == 2


def test_a_question_is_encoded_once(reader: StepReader, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def spied(encoder: Any, tokenizer: Any, questions: Sequence[str]) -> Any:
        seen.extend(questions)
        return encode_questions(encoder, tokenizer, questions)

    monkeypatch.setattr(reading, "encode_questions", spied)
    monkeypatch.setattr(reading, "KNOWN", 2)
    for question in "a? b? a? c? a? b?".split():
        reader.read(question, ["1 + 1 = 2"])
    assert seen == ["a?", "b?", "c?", "b?"]  # the one that was used last stays


def test_an_answer_is_read_once(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def spied(numbers: Any, answer: str) -> Any:
        drawn.append(answer)
        return answer_graph(numbers, answer)

    monkeypatch.setattr(reading, "answer_graph", spied)
    monkeypatch.setattr(reading, "MOST_READ", 3)
    afresh, question = StepReader.load(trained[0]), asked("+", 3, 4)
    one, other = "3 + 4 = 7", "3 * 4 = 12"
    both = afresh.read(question, [one, other, one])
    assert drawn == [one, other] and both[0] == both[2] != both[1]
    assert (afresh.read(question, [other, one]) == both[[1, 0]]).all() and len(drawn) == 2
    afresh.read(asked("*", 3, 4), [one])
    assert len(drawn) == 3  # another question
    afresh.read(question, ["3 + 5 = 8", "3 + 6 = 9"])
    afresh.read(question, [one])
    assert len(drawn) == 6  # too many to remember: it begins again


def test_merged_weights_are_the_trained_ones(trained: Trained, base: str) -> None:
    import torch
    from peft import PeftModel

    plain, tokenizer = open_encoder(Path(base))
    merged, _ = open_encoder(Path(base))
    merge_lora(merged, trained[0])
    with torch.no_grad():
        untrained, _ = encode_questions(plain.eval(), tokenizer, [asked("+", 3, 4)])
        with quiet():
            wrapped = PeftModel.from_pretrained(plain, str(trained[0])).eval()
        wanted, _ = encode_questions(wrapped, tokenizer, [asked("+", 3, 4)])
        found, _ = encode_questions(merged.eval(), tokenizer, [asked("+", 3, 4)])
    assert torch.allclose(found.states, wanted.states, atol=1e-4)
    assert float((found.states - untrained.states).abs().max()) > 0.1


def test_half_precision_moves_a_reading_little(reader: StepReader, tmp_path: Path) -> None:
    import torch

    from artrag.models.step_network import StepNetwork

    torch.manual_seed(3)
    network = StepNetwork(16).eval()
    step_reader._save_network(network, tmp_path)
    again = step_reader._network(16, tmp_path).eval()
    assert all(tensor.dtype is torch.float32 for tensor in again.state_dict().values())
    full, half = (
        replace(reader, network=one, known=OrderedDict()).read(asked("+", 3, 4), MIXED) for one in (network, again)
    )
    assert 0 < abs(full - half).max() < 0.01 < np.ptp(full)
    assert (tmp_path / NETWORK).stat().st_size < 2.1 * sum(p.numel() for p in network.parameters()) + 8000


QUESTIONS = {
    "empty": "",
    "blank": " \n\t",
    "no number": "How many?",
    "a number without end": "9" * 400 + " pens",
    "many numbers": "7 " * 500,
    "longer than the window": "pens and boxes " * 3_000 + "7 pens",
    "half a character": "Ann has 3\ud800 pens and \udfff 4 boxes",
    "control characters": "Ann\0 has\x07 3\u202e pens\u2028 4",
    "other scripts": "安有3支笔 у Боба ٤ 🖊️🖊️ 5",
    "special tokens": "[CLS] 3 [SEP] [PAD] [PAD] [UNK] 4 [SEP]",
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_any_question_and_answer_is_read(question: str, reader: StepReader) -> None:
    answers = [*MIXED, "word " * 10_000 + "3 + 4 = 7", "(" * 9_000 + "3 + 4 = 7", "3\ud800 + 4 = 7\0", "۳ + ٤ = ٧"]
    answers += ["9" * 320 + " + 1 = 2", "1 / 0 = 5. Final answer: " + "9" * 400, "３ ＋ ４ ＝ ７", "3 + 4 = 7 " * 200]
    found = reader.read(QUESTIONS[question], answers)
    assert found.shape == (len(answers),) and found.dtype == np.float32 and np.isfinite(found).all()


def test_hostile_answers_are_read(reader: StepReader) -> None:
    found = reader.read(asked("+", 3, 4), list(HOSTILE.values()))
    assert np.isfinite(found).all()


# --- tokens of numbers, batches of graphs, and the network over them


def test_a_number_points_to_its_token(reader: StepReader) -> None:
    questions = ["Ann has 12 pens and 7 boxes.", "🖊️ 1,200 half", "pens " * 250 + "7", "", "3\ud800 4"]
    batch, places, numbers = question_batch(reader.tokenizer, questions)
    assert [len(one) for one in numbers] == [2, 2, 1, 0, 2]
    assert places[0].tolist() == [3, 6]  # after [CLS] Ann has
    assert places[2].tolist() == [0, 0]  # behind the window: [CLS] speaks for it
    assert batch["input_ids"].shape == (5, WINDOW) and int(batch["attention_mask"][0].sum()) == 10
    alone = question_batch(reader.tokenizer, questions[1:2])[1]
    assert places[1].tolist() == alone[0].tolist() and places[1, 0] < places[1, 1]
    assert question_batch(reader.tokenizer, [""])[1].tolist() == [[0]]
    assert places[4].tolist()[0] == 1 < places[4].tolist()[1]


def test_graphs_of_any_size_make_one_batch() -> None:
    from artrag.models.step_network import stack_graphs

    numbers = quantities("7 pens, 7 boxes, 3 bags, half")
    graphs = [(n, answer_graph(numbers, text)) for n, text in enumerate(MIXED)]
    batch = stack_graphs(graphs, 6)
    widest = max(len(nodes) for _, nodes in graphs)
    assert batch.shares.shape == (7, widest, 2, 6) and batch.sizes.shape[:2] == batch.kinds.shape == (7, widest)
    assert batch.question.tolist() == list(range(7)) and batch.calculations == 18
    for row, (_, nodes) in enumerate(graphs):
        length = len(nodes)
        assert batch.padding[row].tolist() == [False] * length + [True] * (widest - length)
        assert batch.final[row] == length - 1 and batch.kinds[row, length - 1] == 6
        assert batch.steps[row].tolist() == [node.step for node in nodes] + [-1] * (widest - length)
        for place, node in enumerate(nodes):
            for side, operand in enumerate((node.left, node.right)):
                share = batch.shares[row, place, side]
                assert set(share.nonzero()[:, 0].tolist()) == set(operand.quantities)
                assert float(share.sum()) == pytest.approx(float(bool(operand.quantities)))
                found = [values[row, place, side] for values in (batch.results, batch.constants, batch.forms)]
                assert found == [operand.result, operand.constant, operand.form]
    bare = stack_graphs([(0, answer_graph([], ""))], 0)
    assert bare.shares.shape == (1, 1, 2, 1) and bare.calculations == 1 and not bare.shares.any()


def step_scores(reader: StepReader, question: str, answer: str) -> Any:
    """Scores of nodes before they look at one another."""
    import torch

    from artrag.models.step_network import StepNetwork, stack_graphs

    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(5)
        network = StepNetwork(16, 32, 0).eval()
        states, (numbers,) = encode_questions(reader.encoder, reader.tokenizer, [question])
        nodes = answer_graph(numbers, answer)
        return network(states, stack_graphs([(0, nodes)], max(1, len(numbers))))[1][0]


def test_a_step_is_made_of_what_it_builds_on(reader: StepReader) -> None:
    question = "Ann has 3 boxes with 4 pens each and 5 pens"
    first = step_scores(reader, question, "3 * 4 = 12. 12 + 5 = 17")
    later = step_scores(reader, question, "3 * 4 = 12. 12 - 5 = 7. 7 * 2 = 14")
    assert first[0] == pytest.approx(float(later[0]), abs=1e-6)  # no step sees a later one
    assert abs(first[1] - later[1]) > 1e-3
    # The same second step over the same number, of another first step: what made the number counts.
    other = step_scores(reader, question, "3 + 9 = 12. 12 + 5 = 17")
    assert abs(first[1] - other[1]) > 1e-3 and abs(first[-1] - other[-1]) > 1e-3
    # Left and right, and which number of the question it is, count.
    for text in ("4 / 3 = 1.333", "5 / 3 = 1.667"):
        assert abs(step_scores(reader, question, "3 / 4 = 0.75")[0] - step_scores(reader, question, text)[0]) > 1e-4


def test_a_reading_is_that_of_its_own_graph() -> None:
    def network(questions: Any, batch: Any) -> Any:
        """An answer scores as the number of its nodes."""
        return (batch.final + 1).float() * 100, None

    numbers = quantities("3 and 4 and 77")
    answers = ["3 + 4 = 7. 7 * 4 = 28. 28 - 3 = 25", "", "3 + 4 = 7"]
    graphs = [(0, answer_graph(numbers, text)) for text in answers]
    assert [len(nodes) for _, nodes in graphs] == [5, 4, 3]
    assert readings(network, None, graphs, 3).tolist() == [500, 400, 300]  # type: ignore[arg-type]
    assert readings(network, None, [], 3).shape == (0,)  # type: ignore[arg-type]


def test_both_losses_count_right_and_wrong_alike() -> None:
    import torch

    scores, labels = torch.tensor([2.0, -1.0, 0.5, 3.0, 1.0]), [1.0, 0.0, 0.0, 0.0, 1.0]
    questions = torch.tensor([0, 0, 0, 1, 1])
    rights = torch.nn.functional.softplus(-scores[[0, 4]]) * 1.5  # three wrong ones to two right ones
    wrongs = torch.nn.functional.softplus(scores[[1, 2, 3]])
    entropy = torch.cat([rights, wrongs]).mean()
    pairs = -torch.nn.functional.logsigmoid(torch.tensor([3.0, 1.5, -2.0])).mean()
    assert step_losses.ranked(scores, labels, questions).item() == pytest.approx(float(entropy + pairs))
    alone = step_losses.ranked(scores[:2], [1.0, 1.0], questions[:2])
    assert math.isfinite(alone.item()) and alone.item() >= 0
    only = step_losses.ranked(scores[1:3], [0.0, 0.0], questions[1:3])
    assert only.item() == pytest.approx(float(wrongs[:2].mean()))


def test_right_and_spoilt_forms_are_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = (Calculation((3.0, 4.0), ("*",), 12.0), Calculation((12.0, 5.0), ("+",), 17.0))
    problem = Problem("3, 4 and 5", Solution(steps, 17.0, 2))
    monkeypatch.setattr(step_losses, "RIGHT", 3)
    monkeypatch.setattr(step_losses, "WRONG", 8)
    monkeypatch.setattr(step_losses, "TRIES", 16)
    made = step_losses.forms(problem, random.Random(0))
    assert made[0] == (problem.solution, True) and [right for _, right in made[:4]] == [True] * 3 + [False]
    assert all(near(form.final, 17) is right for form, right in made) and 5 < len(made) <= 11
    monkeypatch.setattr(step_losses, "WRONG", 2)
    assert len(step_losses.forms(problem, random.Random(0))) == 5


def test_folds_go_by_the_words() -> None:
    folds = [fold_of(f"question {n}?") for n in range(200)]
    assert set(folds) == set(range(FOLDS)) and fold_of("Question 7") == fold_of(" question  7 ?") == folds[7]
    assert 0 <= fold_of("\ud800") < FOLDS


# --- runs: small ones, killed, resumed, refused

QUICK = {"on_solutions": replace(ON_SOLUTIONS, epochs=3), "on_answers": replace(ON_ANSWERS, epochs=3, batch=4)}
FEW = of_pairs(recorded, 300, 16)


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return json_lines(tmp_path_factory.mktemp("problems") / "few.jsonl", of_pairs(marked, 0, 24))


Train = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def train(problems: Path, base: str) -> Train:
    def go(out: Path, **changes: Any) -> dict[str, Any]:
        given = {"solutions": [problems], "train": FEW, "dev": DEV, "base": base} | QUICK | changes
        return train_reader(out=out, **given)

    return go


@pytest.fixture(scope="module")
def whole(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder)


def killer(at: str, share: float) -> Callable[[str, float], None]:
    def kill(what: str, done: float) -> None:
        if what == at and done >= share:
            raise KeyboardInterrupt

    return kill


@pytest.mark.parametrize(
    ("at", "share", "told"),
    [
        ("reading solutions", 0.5, ["reading solutions"] * 6),  # of 9 steps, from the last of 3 evaluations
        ("drawing graphs", 0.0, []),
        ("reading answers, fold 3", 0.5, ["reading answers, fold 3"]),
        ("reading answers", 0.5, ["reading answers"]),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    at: str, share: float, told: list[str], whole: Trained, train: Train, tmp_path: Path
) -> None:
    import torch

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=killer(at, share))
    assert not (tmp_path / MANIFEST).exists()
    with pytest.raises(PartError, match="no trained reader"):
        StepReader.load(tmp_path)
    for log in (tmp_path / "work").rglob(LOSSES):
        with log.open("a") as lines:
            lines.write('{"step": 7, "lo')  # the kill came in the middle of a line
    whats: list[str] = []
    with torch.random.fork_rng():
        torch.manual_seed(99)  # another process draws otherwise
        resumed = train(tmp_path, progress=lambda what, _share: whats.append(what))
    assert [what for what in whats if what == at or what == "reading solutions"][: len(told)] == told
    assert whats.count("reading solutions") == (6 if at == "reading solutions" else 0)
    for name in (ADAPTER, NETWORK, KEPT):
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()
    same = ("auc", "within_question_auc", "losses", "rows")
    assert {name: resumed[name] for name in same} == {name: whole[1][name] for name in same}
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("at", ["reading solutions", "reading answers, fold 2"])
def test_a_checkpoint_of_another_run_is_refused(
    at: str, whole: Trained, train: Train, base: str, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=killer(at, 0.5))
    turned = [replace(row, candidates=tuple(replace(a, correct=not a.correct) for a in row.candidates)) for row in FEW]
    other = json_lines(tmp_path / "other.jsonl", of_pairs(marked, 1, 24))
    again = make_base(tmp_path / "again", 2)
    for change in (
        {"train": turned},
        {"dev": DEV[:-1]},
        {"solutions": [other]},
        {"base": again},
        {"on_solutions": replace(QUICK["on_solutions"], seed=2)},
        {"on_answers": replace(QUICK["on_answers"], rate=0.5)},
    ):
        with pytest.raises(TrainingDataError, match=r"other rows, settings or base model: delete it"):
            train(tmp_path, **change)
    train(tmp_path)
    assert (tmp_path / NETWORK).read_bytes() == (whole[0] / NETWORK).read_bytes()


def test_the_two_parts_refuse_checkpoints_of_their_own(train: Train, tmp_path: Path) -> None:
    """A folder that only looks like the run's: the mark of the run was carried over, the checkpoint was not its own."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, progress=killer("reading answers, fold 2", 0.5))
    work = tmp_path / "work"
    shutil.copyfile(work / "answers-0" / CHECKPOINT, work / "answers-1" / CHECKPOINT)
    with pytest.raises(TrainingDataError, match=r"answers-1.*other rows or settings"):
        train(tmp_path)


def test_readings_are_kept_of_folds_that_a_network_never_saw(
    train: Train, whole: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []
    read: list[str] = []
    starts: list[bytes] = []
    fit, take = step_reader._fit, step_reader._read

    def fitted(network: Any, answered: Sequence[Any], *rest: Any) -> Any:
        seen.append({text for one in answered for text in one.texts})
        starts.append(b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values()))
        return fit(network, answered, *rest)

    def taken(network: Any, one: Any) -> Any:
        assert not seen[-1] & set(one.texts)
        read.extend(one.texts)
        return take(network, one)

    monkeypatch.setattr(step_reader, "_fit", fitted)
    monkeypatch.setattr(step_reader, "_read", taken)
    train(tmp_path)
    texts = {answer.text for row in FEW for answer in row.candidates}
    assert sorted(read) == sorted(texts) and len(seen) == FOLDS + 1 and seen[-1] == texts
    assert len(set(starts)) == 1  # of what other folds taught, nothing is left
    assert (tmp_path / KEPT).read_bytes() == (whole[0] / KEPT).read_bytes()
    questions = [row.question for row in FEW]
    assert [len(texts - group) for group in seen[:-1]] == [
        2 * sum(fold_of(q) == n for q in questions) for n in range(5)
    ]


def test_solutions_of_recorded_questions_are_left_out(train: Train, base: str, tmp_path: Path) -> None:
    shared = [*of_pairs(marked, 300, 3), *of_pairs(marked, 400, 2)]
    shared[0]["question"] = shared[0]["question"].upper().rstrip("?")
    path = json_lines(tmp_path / "shared.jsonl", shared)
    with pytest.raises(TrainingDataError, match=r"no solution is left .*outside train and dev"):
        train(tmp_path / "none", solutions=[path])
    with pytest.raises(TrainingDataError, match="no solution is left"):
        train(tmp_path / "none", solutions=[])
    assert not (tmp_path / "none").exists()
    figures = train(tmp_path / "out", solutions=[json_lines(path, [*shared, *of_pairs(marked, 0, 7)])])
    assert figures["rows"]["solutions"] == 7


def test_data_that_teaches_nothing_is_refused(train: Train, tmp_path: Path) -> None:
    right = [replace(row, candidates=row.candidates[:1]) for row in FEW]
    blank = [replace(row, candidates=(row.candidates[0], RecordedAnswer("sample", " ", correct=False))) for row in FEW]
    unknown = [replace(row, candidates=tuple(replace(a, correct=None) for a in row.candidates)) for row in FEW]
    grounded = [replace(row, passages=()) for row in FEW]
    for rows in (right, blank, unknown, grounded, []):
        with pytest.raises(TrainingDataError, match="both a right and a wrong answer"):
            train(tmp_path / "out", train=rows)
        with pytest.raises(TrainingDataError, match="both a right and a wrong answer"):
            train(tmp_path / "out", dev=[replace(row, id=f"d{row.id}", question=f"d {row.question}") for row in rows])
    with pytest.raises(TrainingDataError, match="both train and dev"):
        train(tmp_path / "out", dev=FEW[:2])
    assert not (tmp_path / "out").exists()


def altered(folder: Path, copy: Path, **changes: Any) -> Path:
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    manifest = json.loads((copy / MANIFEST).read_text("utf-8"))
    manifest |= {name: manifest[name] | value if isinstance(value, dict) else value for name, value in changes.items()}
    (copy / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    return copy


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "asker"}, "holds the trained part 'asker'"),
        ({"options": {"graph": 0}}, r"version 0 of the graph, this artrag has \d+: train it again"),
        ({"options": {"graph": None}}, "version None of the graph"),
        ({"options": {"size": 64}}, "do not fit"),
        ({"options": {"size": "32"}}, "do not fit"),
        ({"options": {"layers": 1}}, "do not fit"),
        ({"base_sha256": "0" * 64}, "name the right base model"),
        ({"files": {NETWORK: "0" * 64}}, "is not what part.json was written for"),
        ({"files": {"more.safetensors": "0" * 64}}, "'more.safetensors' is missing"),
        ({"format": 99}, "has format 99"),
    ],
)
def test_readers_that_do_not_belong_are_refused(
    changes: dict[str, Any], told: str, whole: Trained, tmp_path: Path
) -> None:
    with pytest.raises(PartError, match=told):
        StepReader.load(altered(whole[0], tmp_path, **changes))


@pytest.mark.parametrize("name", [ADAPTER, CONFIG, NETWORK])
def test_damaged_files_are_refused(name: str, whole: Trained, tmp_path: Path) -> None:
    copy = altered(whole[0], tmp_path)
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    with pytest.raises(PartError, match="is not what part.json was written for"):
        StepReader.load(copy)
    (copy / name).unlink()
    with pytest.raises(PartError, match="is missing"):
        StepReader.load(copy)


def test_another_base_model_is_refused(whole: Trained, tmp_path: Path) -> None:
    other = make_base(tmp_path / "other", 2)
    with pytest.raises(PartError, match="name the right base model"):
        StepReader.load(altered(whole[0], tmp_path / "copy", base=other))
    wide = make_base(tmp_path / "wide", 1, hidden_size=32)
    known = sha256(Path(wide) / "model.safetensors")
    with pytest.raises(PartError, match=r"do not fit .*is for a matrix"):
        StepReader.load(altered(whole[0], tmp_path / "copy", base=wide, base_sha256=known))
