"""Users' regression tests by `pytest --artrag`, each in a process of its own: numpy cannot be loaded twice in one."""

from pathlib import Path

import pytest
from fakes import json_lines

APP = """
from langchain_core.runnables import RunnableLambda
from langchain_core.documents import Document

def say(given):
    if "fail" in given["question"]:
        raise ValueError("odd")
    right = "red" not in given["question"]
    read = [Document("The sky is blue.", metadata={"id": "a#0", "document": "a"})]
    return {"answer": "blue" if right else "green", "passages": read}

app = RunnableLambda(say)
def make():
    return app

def plain(question):
    return "blue"
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(my_app=APP)
    rows = [{"id": f"q{n}", "question": f"Colour {n}?", "answer": "blue", "relevant": ["a"]} for n in range(3)]
    json_lines(pytester.path / "q.jsonl", [*rows, {"id": "bad", "question": "Colour of red?", "answer": "blue"}])
    pytester.syspathinsert()
    return pytester


def test_thresholds_are_tests(project: pytest.Pytester) -> None:
    words = ("--artrag", "q.jsonl", "--artrag-app", "my_app:app", "--artrag-run", "run")
    result = project.runpytest_subprocess(
        *words, "--min-quality", "0.7", "--min-faithfulness", "0.7", "--min-recall", "1"
    )
    result.assert_outcomes(passed=4)
    result = project.runpytest_subprocess(*words, "--min-quality", "0.8", "--min-faithfulness", "0.76")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["quality is 0.750 [[]*[]] over 4 questions, and must be at least 0.8;*"])
    result.stdout.fnmatch_lines(["  0.00 bad: Colour of red?"])
    assert (project.path / "run" / "report.html").is_file()


def test_workers_of_xdist_ask_once(project: pytest.Pytester) -> None:
    app = APP.replace(
        "def say(given):", "def say(given):\n    open('asked', 'a').write('x'); import time; time.sleep(1)"
    )
    project.makepyfile(my_app=app)
    words = ("--artrag", "q.jsonl", "--artrag-app", "my_app:app", "--min-quality", "0.7", "--min-recall", "1")
    project.runpytest_subprocess(*words, "-n", "2").assert_outcomes(passed=3)
    assert (project.path / "asked").read_text() == 4 * "x"


def test_a_question_that_fails_is_a_failure(project: pytest.Pytester) -> None:
    json_lines(project.path / "q.jsonl", [{"id": "x", "question": "Will it fail?", "answer": "yes"}])
    result = project.runpytest_subprocess("--artrag", "q.jsonl", "--artrag-app", "my_app:make", "--min-recall", "0.5")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["1 of 1 questions failed;*", "recall was not measured*"])


def test_a_function_of_a_question_is_an_app(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--artrag", "q.jsonl", "--artrag-app", "my_app:plain", "--min-quality", "1")
    result.assert_outcomes(passed=2)


def test_an_unknown_app_is_named_and_other_tests_run_as_ever(project: pytest.Pytester) -> None:
    project.makepyfile(test_own="def test_own(): pass")
    result = project.runpytest_subprocess("--artrag", "q.jsonl", "--artrag-app", "my_app:nothing")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*--artrag-app 'my_app:nothing'*"])
    project.runpytest_subprocess().assert_outcomes(passed=1)


def test_pytest_loads_it_by_itself() -> None:
    from importlib.metadata import entry_points

    (found,) = [one for one in entry_points(group="pytest11") if one.name == "artrag"]
    assert Path(found.load().__file__).name == "pytest_plugin.py"
