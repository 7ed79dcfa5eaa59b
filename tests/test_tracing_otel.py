"""Traces over OpenTelemetry: a run arrives at an OTLP receiver, as privately, and holds up nothing."""

import socket

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="pip install 'artrag[otel]'")

from otlp_receiver import OTLPReceiver
from test_tracing_langsmith import KEY, NUMBER, PERSON, run

pytestmark = pytest.mark.server  # each run is a process of its own


def test_a_run_arrives_as_one_tree_with_its_scores() -> None:
    with OTLPReceiver() as receiver:
        assert run(receiver.environment())[2] == ""
    assert set(receiver.asked) == {"POST /v1/traces"}
    known = {one["id"]: one for one in receiver.spans}
    (root,) = (one for one in receiver.spans if one["parent"] not in known)
    assert root["name"] == "art" and {one["trace"] for one in receiver.spans} == {root["trace"]}
    stages = {one["name"] for one in receiver.spans if one["parent"] == root["id"]}
    assert stages == {"receive", "retrieve", "answer", "ask", "refine", "trust"}
    about = root["about"]
    assert about["langsmith.metadata.confidence"] == 0.9 and about["langsmith.metadata.refine_probability"] == 0.9
    assert (
        about["langsmith.metadata.decision"].startswith("trusts the refined") and "mine" in about["langsmith.span.tags"]
    )
    calls = [one for one in receiver.spans if one["name"] == "Chat"]
    assert [known[one["parent"]]["name"] for one in calls] == ["answer", "refine"]
    assert [one["about"]["gen_ai.usage.total_tokens"] for one in calls] == [15, 15]
    assert "Which event?" in about["gen_ai.prompt"] and "Nausea [1]." in about["gen_ai.completion"]


@pytest.mark.parametrize("setting", ["ARTRAG_TRACE_HIDE", "ARTRAG_TRACE_REDACT"])
def test_it_leaves_as_privately(setting: str) -> None:
    with OTLPReceiver() as receiver:
        run(receiver.environment(), **{setting: "1"})
    sent = b"".join(receiver.bodies)
    assert len(receiver.spans) > 10
    for secret in (PERSON, KEY, NUMBER):
        assert secret.encode() not in sent
    assert (b"Nausea" in sent) is (setting == "ARTRAG_TRACE_REDACT")


def test_a_receiver_that_does_not_answer_holds_up_nothing() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with OTLPReceiver(silent=True) as receiver:
        for url in (receiver.url, nobody):
            answered, leaving, errors = run(receiver.environment() | {"OTEL_EXPORTER_OTLP_ENDPOINT": url})
            assert answered < 1.5 and leaving < 2.0, url
            assert errors.strip().splitlines()[-1].startswith("the OTLP receiver did not take the whole trace: ")


def test_a_provider_of_the_users_own_is_let_be() -> None:
    before = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
kept = InMemorySpanExporter()
own = TracerProvider()
own.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(own)
"""
    after = """
from langsmith import run_trees
run_trees.get_cached_client().flush(5)
assert "art" in [one.name for one in kept.get_finished_spans()] and own._atexit_handler
"""
    with OTLPReceiver() as receiver:
        assert run(receiver.environment(), before=before, after=after)[2] == ""
    assert receiver.asked == []
