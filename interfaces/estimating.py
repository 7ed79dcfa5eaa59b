"""What an ingest would cost, before it costs anything: `artrag ingest --dry-run`."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from artrag import nodes
from artrag.index.build import CACHE, Cache, give_up, working
from artrag.index.catalog import Catalog
from artrag.index.windows import ANSWER
from artrag.models.references import ModelReference
from artrag.nodes.situating import Questions
from artrag.settings import Settings

SMALL_WINDOW = 8192
"""Tokens that a local model is taken to read at once where its folder does not say."""


def estimate_ingest(
    paths: Sequence[str], index: Path, settings: Settings, price: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Documents, chunks, calls and tokens of an ingest; nothing is written to the index, no model is opened.

    Tokens are estimated at three bytes each, an answer at 100. `prompt_tokens` is what is sent; of it,
    `prompt_tokens_reused` is what the prompts of a window share after the first, which a local model reads once, and
    which a server may charge less for. So the cost is given as a range: those free, and those at the full price.

    Args:
        paths: files and folders.
        index: where it would be written; contexts that are kept there already cost nothing.
        settings: of the run.
        price: of a million prompt tokens, and of a million written ones.

    Raises:
        EmptyCorpusError: there is nothing to read.
    """
    with tempfile.TemporaryDirectory(prefix="artrag-dry-run-") as beside:
        state: dict[str, Any] = {"paths": list(paths), "index": beside}
        state |= nodes.load().invoke(state)
        try:
            nodes.chunk().invoke(state)
            with working(Path(beside), state["build"]) as catalog:
                told = _count(catalog, index, settings)
        finally:
            give_up(Path(beside), state["build"])
    if settings.context_budget is not None:
        told["budget"] = settings.context_budget
    if price:
        read, written = price
        answers = told["completion_tokens"] * written
        told["cost"] = [
            round((tokens * read + answers) / 1e6, 4)
            for tokens in (told["prompt_tokens"] - told["prompt_tokens_reused"], told["prompt_tokens"])
        ]
    return told | {"skipped": state["skipped"]}


def _count(catalog: Catalog, index: Path, settings: Settings) -> dict[str, Any]:
    documents, chunks = catalog.counts()
    told = dict.fromkeys(("calls", "kept", "prompt_tokens", "prompt_tokens_reused", "completion_tokens"), 0)
    if settings.context in ("document", "llm"):
        questions = Questions(settings.context, settings.chat, settings.context_window)
        window = _window(settings)
        cache = Cache(index) if (index / CACHE).exists() else None
        seen: set[str] = set()
        for name in sorted(catalog.fingerprints()):
            for group in questions.about(catalog.document(name), catalog.chunks_of(name), window):
                kept = [piece for piece in group if cache and cache.context(piece.key) is not None]
                told["kept"] += len(kept)
                seen.update(piece.key for piece in kept)
                new = list({piece.key: piece for piece in group if piece.key not in seen}.values())
                seen.update(piece.key for piece in new)
                if new:
                    whole, once = (sum(questions.cost(new, once=once)) for once in (False, True))
                    told["calls"] += len(new)
                    told["prompt_tokens"] += whole
                    told["prompt_tokens_reused"] += whole - once
                    told["completion_tokens"] += ANSWER * len(new)
        if cache:
            cache.__exit__()
    return {"documents": documents, "chunks": chunks, "context": settings.context, **told}


def _window(settings: Settings) -> int:
    """Tokens that the model of the settings reads at once, as far as that is known without opening it."""
    reference = ModelReference.parse(settings.chat)
    if reference.kind == "remote":
        return settings.context_window
    own = SMALL_WINDOW
    if reference.kind == "folder":
        about = json.loads((Path(reference.name) / "config.json").read_text(encoding="utf-8"))
        own = int(about.get("max_position_embeddings") or own)
    return min(settings.context_window, own - ANSWER)


def estimate_table(told: Mapping[str, Any]) -> Table:
    """The estimate on a terminal."""
    table = Table(title="What this ingest would cost (estimated)", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("documents", f"{told['documents']:,}")
    table.add_row("chunks", f"{told['chunks']:,}")
    table.add_row("context", told["context"])
    table.add_row("calls of the chat model", f"{told['calls']:,}")
    table.add_row("answers kept from earlier", f"{told['kept']:,}")
    table.add_row("prompt tokens", f"{told['prompt_tokens']:,}")
    table.add_row("  of them read once where a document is kept", f"{told['prompt_tokens_reused']:,}")
    table.add_row("written tokens", f"{told['completion_tokens']:,}")
    if "budget" in told:
        table.add_row("budget, in tokens", f"{told['budget']:,}")
    if "cost" in told:
        low, high = told["cost"]
        table.add_row("cost, shared tokens free / at full price", f"{low:,.2f} / {high:,.2f}")
    if told["skipped"]:
        table.add_row("files left out", f"{len(told['skipped']):,}")
    return table
