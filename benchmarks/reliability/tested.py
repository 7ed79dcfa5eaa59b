"""What tests say, as a suite: which hold, which do not.

    python benchmarks/reliability/tested.py "upgrade" test_upgrade.py [MORE_FILES]

For what is tried once a case and not at random. One JSON line: cases tried and survived, and the names of the lost.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree  # noqa: S405 - of pytest's own file

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="its name in the table")
    parser.add_argument("files", nargs="+", help="of tests/")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        told = Path(folder) / "told.xml"
        words = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            f"--junit-xml={told}",
            *(f"tests/{file}" for file in given.files),
        ]
        ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        if not told.exists():
            raise SystemExit(ended.stdout[-500:] + ended.stderr[-500:])
        cases = [case for case in ElementTree.parse(told).iter("testcase") if case.find("skipped") is None]  # noqa: S314
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    lost = [re.sub(r"^test_", "", case.get("name", "")) for case in bad]
    line = {"suite": given.suite, "tried": len(cases), "survived": len(cases) - len(lost), "lost": lost}
    print(json.dumps(line))
    raise SystemExit(1 if lost or ended.returncode else 0)


if __name__ == "__main__":
    main()
