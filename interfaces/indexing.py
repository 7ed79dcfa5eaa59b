"""`artrag index`: is an index sound, and what to do where it is not."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from langchain_core.embeddings import Embeddings
from rich.console import Console

from artrag.errors import EmbedderMismatchError

if TYPE_CHECKING:
    from artrag.index.manifest import Manifest
    from artrag.index.verify import Problem

UNSOUND = 1

index = typer.Typer(help="Check an index, and mend it.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(help="Index directory.")]
LocalOption = Annotated[bool, typer.Option("--local-only", help="Refuse a remote embedder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
out, err = Console(), Console(stderr=True)


@index.command()
def verify(
    directory: Directory,
    embed: Annotated[bool, typer.Option("--embed", help="Embed some chunks again, and compare the vectors.")] = False,
    local_only: LocalOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check manifest, checksums, counts and offsets, and that all arms hold the same rows; exit code 1: not sound."""
    from artrag.index.manifest import latest_manifest
    from artrag.index.verify import verify as examine

    manifest = latest_manifest(directory) if embed else None
    verdict = examine(directory, None if manifest is None else _Named(manifest, directory, local_only))
    if as_json:
        _print_json({"index": str(directory), "sound": not verdict.problems} | asdict(verdict))
    else:
        _show(verdict.problems)
        for name in verdict.left_over:
            out.print(f"left over from a run that was killed: {name}", style="dim", markup=False, soft_wrap=True)
        if verdict.problems:
            out.print(
                f"not sound: run 'artrag index repair {directory}'", style="bold red", markup=False, soft_wrap=True
            )
        else:
            out.print(f"sound: {', '.join(verdict.checked)}", style="bold green", markup=False, soft_wrap=True)
    if verdict.problems:
        raise typer.Exit(UNSOUND)


@index.command()
def repair(directory: Directory, local_only: LocalOption = False, as_json: JsonOption = False) -> None:
    """Build again what can be built from the catalogue; what cannot be brought back is named (exit code 1)."""
    from artrag.index.manifest import latest_manifest
    from artrag.index.verify import repair as mend
    from artrag.interfaces.show import progress_bar

    manifest = latest_manifest(directory)
    with progress_bar(err) as bar:
        task = bar.add_task("embedding", total=None, visible=False)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=done < total)

        reference = manifest.embedder if manifest else ""
        repaired = mend(directory, _Named(manifest, directory, local_only), reference=reference, tell=tell)
    finished = repaired.finished
    if as_json:
        _print_json(
            {
                "index": str(directory),
                "found": [asdict(problem) for problem in repaired.found],
                "lost": list(repaired.lost),
                "documents": finished.manifest.documents if finished else None,
                "chunks": finished.manifest.chunks if finished else None,
                "embedded": finished.embedded if finished else 0,
            }
        )
    else:
        _show(repaired.found)
        for lost in repaired.lost:
            out.print(f"lost: {lost}", style="bold red", markup=False, soft_wrap=True)
        done = "nothing to mend" if finished is None else f"mended: {finished.manifest.chunks} chunks of "
        if finished is not None:
            done += f"{finished.manifest.documents} documents, {finished.embedded} embedded again"
        out.print(done, style="bold green", markup=False)
    if repaired.lost:
        raise typer.Exit(UNSOUND)


class _Named(Embeddings):
    """The embedder that a manifest names, opened when it is first needed."""

    def __init__(self, manifest: "Manifest | None", directory: Path, local_only: bool) -> None:
        self.fingerprint = manifest.embedder_fingerprint if manifest else ""
        self.reference = manifest.embedder if manifest else ""
        self._directory, self._local_only = directory, local_only
        self._opened: Embeddings | None = None

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """See `Embeddings`."""
        return self._open().embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        """See `Embeddings`."""
        return self._open().embed_query(text)

    def _open(self) -> Embeddings:
        from artrag.index.store import fingerprint
        from artrag.models import load_embedder

        if self._opened is None:
            if not self.reference:
                raise EmbedderMismatchError(
                    f"the index at {str(self._directory)!r} was built with an embedder object ({self.fingerprint!r}): "
                    "call artrag.index.verify.repair(path, embedder) with it, or ingest again"
                )
            opened = load_embedder(self.reference, local_only=self._local_only)
            if fingerprint(opened) != self.fingerprint:
                raise EmbedderMismatchError(
                    f"{self.reference!r} is now {fingerprint(opened)!r}, but the index at {str(self._directory)!r} was "
                    f"built with {self.fingerprint!r}: ingest again"
                )
            self._opened = opened
        return self._opened


def _show(problems: "tuple[Problem, ...]") -> None:
    for problem in problems:
        checksum = f" (SHA-256 {problem.sha256})" if problem.sha256 else ""
        out.print(f"{problem.file} {problem.what}{checksum}", style="yellow", markup=False, soft_wrap=True)


def _print_json(data: Any) -> None:
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
