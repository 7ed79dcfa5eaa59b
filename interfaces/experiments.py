"""LangSmith experiments: a finished run of `evaluate` as experiments over a data set, and data sets as question files.

Nothing is asked again: an experiment's target hands out the answers that were kept.
"""

import uuid
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from langsmith import Client, evaluate
from langsmith.schemas import Example, Feedback

from artrag.errors import UsageError
from artrag.evaluation.answering import Answered, measures
from artrag.evaluation.questions import Question
from artrag.evaluation.rows import write_rows

ASKED_AT_ONCE = 50
_SAID = ("key", "score", "correction", "comment")
Experiment = list[dict[str, Any]]
"""One row a question: `inputs`, `outputs`, and `scores`, measure -> (value, reason)."""


def as_experiments(
    questions: Sequence[Question],
    rows: Mapping[str, Sequence[Answered]],
    *,
    dataset: str = "artrag",
    client: Client | None = None,
    upload: bool = False,
) -> dict[str, Experiment]:
    """Each system's answers as an experiment of `langsmith.evaluate`, every measure with its reason as a comment.

    Args:
        questions: those that were asked.
        rows: by system, an answer to each.
        dataset: name of the data set; made on LangSmith where it is not there and `upload` is set.
        client: of LangSmith; none: as the environment says.
        upload: send data set and experiments to LangSmith; without it nothing leaves this process.

    Raises:
        UsageError: `upload` is set, and the data set on LangSmith lacks some of the questions.
    """
    client = client or (Client() if upload else Client(api_key="none", auto_batch_tracing=False))
    examples = _uploaded(client, dataset, questions) if upload else _examples(questions, uuid.uuid4())
    known = {one.id: one for one in questions}
    made: dict[str, Experiment] = {}
    for name, answers in rows.items():
        by_id = {row.id: row for row in answers}

        def target(inputs: dict[str, Any], by_id: Mapping[str, Answered] = by_id) -> dict[str, Any]:
            row = by_id[inputs["id"]]
            told = {"answer": row.answer, "abstained": row.abstained, "confidence": row.confidence, "error": row.error}
            return told | {"passages": list(row.passages or ())}

        def score(inputs: dict[str, Any], by_id: Mapping[str, Answered] = by_id) -> dict[str, Any]:
            found = measures(known[inputs["id"]], by_id[inputs["id"]])
            return {"results": [{"key": key, "score": one.value, "comment": one.reason} for key, one in found.items()]}

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the SDK calls offline evaluation a beta
            results = evaluate(
                target,
                data=examples,
                evaluators=[score],
                experiment_prefix=f"{dataset}-{name}".replace(" ", "-"),
                metadata={"system": name},
                client=client,
                upload_results=upload,
                blocking=True,
            )
            made[name] = [_row(one) for one in results]
    return made


def read_dataset(name: str, path: Path, client: Client | None = None) -> int:
    """Write a LangSmith data set as a file of questions, and tell how many there are.

    An example's inputs have `question`, its outputs `answer` or `answers`; the metadata may have what else a question
    has (`artrag.evaluation.questions`).

    Raises:
        UsageError: an example has no question or no answer.
    """
    found = []
    for example in (client or Client()).list_examples(dataset_name=name):
        inputs, outputs = example.inputs or {}, example.outputs or {}
        if not inputs.get("question") or not {"answer", "answers"} & outputs.keys():
            raise UsageError(
                f"example {example.id} of the data set {name!r} has inputs {sorted(inputs)} and outputs "
                f"{sorted(outputs)}: give it 'question', and 'answer' or 'answers'"
            )
        about = {
            key: value for key, value in (example.metadata or {}).items() if key in ("options", "relevant", "type")
        }
        found.append({"id": str(inputs.get("id", example.id)), "question": inputs["question"], **outputs, **about})
    write_rows(path, found)
    return len(found)


def read_feedback(runs: Sequence[str], key: str, client: Client | None = None) -> list[dict[str, Any]]:
    """What people said of these runs on LangSmith under `key`, oldest first."""
    client = client or Client(auto_batch_tracing=False)
    found: list[Feedback] = []
    for start in range(0, len(runs), ASKED_AT_ONCE):
        found += client.list_feedback(run_ids=list(runs[start : start + ASKED_AT_ONCE]), feedback_key=[key])
    found.sort(key=lambda one: str(one.created_at))
    return [one.model_dump(mode="json", include={"run_id", "trace_id", *_SAID}) for one in found]


def _examples(questions: Sequence[Question], dataset: uuid.UUID) -> list[Example]:
    now = datetime.now(UTC)
    return [
        Example(
            id=uuid.uuid5(uuid.NAMESPACE_URL, f"{dataset} {one.id}"),
            dataset_id=dataset,
            inputs=_inputs(one),
            outputs=_outputs(one),
            metadata=_about(one),
            created_at=now,
        )
        for one in questions
    ]


def _uploaded(client: Client, name: str, questions: Sequence[Question]) -> list[Example]:
    """The examples of the data set on LangSmith, which is made where it is not there."""
    if not client.has_dataset(dataset_name=name):
        made = client.create_dataset(name, description="Questions of an artrag evaluation.")
        client.create_examples(
            dataset_id=made.id,
            examples=[{"inputs": _inputs(one), "outputs": _outputs(one), "metadata": _about(one)} for one in questions],
        )
    found = {(example.inputs or {}).get("id"): example for example in client.list_examples(dataset_name=name)}
    if missing := [one.id for one in questions if one.id not in found]:
        raise UsageError(
            f"the data set {name!r} on LangSmith lacks {len(missing)} of {len(questions)} questions, such as "
            f"{missing[0]!r}: name another data set"
        )
    return [found[one.id] for one in questions]


def _inputs(one: Question) -> dict[str, Any]:
    return {"id": one.id, "question": one.question}


def _outputs(one: Question) -> dict[str, Any]:
    return {"answers": [float(answer) if one.number else answer for answer in one.answers]}


def _about(one: Question) -> dict[str, Any]:
    return {"options": dict(one.options), "relevant": list(one.relevant), "type": one.kind}


def _row(result: Any) -> dict[str, Any]:
    run, example, found = result["run"], result["example"], result["evaluation_results"]["results"]
    return {
        "inputs": example.inputs,
        "outputs": run.outputs,
        "scores": {one.key: (one.score, one.comment) for one in found},
    }
