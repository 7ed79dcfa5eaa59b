"""Train the step reader: on solutions, right and spoilt, then on recorded answers.

First encoder (LoRA) and network learn from solutions with marked calculations, of which each pass draws other right
forms and other mistakes. Then the network alone, over the encoder as it is, learns from answers that models gave. Both
losses are the cross-entropy of right and wrong plus -log sigmoid(r(right) - r(wrong)) on pairs of one question (ART,
Section 3.4); solutions add the cross-entropy of each step.

Answers that it learned from are read too well afterwards. So the second part is done once more for each of five folds
of the questions, and `readings.jsonl.gz` keeps what a network that never saw the question reads.
"""

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from artrag.errors import TrainingDataError
from artrag.evaluation.predictions import Prediction, check_split, normal_question
from artrag.evaluation.rows import write_rows
from artrag.models.encoder_model import open_encoder
from artrag.models.local_chat import place
from artrag.models.parts import Part, sha256, write_part
from artrag.models.references import weights_folder
from artrag.models.step_graph import VERSION, answer_graph
from artrag.models.step_reader import (
    NETWORK,
    StepReader,
    encode_questions,
    readings,
)
from artrag.models.weights import ADAPTER, CONFIG, base_weights, merge_lora
from artrag.models.wheels import Progress
from artrag.settings import EMBEDDED_ENCODER
from artrag.training.choosing import ranking_figures, sources
from artrag.training.folds import FOLDS, fold_of
from artrag.training.loop import LOSSES, Plan, Run, Trained, peak_memory_mb
from artrag.training.lora import add_lora, check_extra, save_adapter
from artrag.training.lora_batches import Encoded
from artrag.training.readings import KEPT, answer_key
from artrag.training.solutions import Problem, read_problems
from artrag.training.step_losses import Answered, answers_loss, asked_as, solutions_loss

ON_SOLUTIONS = Plan(epochs=4, rate=6e-4, batch=16, rank=32, evaluations=1, warmup=0.03)
ON_ANSWERS = Plan(epochs=4, rate=2e-4, batch=12, evaluations=1, warmup=0.05)
HELD_OUT = 25
"""Every so many problems one is held out to choose the checkpoint."""


def train_reader(
    solutions: Sequence[Path],
    train: Sequence[Prediction],
    dev: Sequence[Prediction],
    out: Path,
    *,
    base: str = EMBEDDED_ENCODER,
    on_solutions: Plan = ON_SOLUTIONS,
    on_answers: Plan = ON_ANSWERS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a reader and leave it in `out`; a killed run goes on when it is called again.

    Args:
        solutions: files of problems (`artrag.training.solutions.read_problems`).
        train: recorded answers with labels, without passages.
        dev: of other questions; they choose the second part's checkpoint.
        out: folder of the reader.
        base: reference of the encoder.
        on_solutions: how the first part is trained.
        on_answers: how the second part is.
        progress: told how far it is.

    Returns:
        `auc` and `within_question_auc` on dev with intervals, losses, rows, seconds and memory of both parts.

    Raises:
        TrainingDataError: no marked solution, one class only, or a question in both train and dev.
        MissingExtraError: the extra `train` is not installed.
    """
    check_split(train, dev)
    tell = progress or (lambda _what, _share: None)
    asked = {normal_question(row.question) for row in [*train, *dev]}
    problems = [problem for path in solutions for problem in read_problems(path)]
    problems = [problem for problem in problems if normal_question(problem.question) not in asked]
    if not problems:
        raise TrainingDataError("no solution is left to learn from: give solutions of questions outside train and dev")
    learn, check = _labelled(train), _labelled(dev)
    folder = weights_folder(base, progress=progress)
    weights = sha256(base_weights(folder))
    work = out / "work"
    _begin(work, repr((VERSION, weights, on_solutions, on_answers, problems, learn, check)))
    first = _learn_solutions(problems, folder, base, work / "solutions", on_solutions, tell)
    encoder, tokenizer = open_encoder(folder)
    merge_lora(encoder, work / "solutions")
    network = _network(encoder.config.hidden_size, work / "solutions")
    trained, kept = _learn_answers(learn, check, encoder.eval(), tokenizer, network, work, on_answers, tell)
    for name in (ADAPTER, CONFIG):
        shutil.copyfile(work / "solutions" / name, out / name)
    for source, name in ((work / "solutions", LOSSES), (work / "answers-all", f"answers.{LOSSES}")):
        shutil.copyfile(source / LOSSES, out / name)
    _save_network(network, out)
    write_rows(out / KEPT, ({"key": key, "reading": value} for key, value in kept.items()))
    part = Part(
        kind="reader",
        variant="encoder",
        base=base,
        base_sha256=weights,
        files=dict.fromkeys((ADAPTER, CONFIG, NETWORK), ""),
        data=[{"source": path.name, "solutions": len(read_problems(path))} for path in solutions] + sources(train),
        options={
            "graph": VERSION,
            "size": network.norm.normalized_shape[0],
            "layers": len(network.layers),
            "on_solutions": asdict(on_solutions),
            "on_answers": asdict(on_answers),
        },
    )
    write_part(out, part)
    part = replace(part, figures=_figures(StepReader.load(out), dev))
    write_part(out, part)
    shutil.rmtree(work)
    return {
        "kind": "reader",
        **part.figures,
        "losses": {"solutions": first.dev_loss, "answers": trained.dev_loss},
        "rows": {"solutions": len(problems), "train": len(learn), "dev": len(check)},
        "seconds": {"solutions": first.seconds, "answers": trained.seconds},
        "peak_memory_mb": peak_memory_mb(),
    }


def _begin(work: Path, run: str) -> None:
    """Make the working folder of a run, or go on in it; one of another run is refused."""
    mark, path = hashlib.sha256(run.encode("utf-8", "replace")).hexdigest(), work / "run.txt"
    work.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(mark, "utf-8")
    elif path.read_text("utf-8") != mark:
        raise TrainingDataError(
            f"{str(work)!r} belongs to a run with other rows, settings or base model: delete it, or name another folder"
        )


def _labelled(predictions: Sequence[Prediction]) -> dict[str, dict[str, bool]]:
    """Question -> answer -> is it right; of rows without passages."""
    found: dict[str, dict[str, bool]] = {}
    for row in predictions:
        if row.passages is None:
            for answer in row.candidates:
                if answer.correct is not None and answer.text.strip():
                    found.setdefault(row.question, {})[answer.text] = answer.correct
    if not any(set(answers.values()) == {True, False} for answers in found.values()):
        raise TrainingDataError(
            "no question without passages has both a right and a wrong answer: sample more answers a question "
            "(artrag collect -k 8)"
        )
    return found


def _learn_solutions(
    problems: Sequence[Problem], folder: Path, base: str, out: Path, plan: Plan, tell: Progress
) -> Trained:
    """Encoder and network on solutions; leaves LoRA weights and the network in `out`."""
    done = out / "done.json"
    if done.exists():
        return Trained(**json.loads(done.read_text("utf-8")))
    check_extra()
    import torch

    from artrag.models.step_network import StepNetwork

    out.mkdir(parents=True, exist_ok=True)
    device, _ = place()
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        encoder, tokenizer = open_encoder(folder)
        encoder = add_lora(encoder, plan.rank)
        network = StepNetwork(encoder.config.hidden_size)
        model = torch.nn.ModuleDict({"encoder": encoder.to(device), "network": network})  # graphs stay on the CPU
        asked = asked_as(tokenizer, [problem.question for problem in problems])
        rows: list[Encoded] = [(one.tokens, (place,)) for place, one in enumerate(asked)]
        held = [row for row in rows if row[1][0] % HELD_OUT == 0] or rows[:1]
        kept = [row for row in rows if row[1][0] % HELD_OUT] or rows
        pad = tokenizer.pad_token_id
        mark = hashlib.sha256(json.dumps([asdict(plan), rows]).encode()).hexdigest()
        run = Run(model, solutions_loss(problems, asked, pad, device), plan, out, device)
        trained = run.go(kept, held, {"in": len(problems)}, mark, tell, "reading solutions")
    save_adapter(encoder, out, base)
    _save_network(network, out)
    whole = out / ".done.json"  # a kill leaves no half of it
    whole.write_text(json.dumps(asdict(trained)), "utf-8")
    os.replace(whole, done)
    return trained


def _learn_answers(
    learn: Mapping[str, Mapping[str, bool]],
    check: Mapping[str, Mapping[str, bool]],
    encoder: Any,
    tokenizer: Any,
    network: Any,
    work: Path,
    plan: Plan,
    tell: Progress,
) -> tuple[Trained, dict[str, float]]:
    """The network on recorded answers; its readings of each fold by a network that never saw the fold."""
    answered = _encoded(learn, encoder, tokenizer, tell)
    held = _encoded(check, encoder, tokenizer, tell)
    folds = [fold_of(question) for question in learn]
    start = copy.deepcopy(network.state_dict())
    kept: dict[str, float] = {}
    for fold in range(FOLDS):
        network.load_state_dict(start)
        others = [one for one, its in zip(answered, folds, strict=True) if its != fold]
        _fit(network, others, held, work / f"answers-{fold}", plan, tell, f"reading answers, fold {fold + 1}")
        for question, one, its in zip(learn, answered, folds, strict=True):
            if its == fold:
                read = _read(network, one)
                kept |= {answer_key(question, text): value for text, value in zip(one.texts, read, strict=True)}
    network.load_state_dict(start)
    return _fit(network, answered, held, work / "answers-all", plan, tell, "reading answers"), kept


def _encoded(
    questions: Mapping[str, Mapping[str, bool]], encoder: Any, tokenizer: Any, tell: Progress
) -> list[Answered]:
    import torch

    made = []
    for done, (question, answers) in enumerate(questions.items()):
        with torch.inference_mode():
            states, (numbers,) = encode_questions(encoder, tokenizer, [question])
        asked = asked_as(tokenizer, [question])[0]
        graphs = [answer_graph(numbers, text) for text in answers]
        made.append(Answered(asked, states.states[0].clone(), list(answers), graphs, list(answers.values())))
        if done % 50 == 0:
            tell("drawing graphs", done / len(questions))
    return made


def _fit(
    network: Any,
    answered: Sequence[Answered],
    held: Sequence[Answered],
    out: Path,
    plan: Plan,
    tell: Progress,
    what: str,
) -> Trained:
    import torch

    out.mkdir(parents=True, exist_ok=True)
    rows: list[list[Encoded]] = [
        [(one.asked.tokens, (n,)) for n, one in enumerate(side) if set(one.right) == {True, False}]
        for side in (answered, held)
    ]
    mark = hashlib.sha256(json.dumps([asdict(plan), rows]).encode()).hexdigest()
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        losses = [answers_loss(side) for side in (answered, held)]
        run = Run(network, _either(losses), plan, out, "cpu")
        trained = run.go(rows[0], rows[1], {"in": len(answered)}, mark, tell, what)
    network.eval()
    return trained


def _either(losses: Sequence[Callable[[Any, Sequence[Encoded]], Any]]) -> Callable[[Any, Sequence[Encoded]], Any]:
    """In training the loss over the questions of train, else that over those of dev."""
    return lambda model, rows: losses[0 if model.training else 1](model, rows)


def _read(network: Any, one: Answered) -> list[float]:
    import torch

    from artrag.models.step_network import Questions

    questions = Questions(
        one.states[None], torch.ones(1, len(one.states), dtype=torch.long), torch.tensor([one.asked.places])
    )
    with torch.inference_mode():
        found = readings(network, questions, [(0, nodes) for nodes in one.graphs], len(one.asked.places))
    return [round(value, 4) for value in found.tolist()]


def _network(hidden: int, folder: Path) -> Any:
    from safetensors.torch import load_file

    from artrag.models.step_network import StepNetwork

    network = StepNetwork(hidden)
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / NETWORK).items()})
    return network


def _save_network(network: Any, folder: Path) -> None:
    """In float16: half the size, and no score moves by more than some thousandths."""
    import torch
    from safetensors.torch import save_file

    weights = {name: tensor.detach().cpu().to(torch.float16) for name, tensor in network.state_dict().items()}
    save_file(weights, folder / NETWORK)


def _figures(reader: StepReader, dev: Sequence[Prediction]) -> dict[str, Any]:
    """How well the reading of the whole answer tells right from wrong on dev."""
    answers = [
        (row.question, answer)
        for row in dev
        if row.passages is None
        for answer in row.candidates
        if answer.text.strip()
    ]
    answers = [(question, answer) for question, answer in answers if answer.correct is not None]
    scores = [float(reader.read(question, [answer.text])[0]) for question, answer in answers]
    told = [(normal_question(question), answer.source, answer.text) for question, answer in answers]
    return ranking_figures(scores, [bool(answer.correct) for _, answer in answers], told)
