"""How long `artrag demo` takes on a prepared machine, and how much memory.

    python benchmarks/demo.py

Fetches the embedded models where they are not cached (not measured), then runs the demo twice, each time in a fresh
process and into a fresh folder. Prints one line of JSON: seconds and peak memory of both runs, processes they started
included, and the limits for the worse one.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from artrag.models.wheels import cached
from artrag.settings import EMBEDDED_BASE, EMBEDDED_ENCODER

ROOT = Path(__file__).parents[1]
ARTRAG = Path(sys.executable).parent / "artrag"
LIMIT_S, LIMIT_MIB = 120, 3072
KEPT = ("ARTRAG_CACHE", "ARTRAG_WHEELS")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name in KEPT or not name.startswith("ARTRAG_")}


def measured(*arguments: str) -> tuple[Any, float, float]:
    """What `artrag` prints as JSON, the seconds it takes, and its peak memory in MiB."""
    with tempfile.TemporaryFile("w+") as said:
        started = time.perf_counter()
        process = subprocess.Popen([ARTRAG, *arguments], cwd=ROOT, env=ENVIRONMENT, stdout=said)
        _, status, used = os.wait4(process.pid, 0)  # of this process and its own children; Popen's wait tells no memory
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        said.seek(0)
        return json.load(said), seconds, used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Prepare, measure, print."""
    if not all(cached(reference.removeprefix("pypi:")) for reference in (EMBEDDED_BASE, EMBEDDED_ENCODER)):
        measured("doctor", "--fetch", "--json")
    seconds, peaks = [], []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            report, took, peak = measured("demo", "--json", "--folder", folder)
        assert report["questions"], "the demo asked nothing"
        seconds.append(round(took, 1))
        peaks.append(round(peak))
    report = {
        "seconds": seconds,
        "limit_s": LIMIT_S,
        "peak_mib": peaks,
        "limit_mib": LIMIT_MIB,
        "ok": max(seconds) <= LIMIT_S and max(peaks) <= LIMIT_MIB,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
