"""Draw docs/demo.svg: the first question of the demo as the terminal shows it.

python docs/demo_picture.py
"""

import contextlib
import io
import json
import tempfile
from pathlib import Path

from rich.console import Console

from artrag.interfaces.demo import read_questions, run_demo

HERE = Path(__file__).parent.absolute()
EXAMPLES = HERE.parent / "examples"


def main() -> None:
    """Run the demo on one question, recorded."""
    out = Console(record=True, width=112, file=io.StringIO())
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        first = Path("questions.jsonl")
        first.write_text(json.dumps(read_questions(EXAMPLES / "questions.jsonl")[0]), encoding="utf-8")
        run_demo(
            folder=Path(".artrag/demo"),
            corpus=EXAMPLES / "corpus",
            questions=first,
            out=out,
            err=Console(stderr=True),
        )
    out.save_svg(str(HERE / "demo.svg"), title="artrag demo")


if __name__ == "__main__":
    main()
