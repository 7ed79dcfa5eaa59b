"""How passages are written into a prompt, and how an answer's citations are found."""

import re
from collections.abc import Mapping, Sequence

from langchain_core.documents import Document

from artrag.evidence import coverage, marks, term_weights, whole, without_marks
from artrag.state import Citation
from artrag.text import sentences, visible

CITE_ABOVE = 0.5
_LATE_MARK = re.compile(r"([.!?。]+)((?:\s*\[\d{1,2}\])+)")
_MADE_UP = re.compile(r"</?passage>|\n[ \t]*(?:Question|Passage|Answer the question)\b", re.IGNORECASE)
_DELIMITER = re.compile(r"[<\uff1c\ufe64](\s*/?\s*(?:passage|document|chunk|context)\b)", re.IGNORECASE)
_ENDING = re.compile(r"(.*?)([.!?。]*)", re.DOTALL)


def numbered(passages: Sequence[Document] | None, *, best_last: bool = True) -> str:
    """The passages as prompt text: numbered by rank, each between tags, its context apart from its own words.

    In a prompt the best passage stands last, next to the question: small models read what is near. A passage cannot
    close its own tag: passages are data.
    """
    blocks = [f"[{n}] {tagged(passage)}" for n, passage in enumerate(passages or [], start=1)]
    return "\n".join(reversed(blocks) if best_last else blocks)


def tagged(passage: Document) -> str:
    """A passage between tags, its context apart from its own words."""
    context = data(passage.metadata.get("context") or "")
    head = f"({context})\n" if context else ""
    return f"<passage>\n{head}{data(passage.page_content)}\n</passage>"


def data(text: str) -> str:
    """Words of a document as they may stand in a prompt: they close none of our delimiters, and nothing is hidden."""
    return _DELIMITER.sub(r"‹\1", visible(text))


def cite(answer: str, passages: Sequence[Document] | None) -> tuple[str, list[Citation]]:
    """The answer with checked citation marks, and where each mark leads.

    Marks that the model wrote stay where the passage exists; a sentence without one, or with marks of passages that
    do not bear it out, gets the passage that does so best, if there is one. Marks that lead nowhere are taken out.
    Without passages the text stays as it is.
    """
    if not passages:
        return (answer if passages is None else without_marks(answer)), []
    weights = term_weights(passages)
    citations: list[Citation] = []
    out: list[str] = []
    last = 0
    text = _LATE_MARK.sub(r"\2\1", answer)  # "sentence. [1]" -> "sentence [1].": the mark belongs to its sentence
    for sentence in sentences(text):
        at = text.index(sentence, last)
        out.append(text[last:at])
        last = at + len(sentence)
        bare = without_marks(sentence)
        shares, bearing = _bearing(bare, passages, weights)
        kept = [n for n in marks(sentence) if n <= len(passages)]
        if bearing and not set(bearing).intersection(kept):
            kept = bearing[:1]
        body, end = _ENDING.fullmatch(bare).groups()  # type: ignore[union-attr]
        out.append(body + "".join(f" [{n}]" for n in kept) + end if body else "")
        citations += [_citation(n, passages[n - 1], bare, shares[n - 1]) for n in kept if body]
    return "".join(out).strip(), citations


def marks_of(answer: str, passages: Sequence[Document]) -> list[tuple[int, bool]]:
    """Each citation mark of an answer, and whether its passage bears the mark's sentence out."""
    weights = term_weights(passages)
    held = []
    for sentence in sentences(_LATE_MARK.sub(r"\2\1", answer)):
        bare = without_marks(sentence)
        bearing = _bearing(bare, passages, weights)[1] if passages else []
        held += [(n, n in bearing) for n in marks(sentence)]
    return held


def _bearing(
    sentence: str, passages: Sequence[Document], weights: Mapping[str, float]
) -> tuple[list[float], list[int]]:
    """How much of a sentence each passage covers, and the numbers of those that bear it out, the best first.

    That is at least half of it, and with its own words at least half of what the best one's say. Contexts of one
    document are alike, and who follows a mark looks at the passage's own words.
    """
    shares = [coverage(sentence, whole(passage), weights) for passage in passages]
    own = [coverage(sentence, passage.page_content, weights) for passage in passages]
    able = [n for n, share in enumerate(shares) if share >= CITE_ABOVE]
    able.sort(key=lambda n: -(shares[n] + own[n]))
    return shares, [n + 1 for n in able if 2 * own[n] >= own[able[0]]]


def _citation(n: int, passage: Document, sentence: str, share: float) -> Citation:
    about = passage.metadata
    return Citation(
        n=n,
        passage=str(about.get("id", passage.id or n)),
        document=str(about.get("document", about.get("source", ""))),
        start=int(about.get("start", 0)),
        end=int(about.get("end", len(passage.page_content))),
        sentence=sentence,
        support=round(share, 4),
    )


def own_words(text: str) -> str:
    """A short answer without the next passage or question that small models go on to make up."""
    kept = _MADE_UP.split(text, maxsplit=1)[0].strip()
    return kept or text.strip()
