"""What `import artrag` costs beyond LangGraph.

    python benchmarks/import_time.py

Imports in fresh processes, by turns: `artrag` with `artrag.build_art`, and `langgraph.graph`. Prints one line of JSON:
the median of seven of each in seconds, timed inside the process, their difference and its limit, and which of the heavy
packages came along with `import artrag`.
"""

import json
import subprocess
import sys
from statistics import median

TURNS = 7
LIMIT_S = 0.3
HEAVY = ["torch", "transformers", "faiss", "langchain_community"]
IMPORTS = {"artrag": "import artrag; artrag.build_art", "langgraph": "import langgraph.graph"}
CODE = """
import json, sys, time
started = time.perf_counter()
{imports}
seconds = time.perf_counter() - started
print(json.dumps([seconds, [name for name in {heavy} if name in sys.modules]]))
"""


def imported(what: str) -> tuple[float, list[str]]:
    """Seconds, and the heavy packages loaded."""
    code = CODE.format(imports=IMPORTS[what], heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, heavy = json.loads(done.stdout)
    return seconds, heavy


def main() -> None:
    """Measure, print."""
    for what in IMPORTS:
        imported(what)  # byte code and disk cache
    seconds: dict[str, list[float]] = {what: [] for what in IMPORTS}
    heavy: set[str] = set()
    for _ in range(TURNS):
        for what in IMPORTS:
            took, loaded = imported(what)
            seconds[what].append(took)
            heavy.update(loaded if what == "artrag" else [])
    ours, theirs = median(seconds["artrag"]), median(seconds["langgraph"])
    report = {
        "artrag_s": round(ours, 3),
        "langgraph_s": round(theirs, 3),
        "extra_s": round(ours - theirs, 3),
        "limit_s": LIMIT_S,
        "heavy_modules": sorted(heavy),
        "ok": ours - theirs <= LIMIT_S and not heavy,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
