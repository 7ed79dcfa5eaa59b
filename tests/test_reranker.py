"""Cross-encoders: ours on tiny random weights, anybody's classifier, and the graph and the command that use them."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedChat, ScriptedRetriever, json_lines, passage, tiny_matrices
from langchain_core.documents import Document
from test_encoder import make_base

from artrag.errors import ModelUnavailableError, PartError, TrainingDataError, UnknownModelError
from artrag.graphs import build_contextual_rag
from artrag.interfaces import wiring
from artrag.models import encoder_model, load_reranker
from artrag.models import reranker as models_reranker
from artrag.models.encoder_model import HEAD, open_encoder, stacked
from artrag.models.parts import read_part
from artrag.models.reranker import LocalReranker, couple
from artrag.settings import Settings
from artrag.training import reranker
from artrag.training.reranker import HOW, NEAR, OTHERS, lists, train_reranker
from artrag.training.retriever import Couple

COLOURS = "red green blue black white brown grey pink gold teal".split()
TINY = replace(HOW, epochs=6, rate=1e-2, rank=8, window=64, evaluations=1)


@pytest.fixture(scope="module", autouse=True)
def _tiny_matrices() -> Iterator[None]:
    with tiny_matrices(reranker, encoder_model, models_reranker):
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("base"), 0)


def couples(seed: int, groups: int) -> list[Couple]:
    """The right passage says "yes", the others of its group "no": all share the question's word."""
    draw = random.Random(seed)
    made = []
    for group in range(groups):
        for n in range(10):
            said = "yes" if n == 0 else "no"
            made.append(
                Couple("cat?", f"cat {draw.choice(COLOURS)} {said} {seed}{group}{n}", f"{seed}-{group}", f"{n}")
            )
    return made


@pytest.fixture(scope="module")
def trained(base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("reranker")
    with pytest.MonkeyPatch.context() as patch:
        real = reranker.lists

        def only_right(*given: Any) -> Any:
            return [one for one in real(*given) if " yes " in one[0].passage]

        patch.setattr(reranker, "lists", only_right)
        return folder, train_reranker(couples(1, 40), couples(2, 16), folder, base=base, plan=TINY)


def documents(*texts: str) -> list[Document]:
    return [Document(text, metadata={"id": str(n)}) for n, text in enumerate(texts)]


def test_it_learns_to_put_the_right_passage_first(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, found = trained
    assert found["first"]["value"] > 0.8 > 0.5 > found["bm25_first"]["value"]
    assert read_part(folder, "reranker").figures["first"] == found["first"]
    found_again = load_reranker(str(folder)).compress_documents(
        documents("cat red no 991", "cat blue yes 992", "cat teal no 993"), "cat?"
    )
    assert found_again[0].metadata["id"] == "1"
    scores = [document.metadata["rerank_score"] for document in found_again]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3


def test_the_context_is_read_and_no_passage_depends_on_others(trained: tuple[Path, dict[str, Any]]) -> None:
    live = load_reranker(str(trained[0]))
    plain, told = Document("cat no 1"), Document("cat no 1", metadata={"context": "cat yes"})
    by_context = {
        d.metadata.get("context"): d.metadata["rerank_score"] for d in live.compress_documents([plain, told], "cat?")
    }
    assert by_context[None] != by_context["cat yes"]
    (alone,) = live.compress_documents([plain], "cat?")
    assert alone.metadata["rerank_score"] == by_context[None] and plain.metadata == {}
    assert list(live.compress_documents([], "cat?")) == []


def test_a_couple_is_two_segments_within_the_window(base: str) -> None:
    _, tokenizer = open_encoder(Path(base))
    row = couple(tokenizer, 20, "what is it?" * 9, "a cat [SEP] and more of it")
    assert len(row) == 20 and row.count(tokenizer.sep_token_id) == 2 and row[0] == tokenizer.cls_token_id
    types = stacked(tokenizer, [row], "cpu")["token_type_ids"][0].tolist()
    second = row.index(tokenizer.sep_token_id) + 1
    assert types == [0] * second + [1] * (20 - second)


def test_wrong_passages_come_from_the_same_group() -> None:
    many = couples(3, 3)
    made = lists(many, 0, None, lambda what, share: None)
    assert len(made) == 30
    for asked, texts in made:
        assert texts[0] == asked.passage and len(texts) == 1 + OTHERS == len(set(texts)) and NEAR > OTHERS
        assert {one.group for one in many if one.passage in texts} == {asked.group}
    assert len(lists(many, 0, 4, lambda what, share: None)) == 4
    with pytest.raises(TrainingDataError, match="give larger groups"):
        lists(many[:7], 0, None, lambda what, share: None)


def test_what_is_no_reranker_is_refused(trained: tuple[Path, dict[str, Any]], base: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="cross-encoder that is run here"):
        load_reranker("openai:gpt-4.1-mini")
    with pytest.raises(PartError, match="name the right base model"):
        LocalReranker.load(make_base(tmp_path / "other", 1), part=trained[0])
    cut = shutil.copytree(trained[0], tmp_path / "cut")
    (cut / HEAD).unlink()
    with pytest.raises(PartError, match="missing"):
        load_reranker(str(cut))
    with pytest.raises(ModelUnavailableError, match="no cross-encoder"):
        LocalReranker.load(str(tmp_path / "nothing"))
    live = load_reranker(str(trained[0]))
    assert load_reranker(live) is live


def classifier(folder: Path, labels: int) -> str:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    base = make_base(folder, 3)
    config = BertConfig.from_pretrained(base, num_labels=labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(base)
    return base


def test_any_classifier_with_one_score_reranks(tmp_path: Path) -> None:
    found = load_reranker(classifier(tmp_path / "one", 1)).compress_documents(documents("a", "bb", "x" * 900), "cat?")
    assert len({document.metadata["rerank_score"] for document in found}) == 3
    with pytest.raises(ModelUnavailableError, match="gives 3 scores"):
        load_reranker(classifier(tmp_path / "three", 3))


@pytest.mark.parametrize("name", [None, "./mine"])
async def test_the_graph_reranks_by_what_the_settings_name(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    backwards = LocalReranker(lambda question, passages: [float(n) for n in range(len(passages))])
    monkeypatch.setattr(wiring, "load_reranker", lambda name, local_only: {"./mine": backwards}[name])
    found = [passage(f"Fact {n}.", n=n) for n in range(6)]
    graph = build_contextual_rag(
        chat=ScriptedChat("So it is [1].", "So it is [1]."),
        retriever=ScriptedRetriever(found=found),
        reranker=wiring.SettingsReranker(),
    ).compile()
    settings = Settings.of({"k": 2, "fetch_k": 5} | ({"reranker": name} if name else {}))
    for state in (
        graph.invoke({"question": "What?"}, context=settings),
        await graph.ainvoke({"question": "What?"}, context=settings),
    ):
        kept = [document.page_content for document in state["passages"]]
        assert kept == (["Fact 4.", "Fact 3."] if name else ["Fact 0.", "Fact 1."])


def test_the_command_trains_one(
    shell: Callable[..., tuple[int, str, str]], base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reranker, "HOW", replace(TINY, epochs=1))
    rows = [vars_of(one) for one in couples(4, 12)]
    path = json_lines(tmp_path / "couples.jsonl", rows)
    code, out, _ = shell("train", "reranker", path, "--out", tmp_path / "part", "--base", base, "--limit", 40, "--json")
    found = json.loads(out)
    assert code == 0 and found["kind"] == "reranker" and 0 < found["rows"]["train"] <= 40
    load_reranker(str(tmp_path / "part"))


def vars_of(one: Couple) -> dict[str, str]:
    return {"question": one.question, "passage": one.passage, "group": one.group, "source": one.source}
