"""Killed in the middle: what was paid for is kept, and a rerun completes."""

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT, json_lines
from openai_server import After, OpenAIServer

QUESTIONS, AT_ONCE, KILLS = 1_000, 8, 5


def evaluate(server: OpenAIServer, questions: Path, run: Path) -> subprocess.Popen[str]:
    words = ["evaluate", "answers", "--questions", str(questions), "--run", str(run), "--systems", "direct"]
    code = "from artrag.interfaces.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ARTRAG_", "LANGSMITH_"))}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words, "--chat", server.reference, "--at-once", str(AT_ONCE), "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(run: Path) -> list[str]:
    """The ids of the rows that are there, whole."""
    path = run / "answers.jsonl"
    return [json.loads(line)["id"] for line in path.read_text("utf-8").split("\n")[:-1]] if path.exists() else []


@pytest.mark.server
def test_a_run_of_1000_questions_that_is_killed_again_and_again_asks_none_twice(tmp_path: Path) -> None:
    rows = [{"id": str(n), "question": f"What is {n} plus 1?", "answers": [str(n + 1)]} for n in range(QUESTIONS)]
    questions, run = json_lines(tmp_path / "questions.jsonl", rows), tmp_path / "run"
    kept: list[tuple[int, set[str]]] = []  # how many were asked when a run was killed, and what was finished then
    with OpenAIServer(otherwise=After(0.002, "4")) as server:
        for moment in sorted(random.Random(0).sample(range(20, QUESTIONS - 50), KILLS)):
            process = evaluate(server, questions, run)
            until = time.monotonic() + 60
            while len(server.bodies) < moment and process.poll() is None and time.monotonic() < until:
                time.sleep(0.001)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait(20) == -signal.SIGKILL, process.communicate()
            process.communicate()
            time.sleep(0.1)  # what is on its way to the server comes in
            kept.append((len(server.bodies), set(finished(run))))
        out, problems = evaluate(server, questions, run).communicate(timeout=120)
        asked = [prompt.split("What is ")[-1].split(" plus")[0] for prompt in server.asked]
    assert json.loads(out)["systems"]["direct"]["counts"]["quality"] == QUESTIONS, problems
    assert all(0 < len(done) < QUESTIONS for _, done in kept) and len({len(done) for _, done in kept}) == KILLS
    for before, done in kept:
        assert not done & set(asked[before:])  # a finished row is never asked again
    assert sorted(finished(run), key=int) == [row["id"] for row in rows]  # and none is there twice
    # A kill loses at most the calls that were under way.
    assert QUESTIONS <= len(asked) <= QUESTIONS + KILLS * AT_ONCE


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
