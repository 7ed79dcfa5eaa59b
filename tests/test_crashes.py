"""Killed in the middle: what was paid for is kept, and a rerun completes."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT, json_lines
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


CRASHES = ROOT / "benchmarks" / "reliability" / "crashes.py"


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(CRASHES.parent), *sys.path])
    return importlib.import_module("crashes")


@pytest.mark.server  # as long as those are
def test_every_stage_survives_a_kill() -> None:
    words = [sys.executable, "-W", "ignore", str(CRASHES), "--kills", "1", "--seed", "1"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["lost"] == [] and found["tried"] == found["survived"] == 5
    assert all(one["tried"] == 1 and one["calls"] > 5 for one in found["killed"].values())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_suite_sees_what_is_lost_or_paid_again(crashes: Any, tmp_path: Path) -> None:
    def go(folder: Path, *, keep: bool, again: bool) -> None:
        done = folder / "done"
        known = done.read_text().split() if done.exists() else []
        for n in map(str, range(12)):
            if n not in known:
                crashes.paying(folder, lambda _: "yes").invoke(n)
                with done.open("a") as file:
                    file.write(f"{n}\n" if keep or len(known) < 5 else "")
            elif again:
                crashes.paying(folder, lambda _: "yes").invoke(n)
            time.sleep(0.02)

    def found(folder: Path) -> list[str]:
        return sorted((folder / "done").read_text().split(), key=int)

    for name, keep, again, lost in (("sound", True, False, ""), ("twice", True, True, "paid for again")):
        made = crashes.kill(
            crashes.Stage(name, lambda place, k=keep, a=again: go(place, keep=k, again=a), found), 3, 0, tmp_path
        )
        assert made["tried"] == 3 and (lost in str(made["lost"]) if lost else made["lost"] == []), made

    def halves(folder: Path) -> None:
        if (folder / "begun").exists():
            (folder / "done").write_text("1")
            raise ValueError("no start from here")
        (folder / "begun").touch()
        crashes.paying(folder, lambda _: "yes").invoke("0")
        time.sleep(0.5)
        (folder / "done").write_text("0")

    made = crashes.kill(crashes.Stage("halves", halves, found), 1, 0, tmp_path)
    assert "no start from here" in str(made["lost"])
