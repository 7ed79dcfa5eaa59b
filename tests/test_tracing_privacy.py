"""What traces may hold: redacted and hidden, in memory, in the file and in what is shown."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedAsker, ScriptedChat, ScriptedRetriever, ScriptedTruster, passage

import artrag
from artrag import Settings
from artrag.errors import ModelCallError, SettingsError
from artrag.interfaces import doctor
from artrag.tracing import LocalTracer, Privacy, as_html, as_text, read_spans, redacted

SECRET = {
    "write to bob.smith+x@mail.example.co.uk today": "write to [email] today",
    "keys sk-abc123def456, sk-proj-AbC_9-xxxxxx12": "keys [secret], [secret]",
    "ghp_0123456789abcdef lsv2_pt_0123_aa hf_AbCdEf012345": "[secret] [secret] [secret]",
    "AKIAIOSFODNN7EXAMPLE": "[secret]",
    "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxw-_": "[secret]",
    "OPENAI_API_KEY=hunter2hunter2 next": "OPENAI_API_KEY=[secret] next",
    '"password": "correct-horse"': '"password": "[secret]"',
    "Authorization: Bearer abcdefghijkl": "Authorization: Bearer [secret]",
    "postgres://user:pa55word@host/db": "postgres://[secret]@host/db",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\n-----END RSA PRIVATE KEY----- end": "[secret] end",
    "card 4111 1111 1111 1111, or 3782 822463 10005": "card [number], or [number]",
    "call +49 (30) 1234567 or (555) 123-4567": "call [number] or [number]",
    "SSN 123-45-6789, account 12345678901": "SSN [number], account [number]",
    "IBAN GB29 NWBK 6016 1331 9268 19.": "IBAN [number].",
}
HARMLESS = (
    "on 2019-03-04 12:30:11 and 2019-03-04T12:30:11Z",
    "0.8333333333333 is 5 / 6; 1,234,567,890 - 12 = 3",
    "scores of 10 20 30 40 50 60 70 80, 100 200 300",
    "run 01a20227-12af-768a-9304-8a1815b35406",
    "scikit sk-learn-something, a token: yes, secret: no",
    "FL-2004, PMP-417, max_flow_2, AB-9000",
    "a bearer of bad news, user@host",
    "in 2019-2020 there were 12345678",
)
HOSTILE = ["a", "a.", "a@", "a@a.", "http://", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "1 ", "1", "1-", "(1", "+"]
HOSTILE += [
    "eyJ",
    "eyJa.",
    "sk-",
    "api_key=",
    "api_key=   ",
    "a:",
    "Bearer ",
    "AA11 ",
    "AA11",
    "://a:",
    "1234 ",
    "TOKEN",
]


def art(*script: Any) -> Any:
    found = ScriptedRetriever(found=[passage("Nausea was common. Mail bob@example.com.")])
    return artrag.build_art(
        chat=ScriptedChat(*script), asker=ScriptedAsker(0.1), truster=ScriptedTruster({"Nausea": 0.9}), retriever=found
    ).compile()


def config(tracer: LocalTracer) -> Any:
    return {"callbacks": [tracer], "metadata": {"thread_id": "12345678901", "customer": "bob@example.com"}}


@pytest.mark.parametrize("text", SECRET)
def test_mail_keys_and_numbers_are_redacted(text: str) -> None:
    assert redacted(text) == SECRET[text]
    assert redacted({"a": [text, {text: (text,)}]}) == {"a": [SECRET[text], {SECRET[text]: [SECRET[text]]}]}
    assert redacted(SECRET[text]) == SECRET[text]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_not_private_stays(text: str) -> None:
    assert redacted(text) == text


def test_numbers_that_are_no_text_are_redacted_too() -> None:
    data = {
        "card": 4111111111111111,
        "n": 12,
        "score": 0.123456789012,
        "yes": True,
        "thread_id": "123456789",
        "x": None,
    }
    assert redacted(data) == data | {"card": "[number]"}


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_takes_long_to_redact(piece: str) -> None:
    began = time.perf_counter()
    redacted(piece * (20_000 // len(piece)))
    assert time.perf_counter() - began < 2


def test_a_redacted_trace_holds_no_secret_anywhere(tmp_path: Path) -> None:
    tracer = LocalTracer(tmp_path / "trace.jsonl", privacy=Privacy(redact=True))
    art("Nausea, says bob@example.com.").invoke({"question": "Which? sk-abc123def456"}, config(tracer))
    shown = [(tmp_path / "trace.jsonl").read_text("utf-8"), as_html(tracer.spans), as_text(tracer.spans)]
    for made in shown:
        assert "bob@" not in made and "sk-abc" not in made and "[email]" in made
    assert "[secret]" in shown[0] and read_spans(tmp_path / "trace.jsonl") == tracer.spans
    assert (
        tracer.spans[-1].metadata["thread_id"] == "12345678901" and tracer.spans[-1].metadata["customer"] == "[email]"
    )


def test_a_hidden_trace_holds_steps_times_tokens_and_scores(tmp_path: Path) -> None:
    tracer, open_one = LocalTracer(tmp_path / "trace.jsonl", privacy=Privacy(hide=True, redact=True)), LocalTracer()
    art("Nausea.").invoke({"question": "Which event?"}, config(tracer))
    art("Nausea.").invoke({"question": "Which event?"}, config(open_one))
    assert [(one.name, one.kind, one.tokens) for one in tracer.spans] == [
        (one.name, one.kind, one.tokens) for one in open_one.spans
    ]
    assert all(one.inputs == one.outputs == {} for one in tracer.spans)
    written = (tmp_path / "trace.jsonl").read_text("utf-8")
    page = as_html(tracer.spans)
    for secret in ("Nausea", "Which event", "bob@"):
        assert secret not in written and secret not in page
    about = tracer.spans[-1].metadata
    assert (about["confidence"], about["refine_probability"], about["retrieval_scores"]) == (0.9, 0.1, [1.0])
    assert "<dt>confidence</dt><dd>0.9</dd>" in page and '<span class="name">LangGraph</span>' in page


def test_errors_are_hidden_but_for_their_class() -> None:
    tracer = LocalTracer(privacy=Privacy(hide=True))
    with pytest.raises(ModelCallError):
        art(*[ConnectionError("bob@example.com")] * 3).invoke({"question": "Q?"}, config(tracer))
    assert {one.error for one in tracer.spans} == {"", "ConnectionError", "ModelCallError"}


def test_the_environment_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Privacy() == Privacy(hide=False, redact=False)
    monkeypatch.setenv("ARTRAG_TRACE_HIDE", "1")
    monkeypatch.setenv("ARTRAG_TRACE_REDACT", "")
    assert Privacy() == Privacy(hide=True, redact=False)
    tracer = LocalTracer()
    art("Nausea.").invoke({"question": "Q?"}, {"callbacks": [tracer]})
    assert "Nausea" not in json.dumps([one.to_json() for one in tracer.spans])
    assert LocalTracer(privacy=Privacy(hide=False))._privacy.hide is False


def test_the_doctor_says_what_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "tracing_is_enabled", lambda: True)
    monkeypatch.setenv("LANGSMITH_API_KEY", "x")
    told = []
    for hide, redact in ((0, 0), (0, 1), (1, 1)):
        monkeypatch.setenv("ARTRAG_TRACE_HIDE", str(hide))
        monkeypatch.setenv("ARTRAG_TRACE_REDACT", str(redact))
        told.append(doctor._tracing(Settings())["found"])
    assert told == [f"LangSmith on, {kept}with a key" for kept in ("", "redacted, ", "texts hidden, ")]


def test_nonsense_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTRAG_TRACE_HIDE", "perhaps")
    with pytest.raises(SettingsError, match="ARTRAG_TRACE_HIDE cannot be 'perhaps'"):
        LocalTracer()
    monkeypatch.delenv("ARTRAG_TRACE_HIDE")
    with pytest.raises(SettingsError, match="ARTRAG_TRACE_HIDDEN"):
        Privacy(hidden=True)  # type: ignore[call-arg]
