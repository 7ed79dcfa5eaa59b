"""What an answerer learns from: one documented form of examples, and the token rows made of them.

Four tasks, as in SimRAG's first stage (Xu et al., arXiv 2410.17952, Section 3.2); one JSON object a line:

    {"task": "answer", "passages": [{"text": ..., "context": ...}], "question": ..., "answer": ..., "cites": [1]}
    {"task": "instruct", "question": ..., "answer": ...}
    {"task": "extract", "passages": [{"text": ...}], "answers": [...]}
    {"task": "ask", "passages": [{"text": ...}], "answer": ..., "question": ...}

A fifth, "verify", is what a verifier learns (`artrag.training.verifier`): the answer is "Yes" or "No".

Of "answer", the first passage is the one that retrieval ranks best; an empty answer stands for passages that do not
hold one; with `options` ({"A": "yes", "B": "no"}) the answer is a key. Any may name its `source`. The chats are those
of the nodes: the same prompt files, without their worked examples, which training replaces (`artrag.models.taught`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from langchain_core.documents import Document

from artrag import prompts
from artrag.evaluation.questions import asked
from artrag.models.causal_model import Message
from artrag.models.taught import without_examples
from artrag.models.writing import inert
from artrag.passages import numbered, tagged
from artrag.training.branches import trunk_of
from artrag.training.lora_batches import Encoded

Task = Literal["answer", "instruct", "extract", "ask", "verify"]
NOT_TOLD = "The passages do not say."
BRANCHES = 8
"""Examples with the same passages that are read together, at most."""
_ROLES = {"human": "user", "ai": "assistant"}


@dataclass(frozen=True, slots=True)
class Example:
    """One line of the form above; `answers` has one answer, except for "extract"."""

    task: Task
    question: str = ""
    answers: tuple[str, ...] = ("",)
    passages: tuple[tuple[str, str], ...] = ()
    """(text, context) of each."""
    cites: tuple[int, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    source: str = ""
    """Where it comes from; a part says of each source how many examples it learned from."""
    span: str = ""
    """Words of the passage that a verdict rests on."""

    @property
    def completion(self) -> str:
        """What the model is to say."""
        if self.task == "extract":
            return "\n".join(self.answers)
        if self.task == "ask":
            return self.question
        said = self.answers[0]
        if self.task == "instruct":
            return said
        if not said:
            return NOT_TOLD
        told = f"{said}. {dict(self.options)[said]}" if self.options else said
        return told + "".join(f" [{n}]" for n in self.cites)


def example(row: Mapping[str, Any]) -> Example:
    """An example from its JSON object.

    Raises:
        ValueError: it is not in the documented form, and why.
    """
    task: Any = row.get("task")
    if task not in get_args(Task):
        raise ValueError(f"the task {task!r} is none of {', '.join(get_args(Task))}")
    given = row.get("answers") if task == "extract" else [row.get("answer")]
    if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
        raise ValueError("'answers' must be a list of texts" if task == "extract" else "'answer' must be a text")
    passages = [one if isinstance(one, dict) else {"text": one} for one in row.get("passages", [])]
    found = Example(
        task,
        str(row.get("question", "")),
        tuple(given),
        tuple((str(one["text"]), str(one.get("context", ""))) for one in passages),
        tuple(int(n) for n in row.get("cites", [])),
        tuple((str(key), str(text)) for key, text in row.get("options", {}).items()),
        str(row.get("source", "")),
    )
    if task != "extract" and not found.question.strip():
        raise ValueError("'question' is empty")
    if task != "answer" and not all(one.strip() for one in found.answers):
        raise ValueError("an answer is empty")
    if (task in ("extract", "ask", "verify") and len(passages) != 1) or (task == "answer" and not passages):
        raise ValueError(f"the task {task!r} needs {'passages' if task == 'answer' else 'one passage'}")
    if task == "verify" and found.answers[0] not in ("Yes", "No"):
        raise ValueError(f"the answer {found.answers[0]!r} is neither 'Yes' nor 'No'")
    if any(not 1 <= n <= len(passages) for n in found.cites):
        raise ValueError(f"'cites' {list(found.cites)} leads to none of the {len(passages)} passages")
    if found.options and found.answers[0] and found.answers[0] not in dict(found.options):
        raise ValueError(f"the answer {found.answers[0]!r} is no key of the options")
    return found


def chat_of(one: Example) -> list[Message]:
    """The chat that is to be answered, from the prompt file of its task."""
    if one.task == "instruct":
        return [{"role": "user", "content": one.question}]
    values: dict[str, str]
    if one.task == "answer":
        shown = numbered([Document(text, metadata={"context": context}) for text, context in one.passages])
        name, values = "answer", {"passages": shown, "question": asked(one.question, one.options)}
    elif one.task == "verify":
        text, context = one.passages[0]
        shown = tagged(Document(text, metadata={"context": context}))
        name, values = "verify", {"passage": shown, "question": one.question}
    else:
        text, context = one.passages[0]
        values = {"passage": text, "context": context}
        name = "candidates" if one.task == "extract" else "pose"
        if one.task == "ask":
            values["answer"] = one.answers[0]
    kept = without_examples(prompts.load(name).format_messages(**values))
    return [{"role": _ROLES.get(message.type, message.type), "content": message.text} for message in kept]


def rows_of(tokenizer: Any, examples: Sequence[Example], window: int, counts: dict[str, int]) -> list[Encoded]:
    """Examples as rows of trunk and branches (`artrag.training.branches`), each branch at most `window` tokens.

    Where passages are too long, those that nobody cites are left out, worst first; what is still too long is dropped.
    No answer is cut.

    Args:
        tokenizer: of the model.
        examples: those with the same passages share rows.
        window: tokens of prompt and answer together.
        counts: `in`, `shortened` and `dropped` are added to.
    """
    groups: dict[Any, list[Example]] = {}
    for number, one in enumerate(examples):
        groups.setdefault((one.task, one.passages or number), []).append(one)
    made = []
    for group in groups.values():
        counts["in"] += len(group)
        for at in range(0, len(group), BRANCHES):
            branches = []
            kept, shortened = group[at : at + BRANCHES], 0
            while True:
                branches = [_tokens(tokenizer, one) for one in kept]
                fewer = _without_worst(kept) if any(len(a) + len(b) > window for a, b in branches) else None
                if fewer is None:
                    break
                kept, shortened = fewer, len(kept)
            fitting = [(prompt, answer) for prompt, answer in branches if len(prompt) + len(answer) <= window]
            counts["shortened"] += min(shortened, len(fitting))
            counts["dropped"] += len(branches) - len(fitting)
            if fitting:
                made.append(trunk_of(fitting))
    return made


def _tokens(tokenizer: Any, one: Example) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(prompt, answer), the answer with its end."""
    turns = [turn | {"content": inert(tokenizer, turn["content"])} for turn in chat_of(one)]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    prompt, answer = (
        tuple(tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"])
        for part in (text, inert(tokenizer, one.completion))
    )
    return prompt, (*answer, tokenizer.eos_token_id)


def _without_worst(group: Sequence[Example]) -> list[Example] | None:
    """The group without the worst passage that nobody cites; None where every passage is needed."""
    cited = {n for one in group for n in one.cites}
    worst = next((n for n in range(len(group[0].passages), 0, -1) if n not in cited), None)
    if group[0].task != "answer" or worst is None or len(group[0].passages) == 1:
        return None
    return [
        Example(
            one.task,
            one.question,
            one.answers,
            (*one.passages[: worst - 1], *one.passages[worst:]),
            tuple(n - (n > worst) for n in one.cites),
            one.options,
            one.source,
        )
        for one in group
    ]
