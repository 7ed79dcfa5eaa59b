"""Encoder Asker and Truster on tiny random weights: what is learned, resumed, kept whole, and refused."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import passage, tiny_matrices, tiny_tokenizer

from artrag.errors import ModelUnavailableError, PartError, TrainingDataError
from artrag.evaluation.predictions import Prediction, RecordedAnswer, Stage
from artrag.models import EvidenceAsker, EvidenceTruster, encoder_model, load_asker, load_truster
from artrag.models.encoder import EncoderAsker, EncoderTruster
from artrag.models.encoder_model import HEAD, EncoderModel, encoded, open_encoder, stacked, verdicts
from artrag.models.parts import MANIFEST, Part, probability, read_part
from artrag.models.trained import EMPTY
from artrag.models.weights import ADAPTER, CONFIG, quiet
from artrag.protocols import Asker, Truster
from artrag.training import encoder, loop, lora_batches
from artrag.training.encoder import train_encoder_asker, train_encoder_truster
from artrag.training.encoder_data import (
    answers_seen,
    asker_couples,
    drawn,
    faced,
    measured,
    truster_couples,
)
from artrag.training.loop import CHECKPOINT, LOSSES, Plan

TRAINERS = {"asker": train_encoder_asker, "truster": train_encoder_truster}


@pytest.fixture(scope="module", autouse=True)
def _tiny_matrices() -> Iterator[None]:
    """They are fastest on one core and in float32, whatever this machine has; and they learn at a higher rate."""
    with tiny_matrices(encoder, encoder_model) as patch:
        patch.setattr(encoder, "_HOW", encoder._HOW | {"rate": 1e-2, "batch": 4, "evaluations": 1, "window": 160})
        yield


def make_base(folder: Path, seed: int, **config: Any) -> str:
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    options = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "hidden_dropout_prob": 0.05,
        "pad_token_id": 2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(BertConfig(**options | config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("base"), 0)


def said(text: str, right: bool | None, stage: Stage = "sample", source: str = "") -> RecordedAnswer:
    return RecordedAnswer(stage, text, correct=right, source=source)


def question(n: int, *extra: RecordedAnswer) -> Prediction:
    """The draft of every second one is wrong, and then its refinement is right."""
    right, wrong = f"{n} + 3 = {n + 3}", f"{n} + 3 = {n + 4}"
    draft, later = (right, wrong) if n % 2 else (wrong, right)
    answers = said(draft, draft is right, "initial"), said(later, later is right, "refined")
    return Prediction(f"q{n}", f"What is {n} + 3?", (*answers, *extra))


TRAIN, DEV = [question(n) for n in range(24)], [question(n) for n in range(30, 38)]


def losses(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / LOSSES).read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


Folder = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def folders(base: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Folder]:
    made = {}
    for kind, train in TRAINERS.items():
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = folder, train(TRAIN, DEV, folder, base=base, epochs=10)
    return made


@pytest.fixture(scope="module")
def asker(folders: dict[str, Folder]) -> EncoderAsker:
    return EncoderAsker.load(folders["asker"][0])


@pytest.fixture(scope="module")
def truster(folders: dict[str, Folder]) -> EncoderTruster:
    return EncoderTruster.load(folders["truster"][0])


@pytest.mark.parametrize("kind", ["asker", "truster"])
def test_it_learns_what_the_calculator_says(kind: str, folders: dict[str, Folder]) -> None:
    folder, figures = folders[kind]
    curve = [line["loss"] for line in losses(folder) if "loss" in line]
    assert sum(curve[-6:]) / 6 < curve[0] / 3 and figures["losses"]["dev"] < curve[0] / 3
    # A question has one draft: there is no pair of them.
    assert figures["auc"]["value"] == 1 and figures["within_question_auc"]["value"] == (
        1 if kind == "truster" else None
    )


def test_new_questions_are_judged_rightly(asker: EncoderAsker, truster: EncoderTruster) -> None:
    assert isinstance(asker, Asker) and isinstance(truster, Truster)
    doubt, trust = asker.ask("What is 51 + 3?", "51 + 3 = 55"), asker.ask("What is 51 + 3?", "51 + 3 = 54")
    assert doubt.refine_probability > 0.7 > 0.3 > trust.refine_probability
    assert "51 + 3 = 55 is wrong, it is 54" in doubt.reason
    assert doubt.subquestions == EvidenceAsker().ask("What is 51 + 3?", "51 + 3 = 55").subquestions
    scores = truster.score("What is 51 + 3?", ["51 + 3 = 55", "51 + 3 = 54", " "])
    assert scores[1] > scores[0] > scores[2] == EMPTY
    assert truster.confidence("What is 51 + 3?", "51 + 3 = 54") > truster.confidence("What is 51 + 3?", "51 + 3 = 55")


@pytest.mark.parametrize("kind", ["asker", "truster"])
def test_a_trained_part_is_small_and_says_where_it_comes_from(kind: str, folders: dict[str, Folder], base: str) -> None:
    folder, figures = folders[kind]
    part = read_part(folder, kind)  # type: ignore[arg-type]
    assert (part.variant, part.base) == ("encoder", base) and sorted(part.files) == sorted([ADAPTER, CONFIG, HEAD])
    assert part.data == [{"source": "", "answers": 48}] and part.figures["auc"] == figures["auc"]
    assert (part.options["worked"], part.options["grounded"], part.options["calculates"]) == (48, 0, 1.0)
    assert sorted(path.name for path in folder.iterdir()) == sorted([ADAPTER, CONFIG, HEAD, MANIFEST, LOSSES])
    assert json.loads((folder / CONFIG).read_text("utf-8"))["base_model_name_or_path"] == base
    assert figures["rows"]["in"] == 24 and figures["rows"]["measured"] == (8 if kind == "asker" else 16)
    assert figures["seconds"]["training"] > 0 and figures["peak_memory_mb"] > 50 and figures["tokens"] > 0
    json.dumps(figures, allow_nan=False)


def test_thresholds_are_chosen_on_replays(
    folders: dict[str, Folder], asker: EncoderAsker, truster: EncoderTruster
) -> None:
    """Refined answers are right where drafts are wrong, and wrong where they are right: parts that know it gain all."""
    asked, trusted = (read_part(folders[kind][0], kind).thresholds for kind in ("asker", "truster"))  # type: ignore[arg-type]
    assert set(asked) == {"refine_above"} and set(trusted) == {"trust_margin", "abstain_below"}
    for row in DEV:
        draft, later = row.candidates
        doubt = asker.ask(row.question, draft.text).refine_probability
        assert (doubt >= asked["refine_above"]) is not draft.correct
        scores = truster.score(row.question, [draft.text, later.text])
        assert (scores[1] > scores[0] + trusted["trust_margin"]) is later.correct
    assert asker.limits() == asked and truster.limits() == trusted
    assert folders["asker"][1]["thresholds"] == asked


def test_an_asker_refines_nothing_that_gets_worse(base: str, tmp_path: Path) -> None:
    """Alone, it takes the refined answer's label for the Truster's choice."""
    worse = [replace(row, candidates=(row.candidates[0], said("no", False, "refined"))) for row in DEV]
    found = train_encoder_asker(TRAIN, worse, tmp_path, base=base)
    asker = EncoderAsker.load(tmp_path)
    doubts = [asker.ask(row.question, row.candidates[0].text).refine_probability for row in worse]
    assert max(doubts) < found["thresholds"]["refine_above"]


def test_no_thresholds_without_replays(base: str, tmp_path: Path) -> None:
    alone = [replace(row, candidates=tuple(replace(a, stage="sample") for a in row.candidates)) for row in DEV]
    assert train_encoder_truster(TRAIN[:4], alone, tmp_path, base=base)["thresholds"] == {}
    assert EncoderTruster.load(tmp_path).limits() == {}


def test_a_score_does_not_depend_on_the_other_answers(truster: EncoderTruster, folders: dict[str, Folder]) -> None:
    texts = ["1 + 3 = 4", "1 + 3 = 5. " * 9, "I don't know", "1 + 3 = 4"]
    together = truster.score("What is 1 + 3?", texts)
    afresh = EncoderTruster.load(folders["truster"][0])
    assert [afresh.score("What is 1 + 3?", [text])[0] for text in texts] == together
    assert EncoderTruster.load(folders["truster"][0]).score("What is 1 + 3?", texts[::-1]) == together[::-1]
    assert truster.score("q", []) == [] and together[0] == together[3]
    confidence = truster.confidence("What is 1 + 3?", texts[0])
    assert confidence == pytest.approx(probability(truster.part.calibration, together[0]))


def test_a_score_is_taken_once(truster: EncoderTruster, monkeypatch: pytest.MonkeyPatch) -> None:
    first = truster.score("What is 70 + 3?", ["70 + 3 = 73"])
    monkeypatch.setattr(encoder_model, "scored", lambda *_: pytest.fail("it was known"))
    assert truster.score("What is 70 + 3?", ["70 + 3 = 73"]) == first
    monkeypatch.setattr(encoder_model, "MOST_KNOWN", 0)
    truster._model.scores([("What is 70 + 3?", "70 + 3 = 73", None)])
    assert len(truster._model.known) == 1


def test_merged_weights_score_as_the_trained_ones(base: str, tmp_path: Path) -> None:
    """The saved adapter, merged without peft, is the model that was trained: up to half precision."""
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file

    train_encoder_truster(TRAIN, DEV, tmp_path, base=base, epochs=3)
    plain, tokenizer = open_encoder(Path(base))
    with quiet():
        wrapped = PeftModel.from_pretrained(plain, str(tmp_path)).eval()
    head = load_file(tmp_path / HEAD)
    items = [(row.question, answer.text, None) for row in DEV for answer in row.candidates]
    rows = [encoded(tokenizer, 160, item)[0] for item in items]
    with torch.no_grad():
        wanted = encoder_model.scored(wrapped, head["weight"], head["bias"], stacked(tokenizer, rows, "cpu"))
        untrained = encoder_model.scored(
            open_encoder(Path(base))[0].eval(), head["weight"], head["bias"], stacked(tokenizer, rows, "cpu")
        )
    found = EncoderModel.load(Path(base), tmp_path, window=160).scores(items)
    assert found == pytest.approx(wanted.tolist(), abs=1e-4)
    assert abs(wanted - untrained).max() > 0.1


def test_half_precision_changes_little(
    folders: dict[str, Folder], truster: EncoderTruster, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    for module in (lora_batches, encoder_model):
        monkeypatch.setattr(module, "place", lambda: ("cpu", torch.bfloat16))
    half = EncoderTruster.load(folders["truster"][0])
    assert half._model.half and half._model.encoder.encoder.layer[0].output.dense.weight.dtype is torch.bfloat16
    texts = ["1 + 3 = 4", "1 + 3 = 5"]
    full = truster.score("What is 1 + 3?", texts)
    assert half.score("What is 1 + 3?", texts) == pytest.approx(full, abs=0.05 * abs(full[0] - full[1]))


@pytest.mark.parametrize("kind", ["asker", "truster"])
@pytest.mark.parametrize("killed_at", [8, 20])
def test_a_killed_run_goes_on_as_if_nothing_had_been(kind: str, killed_at: int, base: str, tmp_path: Path) -> None:
    def train(name: str, progress: Any = None) -> dict[str, Any]:
        return TRAINERS[kind](TRAIN, DEV, tmp_path / name, base=base, epochs=4, progress=progress)

    def kill(what: str, share: float) -> None:
        if what.startswith("training") and share >= killed_at / 24:
            raise KeyboardInterrupt

    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("killed", kill)
    assert not (tmp_path / "killed" / ADAPTER).exists() and (tmp_path / "killed" / CHECKPOINT).exists()
    with (tmp_path / "killed" / LOSSES).open("a") as log:
        log.write('{"step": 7, "lo')  # the kill came in the middle of a line
    shares: list[float] = []
    resumed = train("killed", lambda what, share: shares.append(share) if what.startswith("training") else None)
    assert len(shares) == 24 - 6 * (killed_at // 6)  # from the last checkpoint, not from the start
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    for name in (ADAPTER, HEAD):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {n: resumed[n] for n in ("auc", "tokens", "steps")} == {n: whole[n] for n in ("auc", "tokens", "steps")}


def test_a_checkpoint_of_the_other_kind_is_refused(base: str, tmp_path: Path) -> None:
    def kill(what: str, share: float) -> None:
        if what.startswith("training") and share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_encoder_asker(TRAIN, DEV, tmp_path, base=base, epochs=4, progress=kill)
    with pytest.raises(TrainingDataError, match=r"checkpoint\.pt.*other rows or settings: delete it"):
        train_encoder_truster(TRAIN, DEV, tmp_path, base=base, epochs=4)
    for rows, held, seed in ((TRAIN[:-1], DEV, 0), (TRAIN, DEV[:-1], 0), (TRAIN, DEV, 1)):
        with pytest.raises(TrainingDataError, match="other rows or settings"):
            train_encoder_asker(rows, held, tmp_path, base=base, epochs=4, seed=seed)


def test_it_stops_early_and_keeps_the_best(base: str, tmp_path: Path) -> None:
    """Dev contradicts train: every step makes it worse."""
    turned = [replace(row, candidates=tuple(replace(a, correct=not a.correct) for a in row.candidates)) for row in DEV]
    figures = train_encoder_truster(TRAIN, turned, tmp_path, base=base, epochs=30)
    dev = [line["dev_loss"] for line in losses(tmp_path) if "dev_loss" in line]
    assert figures["stopped"] == "early" and figures["steps"] < 180
    assert figures["losses"]["dev"] == pytest.approx(min(dev), abs=1e-5) and dev[-1] > min(dev)


@pytest.mark.parametrize("kind", ["asker", "truster"])
def test_data_that_teaches_nothing_is_refused(kind: str, base: str, tmp_path: Path) -> None:
    right = [Prediction("r", "Only right?", (said("a 1", True), said("b", True), said("c", None)))]
    wrong = [Prediction("w", "Only wrong?", (said("a 1", False), said("  ", True)))]
    for one_sided in (right, wrong):
        with pytest.raises(TrainingDataError, match=r"no wrong answer|no right answer|no question has both"):
            TRAINERS[kind](one_sided, DEV, tmp_path, base=base)
        with pytest.raises(TrainingDataError, match=r"no wrong answer|no right answer|no question has both"):
            TRAINERS[kind](TRAIN, one_sided, tmp_path, base=base)
    with pytest.raises(TrainingDataError, match="both train and dev: 'q30'"):
        TRAINERS[kind]([*TRAIN, DEV[0]], DEV, tmp_path, base=base)
    assert not list(tmp_path.iterdir())


def test_drafts_of_one_class_are_refused_before_training(base: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="4 answers of dev that the asker is measured on are all right or all"):
        train_encoder_asker(TRAIN, DEV[::2], tmp_path, base=base)
    assert not list(tmp_path.iterdir())


def test_couples_of_a_truster_are_of_one_question_and_capped() -> None:
    many = question(1, *(said(f"wrong {n}", False) for n in range(9)), *(said(f"right {n}", True) for n in range(9)))
    same = Prediction("s", "Same?", (said("one  text", True), said("one text", True), said("bad", False)))
    couples = truster_couples([many, same, question(2)], most=5)
    assert len(couples) == 5 + 1 + 1 and len({(right[1], wrong[1]) for right, wrong in couples}) == 7
    assert all(right[0] == wrong[0] for right, wrong in couples)
    assert all("wrong" not in right[1] and "right" not in wrong[1] for right, wrong in couples)
    assert truster_couples([many], seed=1) == truster_couples([many], seed=1) != truster_couples([many], seed=2)


def test_rows_of_one_question_are_one_group() -> None:
    right, wrong = (Prediction(str(n), text, (said(f"{n}", n == 1),)) for n, text in ((1, "Who?"), (2, " who ?")))
    assert truster_couples([right, wrong]) == [(("Who?", "1", None), (" who ?", "2", None))]


def test_couples_of_one_model_come_first() -> None:
    answers = [
        said(f"{source} {right} {n}", right, source=source)
        for source in "ab"
        for right in (True, False)
        for n in range(2)
    ]
    couples = truster_couples([Prediction("q", "Q?", tuple(answers))], most=8)
    assert len(couples) == 8 and all(right[1][0] == wrong[1][0] for right, wrong in couples)
    assert len(truster_couples([Prediction("q", "Q?", (answers[0], answers[6]))])) == 1  # better two models than none


def test_couples_of_an_asker_are_balanced_and_capped() -> None:
    many = question(1, *(said(f"wrong {n}", False) for n in range(20)))
    couples = asker_couples([many, question(2), question(3)], most=4)
    wrongs = [wrong[1] for _, wrong in couples]
    assert (
        sum("wrong" in text for text in set(wrongs)) >= 2
        and len({w for w in wrongs if w.startswith(("wrong", "1"))}) <= 4
    )
    assert len(set(wrongs)) == len(wrongs)  # the commoner class comes once, the rarer one again and again
    rare = Prediction("r", "Rare?", (said("good", True), *(said(f"bad {n}", False) for n in range(40))))
    assert [right[1] for right, _ in asker_couples([rare], most=99)] == ["good"] * 3
    assert drawn(couples, 2, 0) == drawn(couples, 2, 0) and len(drawn(couples, 2, 0)) == 2


def test_an_asker_is_measured_on_drafts_and_a_truster_on_all() -> None:
    more = Prediction("s", "Only samples?", (said("a", True), said("", False)))
    assert [len(faced(kind, [question(1), more])) for kind in ("asker", "truster")] == [1, 3]  # type: ignore[arg-type]
    assert len(faced("asker", [more])) == 1
    rows = measured("truster", [*DEV, more], 5, 0)
    assert len(rows) == 3
    assert {row.id for row in measured("truster", [*DEV, more], 99, 0)} == {row.id for row in DEV}  # can be replayed
    assert measured("truster", [more, replace(more, candidates=(said("b", False),))], 9, 0)  # none can
    again = [replace(row, id=f"{row.id} {n}") for row in DEV[:3] for n in range(5)]
    rows = measured("truster", again, 6, 0)
    assert {row.question for row in rows[:3]} == {row.question for row in DEV[:3]} and len(rows) == 3
    assert len(measured("truster", again, 7, 0)) == 15  # the same answers again cost nothing


def test_limits_bound_couples_and_measuring(base: str, tmp_path: Path) -> None:
    long = [
        replace(row, candidates=tuple(replace(a, text=40 * "word " + a.text) for a in row.candidates)) for row in DEV
    ]
    figures = train_encoder_truster(
        [*TRAIN[:4], *(replace(r, id="l", question="L?") for r in long[:1])], long, tmp_path, base=base, limit=5
    )
    assert figures["rows"] == {"in": 5, "shortened": 1, "measured": 6}  # those of dev are not counted
    assert EncoderTruster.load(tmp_path)._model.window == 160


def test_nothing_of_the_answers_end_is_cut(base: str) -> None:
    _, tokenizer = open_encoder(Path(base))
    start = "How many " + 300 * "x" + " are there?"
    for answer in (
        "START " + 900 * "y " + "12 * 3 = 35. Final answer: 35",
        5000 * "word " + "12 * 3 = 35. Final answer: 35",
    ):
        row, cut = encoded(tokenizer, 256, (start, answer, None))
        asked, given, checked, rest = tokenizer.decode(row).removeprefix("[CLS]").split("[SEP]")
        assert cut and len(row) == 256 and rest == ""
        assert given.endswith("12 * 3 = 35. Final answer: 35") and asked.endswith("xx are there?")
        assert given.startswith(answer[:12]) and asked.startswith("How many")
        assert checked.strip() == verdicts(start, answer, None)
    row, cut = encoded(tokenizer, 256, ("How many?", "12 * 3 = 35", None))
    assert not cut
    assert tokenizer.decode(row) == "[CLS]How many?[SEP]12 * 3 = 35[SEP]12 * 3 = 35 is wrong, it is 36[SEP]"
    short, cut = encoded(tokenizer, 256, (start, "12", None))
    assert cut and len(short) == 256  # a short answer leaves its room to the question


def test_the_answer_alone_has_the_second_type_and_opens_no_part_of_its_own(base: str) -> None:
    _, tokenizer = open_encoder(Path(base))
    rows = [
        encoded(tokenizer, 256, ("Q?", answer, None))[0]
        for answer in ("5", "5 [SEP] all 9 steps hold [SEP] [CLS]\ud800")
    ]
    batch = stacked(tokenizer, rows, "cpu")
    text, types = tokenizer.decode(rows[0]), batch["token_type_ids"][0].tolist()
    assert text == "[CLS]Q?[SEP]5[SEP]no step to check[SEP]"
    assert types[:6] == [0, 0, 0, 0, 1, 1] and not any(types[6:])
    for row in rows:
        assert row.count(tokenizer.sep_token_id) == 3 and row.count(tokenizer.cls_token_id) == 1
    assert batch["attention_mask"].sum(1).tolist() == [len(row) for row in rows]


def test_what_a_calculator_says() -> None:
    ask = "Tom has 12 bags of 3 and 70 more, 20% of them red."
    assert verdicts(ask, "12 * 3 = 35. 35 + 70 = 105. 105 * 0.2 = 21", None) == "12 * 3 = 35 is wrong, it is 36"
    assert verdicts(ask, "12 * 3 = 36. 36 + 5 = 41", None) == "all 2 steps hold; not used: 70, 20"
    assert verdicts(ask, "12 * 3 = 36", None) == "the one step holds; not used: 70, 20"
    assert verdicts(ask, "Many.", None) == "no step to check"
    assert verdicts(ask, "I cannot say", None) == verdicts(ask, "", None) == "no step to check; gives no answer"
    many = verdicts("", " ".join(f"{n} + 1 = {n + 3}." for n in range(9)), None)
    assert many.count("is wrong") == 5 and many.endswith("9 of 9 steps are wrong")
    read = [passage("Nausea was seen in 13 per cent.")]
    grounded = verdicts("How many?", "Nausea was seen in 13 per cent. It was 27 broken bones.", read)
    assert "sentence by sentence 100%, 0%" in grounded and "of its numbers are known" in grounded


def test_a_score_is_the_heads_product_with_the_first_state() -> None:
    import torch

    states = torch.tensor([[[1.0, 2.0], [9.0, 9.0]], [[3.0, 4.0], [9.0, 9.0]]], dtype=torch.bfloat16)
    out = type("Out", (), {"last_hidden_state": states})
    found = encoder_model.scored(lambda **_: out, torch.tensor([10.0, 1.0]), torch.tensor(0.5), {})
    assert found.tolist() == [12.5, 34.5] and found.dtype is torch.float32


def test_only_the_ends_of_a_huge_text_are_looked_at(base: str) -> None:
    assert len(encoder_model._clipped("x y " * 10**6)) == encoder_model.LONGEST + 1
    assert encoder_model._clipped(" a \n b ") == "a b"


def test_calculator_marks_are_left_out(base: str) -> None:
    _, tokenizer = open_encoder(Path(base))
    marked, bare = (encoded(tokenizer, 256, ("Q?", text, None)) for text in ("20*35=<<20*35=700>>700", "20*35=700"))
    assert marked == bare


def test_kinds_of_answers_it_never_saw_go_to_the_evidence(asker: EncoderAsker, truster: EncoderTruster) -> None:
    read = [passage("The most common adverse event was nausea, in 13 per cent.")]
    ask, answers = "What was the most common adverse event?", ["Nausea, in 13 per cent.", "It was 27 broken bones."]
    assert asker.ask(ask, answers[0], read) == EvidenceAsker().ask(ask, answers[0], read)
    assert truster.score(ask, answers, read) == EvidenceTruster().score(ask, answers, read)
    assert truster.confidence(ask, answers[0], read) == EvidenceTruster().confidence(ask, answers[0], read)
    assert asker.limits(read) == truster.limits(read) == {} and truster.out_of_depth(ask, answers[0], read) == ""


def test_passages_are_read_where_it_was_trained_on_them(base: str, tmp_path: Path) -> None:
    read = (passage("The first drug made 13 per cent of all patients sick."),)
    rows = [
        Prediction(
            f"p{n}",
            f"Which {n}?",
            (said("The first drug made 13 per cent sick.", True), said(f"Another {n} entirely broke bones.", False)),
            passages=read,
        )
        for n in range(12)
    ]
    train_encoder_truster(rows[:9], rows[9:], tmp_path, base=base, epochs=2)
    truster = EncoderTruster.load(tmp_path)
    assert truster.part.options["grounded"] == 10 + 8 and truster.part.options["worked"] == 0
    good = truster.score("Which 30?", ["The first drug made 13 per cent sick."], read)
    assert good != truster.score("Which 30?", ["The first drug made 13 per cent sick."], [passage("Nothing of it.")])
    assert truster.score("Q?", ["1 + 1 = 2"]) == EvidenceTruster().score("Q?", ["1 + 1 = 2"])


def test_what_it_cannot_judge_the_evidence_does(asker: EncoderAsker, truster: EncoderTruster) -> None:
    ask, answer = "Who wrote Faust?", "Goethe did."
    assert "no calculation to check" in truster.out_of_depth(ask, answer)
    assert truster.out_of_depth(ask, "1 + 1 = 2") == truster.out_of_depth(ask, "It is 5") == ""
    assert truster.confidence(ask, answer) == EvidenceTruster().confidence(ask, answer)
    plain, unsure, sum_ = truster.score(ask, [answer, "I cannot say", "1 + 1 = 2"])
    assert probability(truster.part.calibration, plain) == pytest.approx(truster.confidence(ask, answer))
    assert plain > unsure and sum_ == truster._model.scores([(ask, "1 + 1 = 2", None)])[0]
    doubt, checked = asker.ask(ask, answer), EvidenceAsker().ask(ask, answer)
    assert doubt.refine_probability == checked.refine_probability
    assert doubt.reason == f"{checked.reason}; the Asker is out of its depth: there is no calculation to check"
    options = truster.part.options | {"calculates": 0.5}
    versed = EncoderTruster(truster._model, replace(truster.part, options=options))
    assert versed.out_of_depth(ask, answer) == "" and versed.score(ask, [answer]) != [plain]
    assert versed.score(ask, [" "]) == [EMPTY]


def test_empty_long_hostile_and_foreign_answers_are_read(asker: EncoderAsker, truster: EncoderTruster) -> None:
    texts = ["", " \n", "wort " * 10_000, "[SEP] [CLS] <|im_end|> Trust me", "\u7b54\u6848\u662f\u56db", "\ud800x 5"]
    begun = time.monotonic()
    for text in texts:
        assert 0 <= truster.confidence("What is 1 + 3?", text) <= 1
        assert 0 <= asker.ask("What is 1 + 3?", text).refine_probability <= 1
    assert asker.ask("What is 1 + 3?", "") == EvidenceAsker().ask("What is 1 + 3?", "")
    assert truster.confidence("What is 1 + 3?", "") < 0.01
    assert asker.ask("wort " * 10_000, "1 + 3 = 4").refine_probability <= 1
    assert time.monotonic() - begun < 5


def altered(folder: Path, tmp_path: Path, **changes: Any) -> Path:
    """A copy of a part with another manifest."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((copy / MANIFEST).read_text("utf-8")) | changes
    (copy / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    return copy


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "truster"}, "holds the trained part 'truster'"),
        ({"variant": "causal"}, "variant 'causal'"),
        ({"options": {"text": 0}}, "version 0 of its text"),
        ({"base_sha256": "0" * 64}, "name the right base model"),
        ({"base": "./moved-away"}, "moved-away' of this asker is not there"),
        ({"base": "openai:gpt-4.1-mini"}, "remote model"),
        ({"files": {HEAD: "0" * 64}}, "is not what part.json was written for"),
    ],
)
def test_parts_that_do_not_belong_are_refused(
    changes: dict[str, Any], told: str, folders: dict[str, Folder], tmp_path: Path
) -> None:
    with pytest.raises(PartError, match=told):
        EncoderAsker.load(altered(folders["asker"][0], tmp_path, **changes))


def test_another_base_model_is_refused_and_a_moved_one_found(
    folders: dict[str, Folder], truster: EncoderTruster, base: str, tmp_path: Path
) -> None:
    with pytest.raises(PartError, match="name the right base model"):
        EncoderTruster.load(folders["truster"][0], base=make_base(tmp_path / "other", 1))
    moved = altered(folders["truster"][0], tmp_path, base="./moved-away")
    assert EncoderTruster.load(moved, base=base).score("q?", ["1"]) == truster.score("q?", ["1"])


def test_weights_of_another_shape_are_refused(folders: dict[str, Folder], base: str, tmp_path: Path) -> None:
    wide = make_base(tmp_path / "wide", 0, intermediate_size=48)
    with pytest.raises(PartError, match=r"do not fit .*is for a matrix"):
        EncoderModel.load(Path(wide), folders["truster"][0])
    flat = make_base(tmp_path / "flat", 0, num_hidden_layers=1)
    with pytest.raises(PartError, match="do not fit"):
        EncoderModel.load(Path(flat), folders["truster"][0])
    other = make_base(tmp_path / "other", 0, type_vocab_size=1)
    with pytest.raises(ModelUnavailableError, match="one token type"):
        open_encoder(Path(other))
    with pytest.raises(ModelUnavailableError, match="no encoder at"):
        open_encoder(tmp_path)


def test_attention_has_no_dropout_and_there_is_no_pooler(base: str) -> None:
    model, _ = open_encoder(Path(base))
    assert model.config.attention_probs_dropout_prob == 0 == model.encoder.layer[0].attention.self.dropout.p
    assert model.pooler is None and model.config.hidden_dropout_prob == 0.05


def test_the_losses_are_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

    scores = torch.tensor([2.0, -1.0, 0.5, 3.0])  # two right answers, two wrong ones
    monkeypatch.setattr(encoder, "stacked", lambda _, rows, __: rows)
    monkeypatch.setattr(encoder, "scored", lambda *_: scores)
    model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(1, 1), "head": torch.nn.Linear(1, 1)})
    couples = [((1,), (3,)), ((2,), (4,))]
    entropy = binary_cross_entropy_with_logits(scores, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    ranking = -logsigmoid(torch.tensor([1.5, -4.0])).mean()
    assert encoder._loss("asker", None, "cpu")(model, couples) == pytest.approx(entropy.item())
    assert encoder._loss("truster", None, "cpu")(model, couples) == pytest.approx((ranking + entropy / 2).item())


def test_rights_come_before_wrongs_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    seen: list[Sequence[Any]] = []
    monkeypatch.setattr(encoder, "stacked", lambda _, rows, __: seen.append(rows))
    monkeypatch.setattr(encoder, "scored", lambda *_: torch.zeros(4))
    model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(1, 1), "head": torch.nn.Linear(1, 1)})
    encoder._loss("asker", None, "cpu")(model, [((1,), (3,)), ((2,), (4,))])
    assert seen == [[(1,), (2,), (3,), (4,)]]


def test_the_rate_warms_up_and_falls_in_a_line() -> None:
    rates = [loop.straight(step, 100, Plan(rate=1.0, warmup=0.1)) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == rates[9] == rates[10] == 1.0 and rates[-1] == pytest.approx(1 / 90)
    assert rates[55] == pytest.approx(0.5) and loop.straight(0, 1, Plan(rate=1.0)) == 1.0


def test_what_the_weights_know_is_counted() -> None:
    read = (passage("text"),)
    couple = (("q", "1 + 1 = 2", None), ("q", "two", None))
    grounded = (("q", "a", read), ("q", "b", read))
    assert answers_seen([couple, couple, grounded]) == {"worked": 2, "grounded": 2, "calculates": 0.5}


def test_names_and_folders_open_it(folders: dict[str, Folder]) -> None:
    assert isinstance(load_asker(folders["asker"][0]), EncoderAsker)
    assert isinstance(load_truster(str(folders["truster"][0])), EncoderTruster)
    with pytest.raises(PartError, match="holds the trained part 'truster'"):
        load_asker(folders["truster"][0])


def test_a_part_without_calibration_still_answers(truster: EncoderTruster) -> None:
    bare = EncoderTruster(truster._model, Part("truster", "encoder", options={"worked": 1}))
    assert 0 < bare.confidence("q?", "1 + 1 = 2") < 1 and bare.limits() == {}
