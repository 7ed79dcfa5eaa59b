"""What of a run may be written down or leave: everything, everything but personal data and keys, or no text at all."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from artrag.errors import SettingsError
from artrag.telling import without_keys
from artrag.tracing.spans import Span

# Every rule takes time in proportion to the text: documents are written by strangers, and ready-made rules were found
# that take a minute for a hostile one.
_RULES = [
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----[^-]{0,8000}(?:-----END [A-Z0-9 ]{0,60}-----)?"
        ),
        "[secret]",
    ),
    (
        re.compile(
            r"(?<![A-Za-z0-9])(?:sk|pk|rk|lsv2|ls_|gh[pousr]|github_pat|glpat|xox[a-z]|xapp|hf|npm|pypi|gsk|r8)[-_]"
            r"(?=[\w-]{0,200}\d)[\w-]{8,}"
        ),
        "[secret]",
    ),
    (re.compile(r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}|AIza[\w-]{35}|ya29\.[\w-]+)"), "[secret]"),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"), "[secret]"),
    (re.compile(r"(?<=://)[^\s/@:]{0,64}:[^\s/@]{1,128}(?=@)"), "[secret]"),
    (
        re.compile(
            r"((?:api[_-]?key|access[_-]?key|private[_-]?key|secret|token|passw(?:or)?d|authorization)[\"']?"
            r"\s{0,3}[:=]\s{0,3}[\"']?(?:(?:bearer|basic|token)\s{1,3})?)[^\s\"'&;,]{6,}",
            re.IGNORECASE,
        ),
        r"\1[secret]",
    ),
    (re.compile(r"\b(bearer\s{1,3})[\w.~+/-]{10,}=*", re.IGNORECASE), r"\1[secret]"),
    (re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), "[email]"),
    (re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"), "[number]"),
    (
        # Telephone numbers with their country, in groups of three, social security, cards, and nine digits in a row;
        # neither dates nor decimals nor a list of small numbers.
        re.compile(
            r"(?<![\w.-])(?:\+\(?\d(?:[ ()/-]{0,2}\d){8,}|\(?\d{3}\)?[ -]\d{3}[ -]\d{4}|\d{3}-\d\d-\d{4}"
            r"|\d{4}(?:[ -]\d{4}){2,}(?:[ -]\d{1,4})?|\d{4}[ -]\d{6}[ -]\d{5}|\d{9,})(?![\w-])"
        ),
        "[number]",
    ),
]
# Names of runs and threads, which must stay themselves, and what LangChain says of the model.
_KEPT = re.compile(r"(?:thread|session|conversation|run|checkpoint)_id|(?:ls|langgraph|checkpoint)_.*")
_WORDS = {"decision"}  # scores in words that may quote an error


class Privacy(BaseSettings):
    """What traces may hold, here and with LangSmith; by environment, `ARTRAG_TRACE_HIDE` and `ARTRAG_TRACE_REDACT`.

    It belongs to the process, not to a run: what starts a trace of a run knows nothing of the run's settings yet.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="ARTRAG_TRACE_", env_ignore_empty=True)

    hide: bool = Field(
        False, description="Leave out inputs, outputs and messages of errors; steps, times, tokens and scores remain."
    )
    redact: bool = Field(
        False, description="Write [email], [secret] and [number] for mail addresses, keys, long numbers."
    )

    def __init__(self, **given: Any) -> None:
        """Check the given settings; the environment fills the others.

        Raises:
            SettingsError: a value that is neither true nor false, or an unknown name.
        """
        try:
            super().__init__(**given)
        except ValidationError as error:
            (problem, *_) = error.errors()
            name = f"ARTRAG_TRACE_{problem['loc'][0]}".upper()
            raise SettingsError(f"{name} cannot be {problem['input']!r}: {problem['msg']}") from None

    def of(self, span: Span) -> Span:
        """The span as it may be kept; no error tells a key of this process."""
        if self.hide:
            about = wordless(span.metadata)
            return replace(span, inputs={}, outputs={}, error=error_class(span.error), metadata=about)
        if self.redact:
            texts = ("inputs", "outputs", "metadata")
            error = redacted(without_keys(span.error))
            return replace(span, error=error, **{name: redacted(getattr(span, name)) for name in texts})
        return replace(span, error=without_keys(span.error)) if span.error else span


def redacted(value: Any) -> Any:
    """Plain data without mail addresses, keys, and numbers of nine digits and more."""
    if isinstance(value, str):
        for rule, instead in _RULES:
            value = rule.sub(instead, value)
        return value
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return "[number]" if abs(value) >= 10**8 else value
    if isinstance(value, Mapping):
        return {redacted(key): item if _kept(key) else redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


def wordless(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a run whose texts are hidden."""
    found: dict[str, Any] = redacted({key: value for key, value in metadata.items() if key not in _WORDS})
    return found


def error_class(error: str) -> str:
    """The class of an error without its message."""
    return re.match(r"[\w.]*", error)[0] or "error" if error else ""  # type: ignore[index]


def _kept(key: Any) -> bool:
    return isinstance(key, str) and bool(_KEPT.fullmatch(key))
