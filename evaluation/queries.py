"""Questions with the chunks or documents that answer them, as retrieval is measured on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artrag.errors import UsageError
from artrag.evaluation.rows import read_rows

QRELS = "qrels.tsv"


@dataclass(frozen=True, slots=True)
class Query:
    """A question; `relevant` holds ids of chunks (`<document id>#<n>`) or of documents, each once."""

    id: str
    question: str
    relevant: tuple[str, ...] = ()


def read_queries(path: Path) -> list[Query]:
    """The questions of a JSON Lines file: `{id, question, relevant?}`; BEIR's `_id` and `text` are the same thing.

    A question without `relevant` has what a BEIR `qrels.tsv` beside the file says (scores above 0), else the
    `evidence_ids` of its own row.

    Raises:
        UsageError: a row has no id or no question, an id comes twice, or a list of ids is none.
        PredictionsError: the file cannot be read; see `read_rows`.
    """
    judged = dict(_read_qrels(path.with_name(QRELS)))
    found: dict[str, Query] = {}
    for number, row in read_rows(path):
        place = f"{path}:{number}"
        name = str(row.get("id", row.get("_id", ""))).strip()
        question = row.get("question", row.get("text", ""))
        if not name or not isinstance(question, str) or not question.strip():
            raise UsageError(f"{place}: id {name!r}, question {question!r}: a row needs both, and neither blank")
        if name in found:
            raise UsageError(f"{place}: the id {name!r} comes twice: give each question an id of its own")
        own = _ids(row, "relevant", place)
        relevant = own if own is not None else judged.get(name) or _ids(row, "evidence_ids", place) or []
        found[name] = Query(name, question, tuple(dict.fromkeys(relevant)))
    return list(found.values())


def _ids(row: dict[str, Any], field: str, place: str) -> list[str] | None:
    value = row.get(field)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str | int) for name in value):
        raise UsageError(f"{place}: {field!r} is {value!r}: give a list of chunk ids or document ids")
    return [str(name) for name in value]


def _read_qrels(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(question id, ids judged relevant) of BEIR's three columns: query-id, corpus-id, score; with a header or not."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(path)!r} cannot be read ({error}): mend it or move it away") from None
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        columns = line.split("\t")
        if not line.strip() or (number == 1 and columns[-1].strip() == "score"):
            continue
        try:
            query, document, score = (column.strip() for column in columns)
            relevant = float(score) > 0
        except ValueError:
            raise UsageError(
                f"{path}:{number}: {line[:80]!r} is no judgement: give query-id, corpus-id and score, tab by tab"
            ) from None
        if relevant:
            found.setdefault(query, []).append(document)
    yield from found.items()
