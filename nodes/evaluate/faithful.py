"""How surely the passages bear each answer out, by a Truster; what it said is kept beside the answers."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

from artrag.errors import ModelCallError
from artrag.evaluation.answering import Answered
from artrag.evaluation.questions import Question
from artrag.ledger import Ledger, read_lines
from artrag.passages import own_words
from artrag.protocols import Truster
from artrag.telling import told

KEPT = "faithfulness.jsonl"


def faithfulness(
    folder: Path, questions: Sequence[Question], rows: Sequence[Answered], truster: Truster
) -> list[float]:
    """The Truster's confidence in each answer, 0 to 1; nan where none was made from passages.

    Raises:
        ModelCallError: the Truster failed.
    """
    about = str(getattr(truster, "about", type(truster).__qualname__))
    known = {row["key"]: float(row["value"]) for row in read_lines(folder / KEPT)}
    kept, values = Ledger.open(folder / KEPT), []
    try:
        for question, row in zip(questions, rows, strict=True):
            said = own_words(row.answer)
            if not row.passages or not said.strip() or row.abstained or row.error:
                values.append(math.nan)
                continue
            read = [[one["text"], one.get("context", "")] for one in row.passages]
            key = hashlib.sha256(json.dumps([about, question.question, said, read]).encode()).hexdigest()
            if key not in known:
                known[key] = truster.confidence(question.question, said, row.read)
                kept.add({"key": key, "value": known[key]})
            values.append(known[key])
    except Exception as error:  # any Truster, with errors of its own
        raise ModelCallError(
            f"the Truster failed at the answers ({told(error, 200)}): check it, and run it again; no answer is asked "
            "for again"
        ) from error
    finally:
        kept.close()
    return values
