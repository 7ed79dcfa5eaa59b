"""`artrag publish`: a local index onto a Qdrant server."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console


def publish(
    index: Annotated[Path, typer.Option("--index", help="Index directory; it stays the ledger.")],
    to: Annotated[str, typer.Option("--to", help="qdrant+http://HOST:PORT/NAME; the key comes from QDRANT_API_KEY.")],
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Fill a new collection beside the old one, then swap it in.")
    ] = False,
    part: Annotated[str, typer.Option(help="Name of this index, where several publish into one collection.")] = "",
    shards: Annotated[int | None, typer.Option(min=1, help="Shards of a new collection [1].")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Copies of each shard [1].")] = None,
    quantization: Annotated[
        Literal["none", "int8", "binary"] | None,
        typer.Option(help="Small copies of the vectors in memory, rescored by the full ones [none]."),
    ] = None,
    on_disk: Annotated[
        bool | None, typer.Option("--on-disk/--in-memory", help="Where full vectors and sparse index are [memory].")
    ] = None,
    local_only: Annotated[bool, typer.Option("--local-only", help="Refuse a server on another machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Bring an index on Qdrant up to a local one; run again, only what changed is sent."""
    from dataclasses import asdict

    from artrag.index.qdrant_publish import DRIFT
    from artrag.index.qdrant_publish import publish as send
    from artrag.index.qdrant_server import Layout
    from artrag.interfaces.show import progress_bar
    from artrag.settings import Settings

    given = {"shards": shards, "replicas": replicas, "quantization": quantization, "on_disk": on_disk}
    chosen = {name: value for name, value in given.items() if value is not None}
    err = Console(stderr=True)
    with progress_bar(err) as bar:
        task = bar.add_task("publishing", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        done = send(
            index,
            to,
            part=part,
            rebuild=rebuild,
            layout=Layout.model_validate(chosen) if chosen else None,
            local_only=local_only or Settings().local_only,
            tell=tell,
        )
    if as_json:
        sys.stdout.write(json.dumps({"index": str(index), "to": to, **asdict(done)}, ensure_ascii=False) + "\n")
        return
    out = Console()
    out.print(f"{done.chunks} chunks of {done.documents} documents at {to}", style="bold green", markup=False)
    out.print(f"{done.sent} points sent, {done.unchanged} unchanged, {done.deleted} deleted; {done.collection}")
    if abs(done.drift) > DRIFT:
        more = "longer" if done.drift > 0 else "shorter"
        out.print(
            f"chunks are {abs(done.drift):.0%} {more} than when the collection was made, and BM25 weighs them by the "
            "old length: publish with --rebuild",
            style="yellow",
        )
