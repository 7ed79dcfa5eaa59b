"""Where an index on Qdrant is, how to talk to it, and what its collection says of itself.

    qdrant+http://127.0.0.1:6333/docs     a server; the key comes from QDRANT_API_KEY
    qdrant+https://host:6333/docs         one elsewhere
    qdrant+file:./trial/docs              the client's local mode, in the folder ./trial; for tests and small trials

`docs` is an alias: the collection that it stands for is swapped in one step. The local mode keeps pickles: open no
folder that came from elsewhere.
"""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from artrag.errors import (
    IndexLockedError,
    IndexNotFoundError,
    IndexServerError,
    IndexVersionError,
    MissingExtraError,
    RemoteRefusedError,
    UsageError,
)
from artrag.index.fusion import Fusion
from artrag.index.manifest import ContextKind
from artrag.telling import without_keys

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

SCHEME = "qdrant+"
FORMAT = 1
OLDEST = (1, 17)
"""The first server with metadata of collections (1.16) and with weights in its rank fusion (1.17)."""
IN_ENGINE = Fusion(weights={}, rank_constant=0)
"""Fused by the engine itself; with these two arms no worse than the default (docs/experiments.md)."""
PATIENCE = 10
"""Seconds until a server counts as down."""
IN_MEMORY = ":memory:"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


class Layout(BaseModel):
    """How a collection is laid out on its servers; see docs/qdrant.md for what each takes.

    Attributes:
        shards: parts that the servers share out.
        replicas: copies of each shard.
        quantization: copies of the dense vectors in memory, smaller; the best hits are scored again by the full ones.
        on_disk: full vectors and sparse index are read from disk.
    """

    model_config = ConfigDict(frozen=True)

    shards: int = 1
    replicas: int = 1
    quantization: Literal["none", "int8", "binary"] = "none"
    on_disk: bool = False


class Facts(BaseModel):
    """What a collection says of itself, in its metadata."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    artrag: str
    collection: str
    embedder: str
    embedder_fingerprint: str
    dimension: int
    context: ContextKind
    average_length: float
    """Tokens of a chunk, on average, when the collection was made; BM25's weights stand on it."""
    average_characters: float
    """The same in characters: what tells cheaply that it has drifted."""
    fusion: Fusion
    layout: Layout


class Part(BaseModel):
    """What one local index has published into a collection."""

    model_config = ConfigDict(frozen=True)

    generation: str
    documents: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL of an index on Qdrant: `url` of the server or, in local mode, its `folder`; `name` is the alias."""

    text: str
    name: str
    url: str = ""
    folder: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an address.

        Raises:
            UsageError: it is none, or holds a key.
        """
        kind, _, rest = text.removeprefix(SCHEME).partition(":")
        if kind == "file":
            folder, _, name = rest.rpartition("/")
            if folder and _NAME.fullmatch(name):
                return cls(text, name, folder=folder)
        elif kind in ("http", "https"):
            parts = urlsplit(text.removeprefix(SCHEME))
            if parts.username or parts.password or parts.query:
                raise UsageError(f"no keys in the address of {parts.hostname!r}: put the key into QDRANT_API_KEY")
            name = parts.path.removeprefix("/")
            if parts.hostname and _NAME.fullmatch(name):
                return cls(text, name, url=f"{kind}://{parts.netloc}")
        raise UsageError(
            f"{text!r} is no index on Qdrant: write qdrant+http://host:6333/NAME, or qdrant+file:FOLDER/NAME"
        )

    def connect(self, *, local_only: bool = False, patience: int | None = None) -> "QdrantClient":
        """A client of it, that waits `patience` seconds for an answer, by default `PATIENCE`.

        Raises:
            RemoteRefusedError: the server is elsewhere and `local_only` is set.
            MissingExtraError: qdrant-client is not installed.
            IndexLockedError: another process has the folder of the local mode open.
        """
        from artrag.models.references import on_this_machine

        here = not self.url or on_this_machine(self.url)
        if local_only and not here:
            raise RemoteRefusedError(
                f"{self.text!r} is on another machine and local_only is set: name a local index or unset local_only"
            )
        try:
            from qdrant_client import QdrantClient
        except ImportError as error:
            raise MissingExtraError(f"{self.text!r} needs {error.name!r}: pip install 'artrag[qdrant]'") from None
        if self.url:
            key = os.environ.get("QDRANT_API_KEY") or None
            with warnings.catch_warnings():
                if here:
                    warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
                return QdrantClient(self.url, api_key=key, timeout=patience or PATIENCE, check_compatibility=False)
        if self.folder == IN_MEMORY:
            return QdrantClient(IN_MEMORY)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Local mode is not recommended")  # docs/qdrant.md says so, too
                return QdrantClient(path=self.folder, force_disable_check_same_thread=True)
        except RuntimeError as error:
            raise IndexLockedError(f"{self.folder!r} is open in another process: close it there ({error})") from None


@contextmanager
def talking(address: Address) -> Iterator[None]:
    """Turn the client's errors into ours.

    Raises:
        IndexNotFoundError: the server has no such collection.
        IndexServerError: it does not answer, or refuses.
    """
    from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code == 404:
            raise not_found(address) from None
        if error.status_code in (401, 403):
            raise IndexServerError(f"{address.text!r} refuses the key: set QDRANT_API_KEY to one of its own") from None
        said = without_keys(error.content[:300].decode(errors="replace"))
        raise IndexServerError(f"{address.text!r} answers {error.status_code}: {said}: see the server's log") from None
    except ResponseHandlingException as error:
        raise IndexServerError(
            f"no answer from {address.text!r} ({error}): start the server, or correct the address"
        ) from None
    except ApiException as error:
        raise IndexServerError(f"{address.text!r} cannot serve now: {error}: try again later") from None
    except ValueError as error:
        if address.folder and "not found" in str(error):
            raise not_found(address) from None
        raise


def not_found(address: Address) -> IndexNotFoundError:
    """The error for an address where nothing was published."""
    return IndexNotFoundError(
        f"no index {address.name!r} at {address.text!r}: run 'artrag publish --index DIR --to {address.text}' first"
    )


def check_server(client: "QdrantClient", address: Address) -> None:
    """Raise IndexVersionError for a server that is too old."""
    with talking(address):
        version = client.info().version
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise IndexVersionError(f"{address.text!r} runs Qdrant {version!r}: update it to 1.17 or later")


def read_facts(client: "QdrantClient", address: Address, collection: str = "") -> tuple[Facts, dict[str, Part]]:
    """What a collection, by default the alias's, says of itself, and of its parts.

    Raises:
        IndexNotFoundError: there is none.
        IndexVersionError: it was made by something else, or by another version.
    """
    with talking(address):
        told = client.get_collection(collection or address.name).config.metadata or {}
    version = (told.get("artrag") or {}).get("format")
    try:
        if version != FORMAT:
            raise ValueError(f"format {version!r}")
        parts = {key.removeprefix("part:"): Part.model_validate(told[key]) for key in told if key.startswith("part:")}
        return Facts.model_validate(told["artrag"]), parts
    except (ValueError, ValidationError) as error:
        why = str(error).splitlines()[0]
        raise IndexVersionError(
            f"the collection {address.name!r} at {address.text!r} is none of this artrag's ({why}): "
            "publish under another name, or with --rebuild"
        ) from None
