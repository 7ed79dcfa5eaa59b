"""Known vulnerabilities of the packages in constraints.txt, as PyPI knows them: pip-audit, and an honest end.

    make audit

Exits 0 where every package was looked up and nothing is known, 1 where something is, and 3 where a package could not be
looked up: that is no pass. `.ci/audit-ignore.txt` holds what has no mended version, an id and the reason a line.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PASSED, FOUND, UNKNOWN = 0, 1, 3


def ignored(text: str) -> list[str]:
    """The ids of an ignore list; each line that names one gives a reason, too."""
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if bare := [line[0] for line in lines if len(line) < 2]:
        raise SystemExit(f"{bare[0]} is ignored without a reason: write why behind it")
    return [line[0] for line in lines]


def verdict(told: dict[str, Any]) -> tuple[int, list[str]]:
    """What pip-audit's JSON means, and what to say."""
    packages = told["dependencies"]
    found = [
        f"{one['name']} {one['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'no version'}"
        for one in packages
        for fault in one.get("vulns", [])
    ]
    missed = [f"{one['name']}: {one['skip_reason']}" for one in packages if "skip_reason" in one]
    said = [*found, *missed[:5], *([f"... and {len(missed) - 5} more"] if len(missed) > 5 else [])]
    if missed or not packages:
        said.append(f"NOT AUDITED: {len(missed)} of {len(packages)} packages could not be looked up")
    elif not found:
        said.append(f"{len(packages)} packages audited, nothing known")
    return (FOUND if found else UNKNOWN if missed or not packages else PASSED), said


def main() -> None:
    """Ask, tell."""
    words = ["--format", "json", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    for name in ignored((HERE / "audit-ignore.txt").read_text("utf-8")):
        words += ["--ignore-vuln", name]
    pinned = str(HERE.parent / "constraints.txt")
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", *words, "-r", pinned], capture_output=True, text=True, check=False
    )
    try:
        code, said = verdict(json.loads(done.stdout))
    except ValueError:  # it gave up: the service is out of reach
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        code, said = UNKNOWN, [f"NOT AUDITED: pip-audit gave no answer ({last[:300]})"]
    sys.stdout.write("\n".join(said) + "\n")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
