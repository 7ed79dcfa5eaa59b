"""What our own source never does: run what it reads."""

import ast
import textwrap
from pathlib import Path

import pytest
from test_house import SOURCES

CODE_IN_DATA = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle", "yaml"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"}
NEVER = {"trust_remote_code", "allow_dangerous_deserialization", "shell", "allow_pickle"}
"""Keyword arguments that may only be False."""


def faults(source: str) -> list[str]:
    """What a source does that it should not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"imports {name}" for name in names if name.split(".")[0] in CODE_IN_DATA]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in RUNS_TEXT | SHELLS:
            found.append(f"calls {called}")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        for name in NEVER & given.keys():
            if not (isinstance(given[name], ast.Constant) and given[name].value is False):
                found.append(f"{called} with {name}")
        if called == "torch.load" and ast.unparse(given.get("weights_only", ast.Constant(False))) != "True":
            found.append("torch.load of more than weights")
        if called in ("np.load", "numpy.load") and "allow_pickle" not in given:
            found.append("np.load without allow_pickle=False")
    return found


@pytest.mark.parametrize(("room", "path"), SOURCES, ids=lambda value: getattr(value, "name", value))
def test_nothing_that_is_read_is_run(room: str, path: Path) -> None:
    assert faults(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import yaml.loader",
        "eval(text)",
        "exec(text)",
        "__import__(name)",
        "os.system(command)",
        "subprocess.run(command, shell=True)",
        "load(name, trust_remote_code=trusted)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_the_scan_sees_it(line: str) -> None:
    assert faults(textwrap.dedent(f"def work():\n    {line}"))


def test_the_scan_lets_the_rest_be() -> None:
    for line in ("model.eval()", "re.compile(x)", "np.load(path, allow_pickle=False)", "run(command, shell=False)"):
        assert faults(line) == []
