"""Killed in the middle: what was paid for is kept, and a rerun completes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import json_lines
from openai_server import After, OpenAIServer

QUESTIONS = 30


def evaluate(server: OpenAIServer, questions: Path, run: Path) -> subprocess.Popen[str]:
    words = ["evaluate", "answers", "--questions", str(questions), "--run", str(run), "--systems", "direct,instructed"]
    code = "from artrag.interfaces.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ARTRAG_", "LANGSMITH_"))}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words, "--chat", server.reference, "--at-once", "2", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.server
def test_an_evaluation_killed_three_times_asks_nothing_twice(tmp_path: Path) -> None:
    rows = [{"id": str(n), "question": f"What is {n} plus 1?", "answers": [str(n + 1)]} for n in range(QUESTIONS)]
    questions, run = json_lines(tmp_path / "questions.jsonl", rows), tmp_path / "run"
    with OpenAIServer(otherwise=After(0.05, "4")) as server:
        for moment in (8, 25, 45):
            process = evaluate(server, questions, run)
            until = time.monotonic() + 60
            while len(server.asked) < moment and process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait(20) == -signal.SIGKILL, process.communicate()
            process.communicate()
        out, problems = evaluate(server, questions, run).communicate(timeout=120)
        asked = [prompt.split("What is ")[-1].split(" plus")[0] for prompt in server.asked]
    assert set(json.loads(out)["systems"]) == {"direct", "instructed"}, problems
    kept = [json.loads(line) for line in (run / "answers.jsonl").read_text("utf-8").splitlines()]
    assert len(kept) == len({row["key"] for row in kept}) == 2 * QUESTIONS
    # A kill loses at most the calls that were under way: two at each.
    assert 2 * QUESTIONS <= len(asked) <= 2 * QUESTIONS + 3 * 2
