"""Publishing a local index to Qdrant: what changed is sent, what vanished is deleted, a rebuild is swapped in.

The local index stays the ledger. Every point carries a hash of its content, so a run that was killed is simply run
again: what had arrived is not sent twice. Several local indexes may publish into one collection as its parts, each
from its own machine. One publisher a part at a time.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from artrag.errors import EmbedderMismatchError, IndexNotFoundError, IndexVersionError, UsageError
from artrag.index.catalog import Catalog
from artrag.index.dense import Dense
from artrag.index.fusion import read_fusion
from artrag.index.manifest import Manifest, check_files, read_manifest
from artrag.index.qdrant_points import Entry, chunk_entry, document_entries, document_weights, sparse
from artrag.index.qdrant_server import IN_ENGINE, Address, Facts, Layout, Part, check_server, read_facts, talking
from artrag.index.tokens import tokenize

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

BATCH = 256
LARGEST_BATCH = 2_000_000
"""Characters of text in one request; a server takes requests up to 32 MB."""
PAGE = 1000
PATIENCE = 60
"""Seconds that a server may take for a batch."""
DRIFT = 0.25
"""Share by which chunks may grow or shrink before BM25's lengths are called out of date."""

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication did.

    Attributes:
        collection: the collection that the alias stands for now.
        sent, unchanged, deleted: points, of chunks and documents.
        documents, chunks: what this part holds.
        drift: how much longer chunks are than when the collection was made, as a share; see `DRIFT`.
    """

    collection: str
    sent: int
    unchanged: int
    deleted: int
    documents: int
    chunks: int
    drift: float


class _Ledger:
    """A local index, read as points."""

    def __init__(self, path: Path, part: str) -> None:
        self.path, self.part = path, part
        self.manifest: Manifest = read_manifest(path)
        check_files(path, self.manifest)
        folder = path / self.manifest.generation
        self.catalog = Catalog.open(folder / "catalog.sqlite")
        self.vectors = Dense.load(folder / "dense.faiss").vectors()

    def entries(self) -> Iterator[Entry]:
        for name in sorted(self.catalog.fingerprints()):
            document = self.catalog.document(name)
            yield from document_entries(self.part, document)
            for chunk in self.catalog.chunks_of(name):
                yield chunk_entry(self.part, chunk, document, self.vectors[chunk.row].tobytes())

    def averages(self) -> tuple[float, float]:
        """Tokens and characters of a chunk."""
        tokens = characters = 0
        for chunk in self.catalog.chunks():
            tokens += len(tokenize(chunk.indexed))
            characters += len(chunk.indexed)
        return max(tokens, 1) / self.manifest.chunks, max(characters, 1) / self.manifest.chunks


def publish(
    path: Path,
    url: str,
    *,
    part: str = "",
    rebuild: bool = False,
    layout: Layout | None = None,
    local_only: bool = False,
    client: "QdrantClient | None" = None,
    tell: Tell = lambda _what, _done, _all: None,
) -> Published:
    """Bring the index at `url` up to the local one at `path`.

    Args:
        path: directory of the local index.
        url: see `artrag.index.qdrant_server`.
        part: name of this local index among several that publish there.
        rebuild: fill a new collection beside the old one and swap it in when it is whole.
        layout: how a new collection is laid out; what is not set stays as it was.
        local_only: refuse a server elsewhere.
        client: a client of your own for that address.
        tell: is told what is done: what, how many, of how many.

    Raises:
        IndexNotFoundError, IndexVersionError, IndexDamagedError: the local index cannot be used.
        EmbedderMismatchError: the collection was made with another embedder.
        UsageError: `rebuild` of a collection with other parts, or a layout for one that stands.
        IndexServerError: the server does not answer, or refuses; run again, it continues.
    """
    address = Address.parse(url)
    ledger = _Ledger(path, part)
    own = client or address.connect(local_only=local_only, patience=PATIENCE)
    try:
        if not address.folder:
            check_server(own, address)
        live = _live(own, address, rebuild)
        wanted = (live[0].layout if live else Layout()).model_copy(
            update=layout.model_dump(exclude_unset=True) if layout else {}
        )
        if live is not None and rebuild:
            others = sorted(set(live[1]) - {part})
            if others:
                raise UsageError(
                    f"{address.text!r} has other parts ({', '.join(map(repr, others))}), which a rebuild would lose: "
                    "publish all of them under a new name, and point the readers there"
                )
        if live is None or rebuild:
            facts = _beside(own, address, ledger, wanted)
        else:
            facts = live[0]
            _agree(facts, ledger, address, wanted)
        _index_fields(own, address, facts)
        sent, unchanged, deleted, characters = _send(own, address, facts, ledger, tell)
        with talking(address):
            _conclude(own, address, facts, ledger)
            if live is None or rebuild:
                _until_indexed(own, facts, tell)
                _swap(own, address, facts.collection)
    finally:
        ledger.catalog.close()
        if client is None:
            own.close()
    manifest = ledger.manifest
    drift = characters / manifest.chunks / facts.average_characters - 1
    return Published(facts.collection, sent, unchanged, deleted, manifest.documents, manifest.chunks, round(drift, 4))


def _live(client: "QdrantClient", address: Address, rebuild: bool) -> tuple[Facts, dict[str, Part]] | None:
    """What the alias stands for; None where there is none yet."""
    try:
        return read_facts(client, address)
    except IndexNotFoundError:
        return None
    except IndexVersionError:
        with talking(address):
            if rebuild and _target(client, address):
                return None
        raise


def _agree(facts: Facts, ledger: _Ledger, address: Address, wanted: Layout) -> None:
    """May this local index go into that collection?"""
    theirs, ours = facts.embedder_fingerprint, ledger.manifest.embedder_fingerprint
    if theirs != ours:
        raise EmbedderMismatchError(
            f"{address.text!r} holds vectors of {theirs!r}, the index at {str(ledger.path)!r} of {ours!r}: "
            "publish with --rebuild, or under another name"
        )
    if wanted != facts.layout:
        raise UsageError(f"{address.text!r} is laid out as {facts.layout!r}: add --rebuild to lay it out anew")


def _beside(client: "QdrantClient", address: Address, ledger: _Ledger, layout: Layout) -> Facts:
    """A collection that no alias stands for: the one of a killed run, if it fits, else a new one."""
    from qdrant_client import models

    tokens, characters = ledger.averages()
    manifest = ledger.manifest
    facts = Facts(
        artrag=manifest.artrag,
        collection=f"{address.name}--{uuid.uuid4().hex[:12]}",
        embedder=manifest.embedder,
        embedder_fingerprint=manifest.embedder_fingerprint,
        dimension=manifest.dimension,
        context=manifest.context,
        average_length=tokens,
        average_characters=characters,
        fusion=read_fusion(ledger.path, IN_ENGINE),
        layout=layout,
    )
    with talking(address):
        target, there = _target(client, address), client.get_collections().collections
    for name in [c.name for c in there if c.name.startswith(f"{address.name}--") and c.name != target]:
        try:
            found, _ = read_facts(client, address, name)
        except (IndexNotFoundError, IndexVersionError):
            continue
        if found == facts.model_copy(update={"collection": name}):
            return found
        with talking(address):
            client.delete_collection(name)
    small: dict[str, Any] = {
        "none": None,
        "int8": models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
        ),
        "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
    }
    with talking(address):
        if target is None and client.collection_exists(address.name):
            raise UsageError(
                f"{address.name!r} at {address.text!r} is a collection, not an alias of artrag's: choose another name"
            )
        client.create_collection(
            facts.collection,
            vectors_config={
                "dense": models.VectorParams(
                    size=facts.dimension, distance=models.Distance.DOT, on_disk=layout.on_disk or None
                )
            },
            sparse_vectors_config={
                "bm25": models.SparseVectorParams(
                    index=models.SparseIndexParams(on_disk=layout.on_disk), modifier=models.Modifier.IDF
                )
            },
            shard_number=layout.shards,
            replication_factor=layout.replicas,
            on_disk_payload=True,
            quantization_config=small[layout.quantization],
            metadata={"artrag": facts.model_dump(mode="json")},
        )
    return facts


def _target(client: "QdrantClient", address: Address) -> str | None:
    """The collection that the alias stands for."""
    aliases = client.get_aliases().aliases
    return next((alias.collection_name for alias in aliases if alias.alias_name == address.name), None)


def _index_fields(client: "QdrantClient", address: Address, facts: Facts) -> None:
    """Have the server index what is filtered by; the local mode has no such thing."""
    if address.folder:
        return
    from qdrant_client import models

    keyword, integer = models.KeywordIndexType.KEYWORD, models.IntegerIndexType.INTEGER
    away = facts.layout.on_disk
    wanted: dict[str, Any] = {
        "tags": models.IntegerIndexParams(type=integer, lookup=True, range=False, on_disk=away),
        "part": models.KeywordIndexParams(type=keyword, on_disk=away),
    }
    with talking(address):
        known = client.get_collection(facts.collection).payload_schema
        for name, kind in wanted.items():
            if name not in known:
                client.create_payload_index(facts.collection, name, kind, wait=True)


def _send(
    client: "QdrantClient", address: Address, facts: Facts, ledger: _Ledger, tell: Tell
) -> tuple[int, int, int, int]:
    """Send what is new or changed, delete what vanished; how many points each, and the characters of all chunks."""
    known = _known(client, address, facts, ledger.part)
    sent = unchanged = characters = done = 0
    batch: list[Entry] = []
    size = 0
    for entry in ledger.entries():
        characters += len(entry.indexed)
        done += entry.row is not None
        if known.pop(uuid.UUID(entry.id).bytes, None) == bytes.fromhex(entry.payload["hash"]):
            unchanged += 1
        else:
            batch.append(entry)
            size += len(entry.payload["text"]) + len(entry.indexed)
            sent += 1
        if len(batch) >= BATCH or size >= LARGEST_BATCH:
            _upsert(client, address, facts, ledger, batch)
            batch, size = [], 0
        if done % BATCH == 0:
            tell("publishing", done, ledger.manifest.chunks)
    _upsert(client, address, facts, ledger, batch)
    vanished: list[Any] = [str(uuid.UUID(bytes=key)) for key in known]
    for start in range(0, len(vanished), PAGE):
        with talking(address):
            client.delete(facts.collection, vanished[start : start + PAGE], wait=True)
    tell("publishing", ledger.manifest.chunks, ledger.manifest.chunks)
    return sent, unchanged, len(vanished), characters


def _known(client: "QdrantClient", address: Address, facts: Facts, part: str) -> dict[bytes, bytes]:
    """Id -> hash of the part's points: about 0.2 GB for a million."""
    from qdrant_client import models

    mine = models.Filter(must=[models.FieldCondition(key="part", match=models.MatchValue(value=part))])
    known: dict[bytes, bytes] = {}
    offset: Any = None
    while True:
        with talking(address):
            points, offset = client.scroll(
                facts.collection, mine, limit=PAGE, offset=offset, with_payload=["hash"], with_vectors=False
            )
        for point in points:
            known[uuid.UUID(str(point.id)).bytes] = bytes.fromhex((point.payload or {}).get("hash", ""))
        if offset is None:
            return known


def _upsert(client: "QdrantClient", address: Address, facts: Facts, ledger: _Ledger, batch: list[Entry]) -> None:
    from qdrant_client import models

    if not batch:
        return
    points = []
    for entry in batch:
        vector: dict[str, Any] = {}
        if entry.row is not None:
            vector["dense"] = np.asarray(ledger.vectors[entry.row], dtype=np.float32).tolist()
            if tokens := tokenize(entry.indexed):
                vector["bm25"] = sparse(document_weights(tokens, facts.average_length))
        points.append(models.PointStruct(id=entry.id, vector=vector, payload=entry.payload))
    with talking(address):
        client.upsert(facts.collection, points, wait=True)


def _conclude(client: "QdrantClient", address: Address, facts: Facts, ledger: _Ledger) -> None:
    """Say in the collection's metadata what it holds now."""
    manifest = ledger.manifest
    now = facts.model_copy(update={"context": manifest.context, "fusion": read_fusion(ledger.path, IN_ENGINE)})
    part = Part(generation=manifest.generation, documents=manifest.documents, chunks=manifest.chunks)
    client.update_collection(
        facts.collection,
        metadata={"artrag": now.model_dump(mode="json"), f"part:{ledger.part}": part.model_dump(mode="json")},
    )


def _until_indexed(client: "QdrantClient", facts: Facts, tell: Tell) -> None:
    """Wait until the server has built its graphs: the old collection answers meanwhile."""
    while (info := client.get_collection(facts.collection)).status.value == "yellow":
        tell("the server is indexing", info.indexed_vectors_count or 0, info.points_count or 0)
        sleep(1)


def _swap(client: "QdrantClient", address: Address, collection: str) -> None:
    """Let the alias stand for `collection`, in one step, and delete what it stood for."""
    from qdrant_client import models

    old = _target(client, address)
    create = models.CreateAlias(collection_name=collection, alias_name=address.name)
    operations: list[Any] = [models.CreateAliasOperation(create_alias=create)]
    if old is not None:
        operations.insert(0, models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=address.name)))
    client.update_collection_aliases(operations)
    if old not in (None, collection):
        client.delete_collection(str(old))
