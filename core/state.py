"""What flows through the graphs: plain data, `Document`s and messages, so that it survives any checkpointer."""

from typing import Annotated, Any, Literal

from langchain_core.documents import Document
from langchain_core.messages import AnyMessage
from langgraph.graph.message import Messages, add_messages
from pydantic import Field
from typing_extensions import TypedDict  # the one of Python 3.11 gives pydantic, and so Studio, no schema

from artrag.errors import QuestionError

Stage = Literal["initial", "refined", "sample", "edited"]


class SubquestionRecord(TypedDict, total=False):
    """A subquestion of the Asker; `found` is what a tool answered in `refine`."""

    text: str
    answered: bool
    found: str


class Candidate(TypedDict, total=False):
    """One answer that the Truster may choose."""

    stage: Stage
    text: str
    score: float
    confidence: float
    subquestions: list[SubquestionRecord]


class Citation(TypedDict):
    """Where a sentence of the answer comes from: passage `n` (from 1), its document, and the span of its text there."""

    n: int
    passage: str
    document: str
    start: int
    end: int
    sentence: str
    support: float


class Source(TypedDict):
    """A cited passage: its number in the answer, where it stands, and its words."""

    n: int
    passage: str
    document: str
    start: int
    end: int
    text: str


class StageUsage(TypedDict):
    """What one stage has cost."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float


FIRST_STAGES = {"receive", "load", "plan"}


def add_usage(old: dict[str, StageUsage] | None, new: dict[str, StageUsage]) -> dict[str, StageUsage]:
    """Reducer of `usage`: add up per stage, in any order; the first stage of a graph starts anew on its thread."""
    known = {} if FIRST_STAGES & new.keys() else old or {}
    total: dict[str, StageUsage] = {stage: used.copy() for stage, used in known.items()}
    for stage, used in new.items():
        seen = total.get(stage, StageUsage(calls=0, prompt_tokens=0, completion_tokens=0, seconds=0.0))
        total[stage] = StageUsage(
            calls=seen["calls"] + used["calls"],
            prompt_tokens=seen["prompt_tokens"] + used["prompt_tokens"],
            completion_tokens=seen["completion_tokens"] + used["completion_tokens"],
            seconds=seen["seconds"] + used["seconds"],
        )
    return total


class QAInput(TypedDict):
    """What a question-answering graph takes."""

    question: Annotated[
        str,
        Field(
            description="The question to answer.",
            examples=["By how many points did Lumoretin beat placebo in the phase 2 trial?"],
        ),
    ]


class QAState(TypedDict, total=False):
    """State of `contextual_rag` and `art`.

    `passages` is None where nothing was retrieved on purpose (reasoning), and `[]` where retrieval found nothing.
    """

    question: Annotated[str, Field(description="The question to answer.")]
    passages: Annotated[
        list[Document] | None, Field(description="Passages, best first; [n] in the answer is the n-th.")
    ]
    draft: Annotated[str, Field(description="The initial answer.")]
    subquestions: Annotated[
        list[SubquestionRecord], Field(description="What the Asker asked, and whether it is answered.")
    ]
    refine_probability: Annotated[float, Field(description="The Asker's probability that the draft needs refining.")]
    needs_refining: Annotated[bool, Field(description="The Asker's decision; the router only reads it.")]
    refine_reason: Annotated[str, Field(description="Why the draft needs refining, or not.")]
    refine_failure: Annotated[str, Field(description="Why a refinement could not be made; empty where it could.")]
    candidates: Annotated[list[Candidate], Field(description="Every answer seen, with the Truster's scores.")]
    answer: Annotated[str, Field(description="The answer, or the words of the abstention.")]
    citations: Annotated[list[Citation], Field(description="Where each sentence of the answer comes from.")]
    confidence: Annotated[float, Field(description="Probability that the answer is right, 0 to 1.")]
    abstained: Annotated[bool, Field(description="No answer is trusted enough.")]
    need: Annotated[str, Field(description="What the question needs: retrieval, arithmetic or neither.")]
    decision: Annotated[str, Field(description="Which candidate the Truster chose, and why.")]
    stop_reason: Annotated[str, Field(description="Why the graph stopped; empty while it goes on.")]
    needs_review: Annotated[bool, Field(description="A person is asked before the graph ends.")]
    rounds: Annotated[int, Field(description="Refinements made.")]
    due: Annotated[float, Field(description="Unix time at which the run must be over; 0: no limit.")]
    state_format: Annotated[int, Field(description="Format version of this state, for threads that are kept.")]
    usage: Annotated[dict[str, StageUsage], add_usage]


def add_turns(old: Messages, new: Messages) -> Messages:
    """Reducer of `messages`: LangGraph's own; what is no message is named.

    Raises:
        QuestionError: `new` holds something that is no message.
    """
    try:
        return add_messages(old, new)
    except (ValueError, TypeError, NotImplementedError) as error:
        said = str(error).splitlines()[0]
        raise QuestionError(
            f"the conversation holds something that is no message ({said}): write a turn as "
            "{'role': 'user', 'content': 'the question'}"
        ) from None


class ChatInput(TypedDict):
    """What `chat` takes."""

    messages: Annotated[
        list[AnyMessage],
        Field(
            description="The conversation so far, or the new turn of a thread; the last message asks.",
            examples=[[{"type": "human", "content": "What does alarm PMP-417 mean?"}]],
        ),
        add_turns,
    ]


class ChatState(QAState, total=False):
    """State of `chat`: that of `art` for the latest question, and the conversation."""

    messages: Annotated[list[AnyMessage], Field(description="The conversation."), add_turns]
    asked: Annotated[str, Field(description="The latest question in the person's own words.")]
    follow_up: Annotated[bool, Field(description="The question stands in a conversation; the router only reads it.")]
    rewriting: Annotated[str, Field(description="How the question was made of what was asked, or why it was not.")]


class IngestInput(TypedDict, total=False):
    """What the ingest graph takes."""

    paths: Annotated[
        list[str], Field(description="Files and folders to index.", examples=[["examples/corpus"]], min_length=1)
    ]
    index: Annotated[str, Field(description="Directory of the index.", examples=[".artrag/index"])]


class IngestState(IngestInput, total=False):
    """State of `ingest`. The words themselves wait on disk, in the unfinished generation named by `build`."""

    build: Annotated[str, Field(description="The unfinished generation of the index.")]
    loaded: Annotated[dict[str, int], Field(description="Documents added, changed, unchanged and removed.")]
    skipped: Annotated[list[dict[str, str]], Field(description="Files left out, each with its reason.")]
    contexts: Annotated[
        dict[str, int], Field(description="Contexts made, reused, rejected (and why), and left out by the budget.")
    ]
    report: Annotated[dict[str, Any], Field(description="What was indexed.")]
    usage: Annotated[dict[str, StageUsage], add_usage]


class SimragInput(TypedDict, total=False):
    """What `simrag` takes."""

    paths: Annotated[
        list[str], Field(description="Files and folders of the domain.", examples=[["examples/corpus"]], min_length=1)
    ]
    run: Annotated[str, Field(description="Folder that everything goes into.", examples=[".artrag/simrag"])]
    questions: Annotated[
        str,
        Field(
            description="Held-out questions with their answers, .jsonl; without, the model's own are held out.",
            examples=["examples/questions.jsonl"],
        ),
    ]
    mix: Annotated[
        list[str],
        Field(description="Examples to mix in, .jsonl, so that nothing else is forgotten.", examples=[["mine.jsonl"]]),
    ]
    mix_share: Annotated[
        float, Field(description="Share of them in what is trained on, at most.", ge=0, lt=1, examples=[0.25])
    ]
    passages: Annotated[int, Field(description="Passages that are asked about, each round.", ge=1, examples=[200])]
    kinds: Annotated[
        dict[str, float],
        Field(
            description="How often each kind is asked: short, long, choice, claim.",
            examples=[{"short": 0.4, "long": 0.2, "choice": 0.24, "claim": 0.16}],
        ),
    ]
    rounds: Annotated[int, Field(description="Rounds at most.", ge=1, le=10, examples=[2])]


class SimragState(SimragInput, total=False):
    """State of `simrag`. Pairs, weights and answers wait on disk, in the folder named by `run`."""

    index: Annotated[str, Field(description="Index of the domain.")]
    round: Annotated[int, Field(description="The round that is going on, from 1.")]
    proposed: Annotated[int, Field(description="Pairs proposed in this round.")]
    kept: Annotated[int, Field(description="Pairs kept in this round.")]
    rejected: Annotated[dict[str, int], Field(description="Pairs rejected in this round, a count a reason.")]
    trained: Annotated[dict[str, Any], Field(description="Figures of the training.")]
    scores: Annotated[dict[str, Any], Field(description="What each system scores, and the gain, with intervals.")]
    decision: Annotated[str, Field(description="ship, again or reject; the router only reads it.")]
    outcome: Annotated[dict[str, Any], Field(description="What became of it, and where everything lies.")]
    usage: Annotated[dict[str, StageUsage], add_usage]


class EvaluateInput(TypedDict, total=False):
    """What `evaluate` takes."""

    questions: Annotated[
        str,
        Field(
            description="Questions with their right answers, .jsonl.",
            min_length=1,
            examples=["examples/questions.jsonl"],
        ),
    ]
    run: Annotated[
        str, Field(description="Folder that everything goes into.", min_length=1, examples=[".artrag/evaluation"])
    ]
    systems: Annotated[
        list[str], Field(description="Names of the systems to measure; none: all.", examples=[["direct", "rag", "art"]])
    ]
    indexes: Annotated[
        list[str],
        Field(
            description="Index to retrieve from, and a second one without contexts; none: that of the settings.",
            examples=[[".artrag/index"]],
        ),
    ]
    tuned: Annotated[
        str,
        Field(description="A fine-tuned chat model, such as the folder of an answerer.", examples=["runs/answerer"]),
    ]
    at_once: Annotated[int, Field(description="Questions put to a system side by side.", ge=1, le=256, examples=[4])]
    price: Annotated[
        list[float],
        Field(description="What a million prompt tokens cost, and a million written ones.", examples=[[0.4, 1.6]]),
    ]
    against: Annotated[
        str, Field(description="Folder of an earlier run over the same questions.", examples=["runs/last-week"])
    ]
    traces: Annotated[
        bool, Field(description="Keep a trace of every answer; the report's page leads to it.", examples=[True])
    ]


class EvaluateState(EvaluateInput, total=False):
    """State of `evaluate`. The answers wait on disk, in the folder named by `run`."""

    rungs: Annotated[
        list[dict[str, Any]], Field(description="The systems that were asked: name, over, adds, and about.")
    ]
    judge: Annotated[str, Field(description="Whether the judge can be believed; empty without one.")]
    report: Annotated[dict[str, Any], Field(description="Figures, verdict, and where the report lies.")]
    usage: Annotated[dict[str, StageUsage], add_usage]
