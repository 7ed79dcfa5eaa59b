"""All suites of this folder, one after another, as one table: tried, survived, lost.

    python benchmarks/reliability/table.py [--local] [--write docs/reliability.md]

Prints each suite's JSON line as it ends, then the table. With `--local` the suites are those of the embedded model.
With `--write` the table takes the place of the one in that page. Exits 1 where a suite lost something or a limit was
not held; orders that a real model obeys are measured, not held against it.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from artrag.settings import EMBEDDED_BASE, EMBEDDED_CHAT

SUITES = (
    ("concurrency.py",),
    ("concurrency.py", "--client", "openai"),
    ("faults.py", "--runs", "2500"),
    ("faults_at_work.py", "--runs", "250"),
    ("crashes.py", "--kills", "30"),
    ("hostile.py",),
    ("fuzz.py", "--seconds", "10"),
    ("tested.py", "paths, archives, keys", "test_source.py", "test_secrets.py", "test_index_input.py", "test_audit.py"),
    ("tested.py", "upgrade", "test_upgrade.py"),
    ("soak.py", "--questions", "2000"),
)
LOCAL = (
    ("hostile.py", "--chat", EMBEDDED_BASE),
    ("hostile.py", "--chat", EMBEDDED_CHAT),
    ("../concurrent_local.py",),
)


def place(name: str) -> re.Pattern[str]:
    """Where the table of this name stands in a page."""
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of the {name} -->)", re.DOTALL)


def run(words: tuple[str, ...]) -> dict[str, Any]:
    """A suite's line; one that gives none has lost everything."""
    script = Path(__file__).parent / words[0]
    ended = subprocess.run([sys.executable, str(script), *words[1:]], capture_output=True, text=True, check=False)
    try:
        line: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        line = {"suite": " ".join(words), "tried": 1, "survived": 0, "lost": [ended.stderr[-500:]]}
    print(json.dumps(line), flush=True)
    return line


def measured(line: dict[str, Any]) -> str:
    """What a suite measured beside its counts."""
    if "ratio" in line:
        seconds = line["seconds"]
        times = f"{seconds['together']:.2f} s together, {seconds['one']:.2f} s one: {line['ratio']:.2f} times"
        return times + (f" (limit {line['limit']})" if line.get("limit") else "")
    if "gain" in line:
        seconds = line["seconds"]
        times = f"{seconds['one_after_another']:.1f} s one after another, {seconds['at_once']:.1f} s at once"
        return f"{times}: {line['gain']:.1f} times (at least {line['at_least']})"
    if "obeyed" in line:
        told = (f"{what} {line[what]['before']} before, {line[what]['after']} after" for what in ("obeyed", "changed"))
        return "; ".join(told)
    if "growth" in line:
        grown = ", ".join(f"{what} {share:+.1%}" for what, share in line["growth"].items())
        return f"{grown}; p99 {line['seconds']['p99']:.2f} s, {line['tail']:.1f} times p50"
    if "killed" in line:
        killed = ", ".join(f"{one['tried']} in {name}" for name, one in line["killed"].items())
        calls, again = (sum(one[key] for one in line["killed"].values()) for key in ("calls", "again"))
        return f"killed {killed}; {again} of {calls} calls again, which a kill had cut short"
    if "inputs" in line:
        return f"{len(line['inputs'])} properties, by coverage"
    if "ended" in line:
        ends: dict[str, int] = {}
        for counted in line["ended"].values():
            for end, n in counted.items():
                ends[end] = ends.get(end, 0) + n
        return ", ".join(f"{n} {end}" for end, n in sorted(ends.items(), key=lambda item: -item[1]))
    return ""


def held(line: dict[str, Any]) -> bool:
    """Was nothing lost, and every limit held?"""
    within = line["ratio"] <= line["limit"] if line.get("limit") and "ratio" in line else line.get("held", True)
    enough = line.get("gain", 0) >= line.get("at_least", 0)
    return bool(within and enough and (line["survived"] == line["tried"] or line.get("measured_only")))


def table(lines: list[dict[str, Any]]) -> str:
    """The lines in Markdown."""
    rows = ["| suite | tried | survived | lost | measured |", "|---|---:|---:|---:|---|"]
    rows += [
        f"| {line['suite']} | {line['tried']} | {line['survived']} | {line['tried'] - line['survived']} | "
        f"{measured(line)} |"
        for line in lines
    ]
    return "\n".join(rows) + "\n"


def main() -> None:
    """Run all, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="page that holds the table")
    parser.add_argument("--local", action="store_true", help="the suites of the embedded model")
    given = parser.parse_args()
    lines = [run(words) for words in (LOCAL if given.local else SUITES)]
    made = table(lines)
    print(f"\n{made}")
    if given.write:
        page = given.write.read_text("utf-8")
        where = place("local table" if given.local else "table")
        given.write.write_text(where.sub(lambda _: made, page), "utf-8")
    raise SystemExit(0 if all(held(line) for line in lines) else 1)


if __name__ == "__main__":
    main()
