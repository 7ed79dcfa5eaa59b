"""The audit of dependencies never takes silence for a pass."""

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fakes import ROOT

FINE = {"name": "fine", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}]}
HOPELESS = {"name": "old", "version": "1.0", "vulns": [{"id": "GHSA-2", "fix_versions": []}]}
MISSED = {"name": "gone", "skip_reason": "not found on PyPI"}


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("packages", "code", "last"),
    [
        ([FINE, FINE], 0, "2 packages audited, nothing known"),
        ([FINE, BAD], 1, "bad 1.0: PYSEC-1, mended in 1.1, 2.0"),
        ([HOPELESS], 1, "old 1.0: GHSA-2, mended in no version"),
        ([FINE, MISSED], 3, "NOT AUDITED: 1 of 2 packages could not be looked up"),
        ([BAD, *[MISSED] * 9], 1, "NOT AUDITED: 9 of 10 packages could not be looked up"),
        ([], 3, "NOT AUDITED: 0 of 0 packages could not be looked up"),
    ],
)
def test_what_an_answer_means(audit: Any, packages: list[Any], code: int, last: str) -> None:
    found, said = audit.verdict({"dependencies": packages})
    assert (found, said[-1]) == (code, last) and len(said) <= 8


@pytest.mark.parametrize(
    ("out", "err", "code", "told"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', "", 0, "1 packages audited"),
        (
            "",
            "Traceback\nConnectionError: no route",
            3,
            "NOT AUDITED: pip-audit gave no answer (ConnectionError: no rou",
        ),
        ("", "", 3, "it said nothing"),
    ],
)
def test_a_service_out_of_reach_is_no_pass(
    audit: Any, out: str, err: str, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    asked: list[list[str]] = []

    def run(words: list[str], **_: Any) -> Any:
        asked.append(words)
        return subprocess.CompletedProcess(words, 1, out, err)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(SystemExit) as ended:
        audit.main()
    assert ended.value.code == code and told in capsys.readouterr().out
    assert asked[0][-1] == str(ROOT / "constraints.txt")


def test_what_is_ignored_has_a_reason(audit: Any) -> None:
    assert audit.ignored("# a remark\n\nPYSEC-1 only its server is touched, which is never begun\n") == ["PYSEC-1"]
    with pytest.raises(SystemExit, match="PYSEC-1 is ignored without a reason"):
        audit.ignored("PYSEC-1\n")
    assert isinstance(audit.ignored((ROOT / ".ci" / "audit-ignore.txt").read_text("utf-8")), list)
