"""What stands in a Qdrant collection: chunks and documents as points, BM25 as sparse vectors, filters.

BM25 is split between the two sides: the term weights are computed here and stored, the engine multiplies them by its
inverse document frequency (`Modifier.IDF`). That is `rank_bm25.BM25Okapi` but for two things: the engine's idf is
ln(1 + (N - n + 0.5) / (n + 0.5)), which no common term makes negative, and the average length is the one that the
collection was built with.
"""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from artrag.errors import UsageError
from artrag.index import filters
from artrag.index.bm25 import K1, B
from artrag.index.catalog import StoredChunk, StoredDocument
from artrag.index.passage import Passage

if TYPE_CHECKING:
    from qdrant_client import models

PIECE = 1_000_000
"""Characters of a document in one point; a server takes requests up to 32 MB."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A point before it is sent.

    Attributes:
        id: UUID5 of part, kind and name: the same thing always has the same one.
        payload: what is stored with it; `hash` tells whether it changed.
        row: row of its vector in the local index; None for a document, which no arm finds.
        indexed: the text that the arms index.
    """

    id: str
    payload: dict[str, Any]
    row: int | None = None
    indexed: str = ""


def point_id(part: str, kind: str, name: str) -> str:
    """The stable id of a chunk's or a document piece's point."""
    return str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, f"artrag:{part}"), f"{kind}:{name}"))


def chunk_entry(part: str, chunk: StoredChunk, document: StoredDocument, vector: bytes) -> Entry:
    """The point of a chunk; `vector` is its dense vector's bytes, float32."""
    payload = {
        "kind": "chunk",
        "part": part,
        "id": chunk.id,
        "document": chunk.document,
        "text": chunk.text,
        "context": chunk.context,
        "start": chunk.start,
        "end": chunk.end,
        "metadata": chunk.metadata | {"title": document.title},
        "tags": sorted(_tags(document, chunk)),
    }
    return Entry(
        point_id(part, "chunk", chunk.id), payload | {"hash": _hash(payload, vector)}, chunk.row, chunk.indexed
    )


def document_entries(part: str, document: StoredDocument) -> Iterator[Entry]:
    """The points of a document's text, in pieces; they have no vectors, so no search meets them."""
    about = asdict(document)
    del about["text"]
    starts = range(0, max(len(document.text), 1), PIECE)
    for n, start in enumerate(starts):
        payload = {
            "kind": "document",
            "part": part,
            "piece": n,
            "pieces": len(starts),
            "text": document.text[start : start + PIECE],
            "about": about,
        }
        yield Entry(point_id(part, "document", f"{n}:{document.id}"), payload | {"hash": _hash(payload, b"")})


def _hash(payload: Mapping[str, Any], vector: bytes) -> str:
    words = json.dumps(payload, sort_keys=True, ensure_ascii=True).encode()
    return hashlib.blake2b(words + b"\0" + vector, digest_size=16).hexdigest()


def as_document(pieces: Sequence[Mapping[str, Any]]) -> StoredDocument:
    """A document from the payloads of its pieces."""
    first, *_ = ordered = sorted(pieces, key=lambda piece: int(piece["piece"]))
    return StoredDocument(**first["about"], text="".join(piece["text"] for piece in ordered))


def as_passage(payload: Mapping[str, Any], score: float, arms: dict[str, dict[str, float]]) -> Passage:
    """A passage from a chunk's payload."""
    return Passage(
        id=payload["id"],
        document=payload["document"],
        text=payload["text"],
        context=payload["context"],
        score=score,
        start=payload["start"],
        end=payload["end"],
        arms=arms,
        metadata=dict(payload["metadata"]),
    )


def token_id(token: str) -> int:
    """The dimension of a token: 32 bits of its hash, the same everywhere and without a vocabulary to keep.

    Two tokens that share one count as the same word. Of a million tokens about 230 do.
    """
    return int.from_bytes(hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")


def document_weights(tokens: Sequence[str], average_length: float) -> dict[int, float]:
    """BM25's term weights of a document, without the inverse document frequency; dimension -> weight."""
    norm = K1 * (1 - B + B * len(tokens) / average_length)
    counts = Counter(map(token_id, tokens))
    return {term: count * (K1 + 1) / (count + norm) for term, count in counts.items()}


def query_weights(tokens: Sequence[str]) -> dict[int, float]:
    """A question counts each of its tokens as often as it has it; dimension -> weight."""
    return {term: float(count) for term, count in Counter(map(token_id, tokens)).items()}


def sparse(weights: Mapping[int, float]) -> "models.SparseVector":
    """Weights in the client's form."""
    from qdrant_client import models

    return models.SparseVector(indices=list(weights), values=list(weights.values()))


def condition(where: Mapping[str, Any] | None) -> "models.Filter | None":
    """The engine's form of a filter (`artrag.index.filters`), over the tags of the chunks.

    Of the patterns of a path the engine knows folders (`docs/*`) and endings (`*.md`).

    Raises:
        UsageError: for a filter that is none, or a pattern that the engine does not know.
    """
    if not where:
        return None
    from qdrant_client import models

    must: list[Any] = []
    for key, wanted in where.items():
        filters.condition(key, wanted)  # complains about what is no filter
        values = [wanted] if isinstance(wanted, str) or not isinstance(wanted, Iterable) else list(wanted)
        if key == "path" and "*" in values:
            continue
        tags = [tag for value in values for tag in (_path_tags(value) if key == "path" else [_tag(key, value)])]
        must.append(models.FieldCondition(key="tags", match=models.MatchAny(any=tags)))
    return models.Filter(must=must)


def _tags(document: StoredDocument, chunk: StoredChunk) -> set[int]:
    """All that a filter may ask of a chunk, one number each: a single small index of the engine's serves every key."""
    tags = {_tag("document", document.id), _tag("title", document.title), _tag("path", document.path)}
    at = document.path.find("/")
    while at >= 0:
        tags.add(_tag("path", document.path[: at + 1] + "*"))
        at = document.path.find("/", at + 1)
    name = document.path.rpartition("/")[2]
    tags |= {_tag("path", "*" + name[at:]) for at, character in enumerate(name) if character == "."}
    for about in (document.metadata, chunk.metadata):
        for key, value in about.items():
            if key not in ("document", "path", "title"):
                tags |= {_tag(key, one) for one in (value if isinstance(value, list) else [value]) if _is_atom(one)}
    return tags


def _is_atom(value: Any) -> bool:
    return value is None or isinstance(value, str | bool | int | float)


def _tag(key: str, value: Any) -> int:
    """A key and its value as 63 bits of their hash; 1 is 1.0, but neither true nor "1"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    said = json.dumps([key, value]).encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big") >> 1


def _path_tags(pattern: str) -> list[int]:
    middle = pattern[:-1] if pattern.endswith("/*") else pattern[1:] if pattern.startswith("*.") else pattern
    if "*" in middle or "?" in middle or (pattern.startswith("*.") and "/" in middle):
        raise UsageError(
            f"cannot filter 'path' by {pattern!r} on Qdrant: give a path, a folder ('docs/*') or an ending ('*.md')"
        )
    return [_tag("path", pattern)]
