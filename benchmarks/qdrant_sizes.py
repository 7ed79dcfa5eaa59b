"""Bytes a chunk takes in Qdrant, by what they are for; the sizing in docs/qdrant.md stands on it.

    pip install qdrant-edge-py
    python benchmarks/qdrant_sizes.py --chunks 50000

Qdrant's own engine, which qdrant-edge-py runs in this process, writes one optimised shard: the chunks of a folder of
Markdown over and over, as `artrag publish` sends them, with random unit vectors. One JSON line.
"""

import argparse
import json
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import qdrant_edge as edge

from artrag.index.catalog import StoredChunk, StoredDocument
from artrag.index.chunking import cut
from artrag.index.context import lead_of, situate, title_of
from artrag.index.qdrant_points import chunk_entry, document_entries, document_weights
from artrag.index.tokens import tokenize

BATCH = 500


def main() -> None:
    """Write the shard, walk its files, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=Path, default=Path("examples/corpus"))
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=384)
    given = parser.parse_args()
    drawn = np.random.default_rng(0)
    documents = [_read(path, given.documents) for path in sorted(given.documents.rglob("*.md"))]
    chunks = [(document, chunk) for document in documents for chunk in _cut(document)]
    average = sum(len(tokenize(chunk.indexed)) for _, chunk in chunks) / len(chunks)
    with tempfile.TemporaryDirectory() as folder:
        int8 = edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8)
        config = edge.EdgeConfig(
            vectors={"dense": edge.EdgeVectorParams(size=given.dimension, distance=edge.Distance.Dot)},
            sparse_vectors={"bm25": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
            quantization_config=int8,
            on_disk_payload=True,
        )
        shard = edge.EdgeShard.create(folder, config)
        tags = edge.IntegerIndexParams(lookup=True, range=False)
        shard.update(edge.UpdateOperation.create_field_index("tags", tags))
        started, words, postings = time.perf_counter(), 0, 0
        batch: list[edge.Point] = []
        for n, (document, chunk) in enumerate(islice(cycle(chunks), given.chunks)):
            weights = document_weights(tokenize(chunk.indexed), average)
            vector = drawn.standard_normal(given.dimension)
            entry = chunk_entry(str(n), chunk, document, b"")
            words, postings = words + len(chunk.indexed), postings + len(weights)
            sparse = edge.SparseVector(list(weights), list(weights.values()))
            dense = (vector / np.linalg.norm(vector)).tolist()
            batch.append(edge.Point(entry.id, {"dense": dense, "bm25": sparse}, entry.payload))
            if chunk.id.endswith("#0"):
                batch += [edge.Point(e.id, {}, e.payload) for e in document_entries(str(n), document)]
            if len(batch) >= BATCH:
                shard.update(edge.UpdateOperation.upsert_points(batch))
                batch = []
        shard.update(edge.UpdateOperation.upsert_points(batch))
        sent = time.perf_counter() - started
        shard.optimize()
        shard.flush()
        shard.close()
        sizes = _sizes(Path(folder))
    found = {
        "chunks": given.chunks,
        "dimension": given.dimension,
        "characters_a_chunk": round(words / given.chunks),
        "postings_a_chunk": round(postings / given.chunks, 1),
        "bytes_a_chunk": {name: round(size / given.chunks, 1) for name, size in sorted(sizes.items())},
        "seconds_sending": round(sent, 1),
        "seconds_in_all": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(found))


def _read(path: Path, root: Path) -> StoredDocument:
    name, text = str(path.relative_to(root)), path.read_text("utf-8")
    return StoredDocument(name, str(root), name, title_of(text, name), text, "0" * 64, {"format": "text"})


def _cut(document: StoredDocument) -> list[StoredChunk]:
    return [
        StoredChunk(
            n,
            f"{document.id}#{n}",
            document.id,
            piece.text,
            situate(document.title, piece.section, document.path, lead_of(document.text, path=document.path)),
            piece.start,
            piece.end,
            {"section": " > ".join(piece.section)},
        )
        for n, piece in enumerate(cut(document.text, document.path))
    ]


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes on disk by what they are for; sparse files count as what they take."""
    found: dict[str, int] = {}
    for file in folder.rglob("*"):
        if file.is_file():
            parts = file.relative_to(folder).parts
            name = "log" if parts[0] == "wal" else parts[2] if len(parts) > 3 else "other"
            found[name] = found.get(name, 0) + file.stat().st_blocks * 512
    return found


if __name__ == "__main__":
    main()
