"""What an index survives: kills, full disks, damage, two writers, readers under a writer, files from elsewhere."""

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import ROOT, HashedWords
from typer.testing import CliRunner

from artrag import build_ingest, holding
from artrag.errors import (
    IndexDamagedError,
    IndexLockedError,
    IndexNotFoundError,
    IndexStoreError,
    IndexVersionError,
    ModelCallError,
)
from artrag.index import Index, lock
from artrag.index import build as building
from artrag.index import finish as finishing
from artrag.index.bm25 import BM25
from artrag.index.catalog import Catalog
from artrag.index.dense import Dense
from artrag.index.manifest import entry_of, latest_manifest, read_manifest
from artrag.index.proximity import Proximity
from artrag.index.verify import repair, verify
from artrag.interfaces.cli import app
from artrag.interfaces.indexing import index as commands

Build = Callable[..., dict[str, Any]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "index"


def state_of(place: Path) -> dict[str, tuple[int, int]]:
    """Every file of an index, with what changes when it is written or replaced."""
    files = (path for path in place.rglob("*") if path.is_file() and not path.name.startswith("writer."))
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def answers(place: Path, embedder: HashedWords, question: str = "PMP-417") -> str:
    with closing(Index.open(place, embedder=embedder)) as opened:
        return opened.search(question, 1, arms=["bm25"])[0].text


# Only what changed is done again.


def test_an_unchanged_corpus_leaves_every_file_as_it_is(
    build: Build, corpus: Path, embedder: HashedWords, place: Path
) -> None:
    build(corpus)
    before, embedder.embedded = state_of(place), []
    again = build(corpus)
    assert state_of(place) == before and embedder.embedded == []
    assert (again["unchanged"], again["embedded"], again["chunks"]) == (3, 0, 5)
    os.utime(corpus / "manual.md")  # content counts, not the clock
    assert build(corpus)["unchanged"] == 3 and state_of(place) == before


def test_nothing_is_parsed_again_that_has_the_same_bytes(
    build: Build, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading = import_module("artrag.nodes.load")
    build(corpus)
    (corpus / "manual.md").write_text("# Pump manual\n\nAnother text.\n")
    asked: list[str] = []
    reader = loading.read
    monkeypatch.setattr(loading, "read", lambda path, name: asked.append(name) or reader(path, name))
    assert build(corpus)["changed"] == 1 and asked == ["manual.md"]


def test_no_model_is_opened_for_what_is_pinned_and_unchanged(corpus: Path, place: Path) -> None:
    class Closed(HashedWords):
        reference = "pypi:some-weights"
        opened = 0

        @property
        def fingerprint(self) -> str:  # type: ignore[override]
            self.opened += 1
            return "some:1"

        @property
        def cut(self) -> int:
            self.opened += 1
            return 0

    def ingest(embedder: Closed) -> dict[str, Any]:
        inputs: Any = {"paths": [str(corpus)], "index": str(place)}
        return build_ingest(embedder=embedder).compile().invoke(inputs)["report"]  # type: ignore[no-any-return]

    ingest(Closed())
    second = Closed()
    assert ingest(second)["unchanged"] == 3 and second.opened == 0
    second.reference = "hf:some/weights"  # these may be others under the same name
    ingest(second)
    assert second.opened and read_manifest(place).embedder == "hf:some/weights"


def test_a_changed_document_is_the_only_one_that_is_done_again(
    build: Build, corpus: Path, embedder: HashedWords, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = corpus / "trials" / "parts.md"
    parts.write_text("# Parts\n\nA lead that stays as it is.\n\n## One\n\nfirst\n\n## Two\n\nsecond\n")
    build(corpus)
    embedder.embedded = []
    situated: list[str] = []
    situate = Catalog.situate

    def watch(self: Catalog, document: str, *rest: Any) -> None:
        situated.append(document)
        situate(self, document, *rest)

    monkeypatch.setattr(Catalog, "situate", watch)
    parts.write_text(parts.read_text().replace("second", "another"))
    report = build(corpus)
    assert situated == ["trials/parts.md"] and (report["changed"], report["embedded"]) == (1, 1)
    assert len(embedder.embedded) == 1 and "another" in embedder.embedded[0]  # its other chunks are as they were
    build(corpus, context="none")
    assert len(situated) == 5


def test_another_way_of_cutting_cuts_again_and_reads_nothing(
    build: Build, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cutting = import_module("artrag.nodes.chunk")
    build(corpus)
    monkeypatch.setattr(cutting, "CUT_LIKE", "cut otherwise")
    monkeypatch.setattr(cutting, "cut", lambda text, path: [cutting.Chunk(text[:9], 0, 9)])
    report = build(corpus)
    assert (report["unchanged"], report["chunks"]) == (3, 3)


def test_equal_texts_are_embedded_once(build: Build, tmp_path: Path, embedder: HashedWords, place: Path) -> None:
    folder = tmp_path / "twins"
    for name in ("one", "two", "three"):
        (folder / name).mkdir(parents=True)
        (folder / name / "a.txt").write_text("The same words in three files.")
    assert build(folder, context="none")["embedded"] == 1 and len(embedder.embedded) == 1
    with closing(Index.open(place, embedder=embedder)) as opened:
        assert len({found.document for found in opened.search("same words", 9)}) == 3
    assert not verify(place, embedder).problems


@pytest.mark.parametrize("made", [[[1.0]], [[1.0, float("nan")]] * 5, [[0.5] * 3] * 5])
def test_an_embedder_that_gives_nonsense_is_named(
    build: Build, corpus: Path, embedder: HashedWords, made: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    build(corpus)
    for path in corpus.rglob("*.md"):
        path.write_text(path.read_text().replace("i", "ı"))
    monkeypatch.setattr(embedder, "embed_documents", lambda texts: made)
    with pytest.raises(ModelCallError, match="hashed-words:64"):
        build(corpus)
    with pytest.raises(ModelCallError):
        build(corpus)  # the lock is free


# A kill at any moment.

CHILDREN = """
import json, os, random, signal, sys, time, traceback
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fakes import HashedWords
from artrag import build_ingest, holding
from artrag.index import Index
from artrag.index import build, finish, manifest, vectors
from artrag.index.verify import verify
mode, corpus, index, log = sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5]
vectors.EMBED_BATCH = 2

def note(event, texts):
    line = json.dumps({"pid": os.getpid(), "event": event, "texts": texts}) + "\\n"
    with open(log, "a") as file:
        file.write(line)

class Logged(HashedWords):
    def embed_documents(self, texts):
        note("start", texts)
        time.sleep(0.003)
        made = super().embed_documents(texts)
        note("end", texts)
        return made

graph = build_ingest(embedder=Logged()).compile()

def ingest():
    if index.exists():
        answer()  # whatever the last run has left
    graph.invoke({"paths": [str(corpus)], "index": str(index)})

def answer():
    opened = Index.open(index, embedder=HashedWords())
    assert opened.search("PMP-417", 1, arms=["bm25"])[0].document == "manual.md"
    opened.close()

def child(body):
    pid = os.fork()
    if pid:
        return pid
    try:
        body()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(3)

def succeeds(body):
    _, status = os.waitpid(child(body), 0)
    assert status == 0, status

def page(n, words):
    (corpus / f"page{n:02}.txt").write_text(words)

def counted(where, name, left):
    original = getattr(where, name)
    def call(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(where, name, call)

def stopped_at(moment):
    left = [moment]
    for where, name in [
        (build, "_start"), (build.shutil, "rmtree"), (build.Cache, "commit"), (build.Cache, "keep_vector"),
        (build.Cache, "forget_vectors"), (finish.Dense, "save"), (finish.BM25, "save"), (manifest, "sync"),
        (finish, "sync"), (finish, "write_manifest"), (finish, "_clear"), (Path, "rename"), (Path, "replace"),
        (Path, "unlink"), (Path, "mkdir"), (build.Catalog, "commit"), (finish.lock, "release"), (finish.lock, "take"),
    ]:
        counted(where, name, left)
    ingest()

ingest()  # here, so that the children need not import what it takes
rng = random.Random(7)
if mode == "random":
    started = time.time()
    for n in range(12):
        page(n, f"The first words of page {n}")
    succeeds(ingest)
    whole = time.time() - started
    killed = 0
    for round in range(20):
        for n in range(12):
            page(n, f"Page {n} in round {round} has words of its own")
        pid = child(ingest)
        time.sleep(rng.uniform(0, 0.9 * whole))
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        assert status in (0, signal.SIGKILL), status
        killed += status == signal.SIGKILL
    print(json.dumps({"killed": killed}))
else:
    moment = 0
    while True:
        page(0, f"At moment {moment} a page has words of its own")
        page(1, f"At moment {moment} another page has words of its own")
        _, status = os.waitpid(child(lambda: stopped_at(moment)), 0)
        if status == 0:
            break
        assert status == signal.SIGKILL, status
        moment += 1
    print(json.dumps({"killed": moment}))
succeeds(ingest)
succeeds(answer)
verdict = verify(index, HashedWords())
assert not verdict.problems and not verdict.left_over, verdict
print(json.dumps({"chunks": json.loads((index / "manifest.json").read_text())["chunks"]}))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize(("mode", "least", "chunks"), [("random", 12, 17), ("every step", 25, 7)])
def test_a_kill_at_any_moment_leaves_an_index_and_pays_nothing_twice(
    corpus: Path, tmp_path: Path, place: Path, mode: str, least: int, chunks: int
) -> None:
    """Twenty random moments of an ingest, and before each step that touches the disk."""
    log = tmp_path / "log.jsonl"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        CHILDREN,
        str(ROOT / "tests"),
        mode,
        str(corpus),
        str(place),
        str(log),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    killed, made = (json.loads(line) for line in done.stdout.splitlines())
    assert killed["killed"] >= least and made["chunks"] == chunks
    events = [json.loads(line) for line in log.read_text().splitlines()]
    last_of = {event["pid"]: n for n, event in enumerate(events)}
    # What was in a model's hands when its process died is not kept; everything else is embedded once.
    kept = [e["texts"] for n, e in enumerate(events) if e["event"] == "end" and last_of[e["pid"]] != n]
    started: Counter[str] = Counter()
    twice = []
    finished: set[str] = set()
    for n, event in enumerate(events):
        if event["event"] == "start":
            started.update(event["texts"])
            twice += [text for text in event["texts"] if text in finished]
        elif last_of[event["pid"]] != n:
            finished |= set(event["texts"])
    assert kept and not twice


def test_no_file_counts_before_it_is_on_disk(
    build: Build, corpus: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that a power loss needs: files, their folder, its new name, the manifest, the manifest's name."""
    from artrag.index import manifest as manifests

    done: list[str] = []
    fsync, rename, replace = manifests.sync, Path.rename, Path.replace

    def sync(path: Path) -> None:
        done.append(f"sync {path.name.split('-')[0]}")
        fsync(path)

    monkeypatch.setattr(manifests, "sync", sync)
    monkeypatch.setattr(finishing, "sync", sync)
    monkeypatch.setattr(Path, "rename", lambda a, b: done.append("rename") or rename(a, b))
    monkeypatch.setattr(
        Path, "replace", lambda a, b: (done.append("replace") if b.name == "manifest.json" else None) or replace(a, b)
    )
    build(corpus)
    files = {f"sync {name}" for name in [*read_manifest(place).files, "manifest.json"]}
    assert set(done[: len(files)]) == files
    assert done[len(files) :] == [
        "sync building",
        "rename",
        "sync index",
        "sync manifest.json.new",
        "replace",
        "sync index",
    ]


# One writer.

RACERS = """
import os, sys, time
from pathlib import Path
from artrag.errors import IndexLockedError
from artrag.index.build import begin
index, start = Path(sys.argv[1]), time.time() + 0.3
children = []
for n in range(8):
    pid = os.fork()
    if pid:
        children.append(pid)
        continue
    time.sleep(max(0, start - time.time()))
    try:
        begin(index)
        said = f"writes {os.getpid()}"
        time.sleep(0.6)
    except IndexLockedError as error:
        said = f"refused {error}"
    os.write(1, (said + "\\n").encode())
    os._exit(0)  # without a word: the lock ends with the process
for pid in children:
    os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="races forked processes")
def test_of_many_writers_at_once_exactly_one_writes(place: Path) -> None:
    place.mkdir()
    (place / holding.NOTE).write_text(json.dumps({"build": "0", "pid": 2**22 - 1, "host": "x", "since": "1999"}))
    (place / holding.LOCK).touch()  # both left by a writer that was killed
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", RACERS, str(place)], capture_output=True, text=True, check=True, timeout=60
        )
        lines = done.stdout.splitlines()
        (winner,) = [line.split()[1] for line in lines if line.startswith("writes")]
        refused = [line for line in lines if line.startswith("refused")]
        assert len(refused) == 7 and all(f"process {winner} on" in line for line in refused), lines


def test_a_build_that_was_abandoned_in_this_process_loses_the_lock(
    build: Build, corpus: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = building.begin(place).build
    with pytest.raises(IndexLockedError, match="this same process"):
        build(corpus)
    monkeypatch.setattr(lock, "STALE_SECONDS", -1.0)
    assert build(corpus)["documents"] == 3
    with pytest.raises(IndexLockedError, match="lost its lock"):
        lock.touch(place, lost)
    building.give_up(place, lost)


def test_a_run_that_fails_between_the_steps_frees_the_lock(corpus: Path, embedder: HashedWords, place: Path) -> None:
    from fakes import ScriptedChat

    graph = build_ingest(embedder=embedder, chat=ScriptedChat(*[ValueError("no")] * 9)).compile()
    inputs: Any = {"paths": [str(corpus)], "index": str(place)}
    with pytest.raises(Exception, match="no"):
        graph.invoke(inputs, context={"context": "llm"})  # type: ignore[arg-type]
    building.give_up(place, building.begin(place).build)


# Readers.


def test_a_reader_keeps_its_generation_while_a_writer_swaps(
    build: Build, corpus: Path, embedder: HashedWords, place: Path
) -> None:
    build(corpus)
    with closing(Index.open(place, embedder=embedder)) as old:
        (corpus / "manual.md").write_text("# Pump manual\n\nAlarm PMP-417 means air in line.\n")
        (corpus / "trials" / "beta.md").unlink()
        build(corpus)
        assert not (place / old.manifest.generation).exists()
        assert "downstream occlusion" in old.search("PMP-417", 1, arms=["bm25"])[0].text
        found = old.search("Betadrug trial", 5)
        assert "trials/beta.md" in {passage.document for passage in found}
        assert "Betadrug" in old.document("trials/beta.md").text
    assert "air in line" in answers(place, embedder)


def test_readers_that_open_while_a_writer_swaps_never_fail(
    build: Build, corpus: Path, embedder: HashedWords, place: Path
) -> None:
    build(corpus)
    over, failures = threading.Event(), []

    def read() -> None:
        reader = HashedWords()
        while not over.is_set():
            try:
                with closing(Index.open(place, embedder=reader)) as opened:
                    assert opened.search("PMP-417", 1)
            except Exception as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for n in range(12):
            (corpus / "manual.md").write_text(f"# Pump manual\n\nAlarm PMP-417 means {n}.\n")
            build(corpus)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures


# A full disk.


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("stage", ["dense", "bm25", "sync", "manifest", "copy", "catalogue", "cache", "faiss"])
def test_a_full_disk_leaves_the_old_index_and_says_so(
    build: Build, corpus: Path, embedder: HashedWords, place: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(corpus)
    before = state_of(place)
    lines = (f"Alarm PMP-417 means air in line {n}. " for n in range(2000))
    (corpus / "manual.md").write_text("# Pump manual\n\n" + "".join(lines))
    opening, cache = Catalog.open.__func__, building.Cache.__init__  # type: ignore[attr-defined]

    def tight(cls: type[Catalog], path: Path, *, write: bool = False) -> Catalog:
        opened: Catalog = opening(cls, path, write=write)
        if write:
            opened._connection.execute("PRAGMA max_page_count = 1")  # SQLite keeps what it has, and takes no more
        return opened

    def tight_cache(self: building.Cache, path: Path) -> None:
        cache(self, path)
        self._connection.execute("PRAGMA max_page_count = 1")

    def faiss_says(*_: Any) -> None:
        raise RuntimeError(
            "Error: 'ret == nitems' failed: write error in dense.faiss: 5 != 9 (No space left on device)"
        )

    with monkeypatch.context() as patch:
        match stage:
            case "dense":
                patch.setattr(Dense, "save", no_space)
            case "faiss":
                patch.setattr(Dense, "save", faiss_says)
            case "bm25":
                patch.setattr(BM25, "save", no_space)
            case "sync":
                patch.setattr(finishing, "sync", no_space)
            case "manifest":
                patch.setattr(finishing, "write_manifest", no_space)
            case "copy":
                patch.setattr(shutil, "copyfile", no_space)
            case "catalogue":
                patch.setattr(Catalog, "open", classmethod(tight))
            case "cache":
                patch.setattr(building.Cache, "__init__", tight_cache)
        with pytest.raises(IndexStoreError, match=r"the disk is full .*free some space"):
            build(corpus)
    left = {path: seen for path, seen in state_of(place).items() if not path.endswith("cache.sqlite")}
    assert left == {path: seen for path, seen in before.items() if not path.endswith("cache.sqlite")}
    assert not list(place.glob("building-*")) and len(list(place.glob("generation-*"))) == 1
    assert "downstream occlusion" in answers(place, embedder)
    build(corpus)
    assert "air in line" in answers(place, embedder)


def test_a_disk_that_is_full_after_the_swap_is_no_error(
    build: Build, corpus: Path, embedder: HashedWords, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: building.Cache) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(building.Cache, "forget_vectors", full)
    assert build(corpus)["documents"] == 3
    building.give_up(place, building.begin(place).build)


def test_a_directory_that_cannot_be_made_is_named(build: Build, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((IndexStoreError, NotADirectoryError, FileExistsError)):
        build(corpus, index=tmp_path / "file")


# Verify and repair.


@pytest.fixture
def built(build: Build, corpus: Path, place: Path, embedder: HashedWords) -> Iterator[Path]:
    build(corpus)
    embedder.embedded = []
    yield place


def file_of(place: Path, name: str) -> Path:
    return (
        place / read_manifest(place).generation / name
        if name not in ("manifest.json", "cache.sqlite")
        else place / name
    )


def alter(file: Path, damage: str) -> None:
    raw = file.read_bytes()
    match damage:
        case "gone":
            file.unlink()
        case "cut":
            file.write_bytes(raw[: len(raw) // 2])
        case "altered":
            file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))


def run(*words: Any) -> tuple[int, Any]:
    done = CliRunner().invoke(commands, [*map(str, words), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, json.loads(done.stdout)


def test_a_sound_index_is_called_sound(built: Path, embedder: HashedWords) -> None:
    before = state_of(built)
    code, said = run("verify", built)
    assert code == 0 and said["sound"] is True and said["problems"] == []
    checked = ["manifest", "checksums", "cache", "catalogue", "counts", "offsets", "bm25", "proximity", "dense"]
    assert said["checked"] == checked
    assert not verify(built, embedder).problems and embedder.embedded
    assert run("repair", built)[1]["documents"] is None and state_of(built) == before
    assert CliRunner().invoke(app, ["index", "verify", str(built)]).stdout.startswith("sound: manifest, checksums")
    with pytest.raises(IndexNotFoundError):
        verify(built.parent / "nowhere")


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
@pytest.mark.parametrize("name", ["dense.faiss", "bm25.npz", "proximity.npz"])
def test_an_arm_is_built_again(built: Path, embedder: HashedWords, name: str, damage: str) -> None:
    sha256 = read_manifest(built).files[name].sha256
    alter(file_of(built, name), damage)
    code, said = run("verify", built)
    (problem,) = said["problems"]
    assert code == 1 and problem["file"].endswith(name) and problem["sha256"] == sha256
    assert problem["what"] == f"is {'missing' if damage == 'gone' else damage}"
    mended = repair(built, embedder)
    assert mended.lost == () and len(embedder.embedded) == (5 if name == "dense.faiss" else 0)
    assert not verify(built, embedder).problems and "downstream" in answers(built, embedder)


def test_what_can_be_proven_of_a_catalogue_stays(
    built: Path, build: Build, corpus: Path, embedder: HashedWords
) -> None:
    file = file_of(built, "catalog.sqlite")
    raw = file.read_bytes()
    assert raw.count(b"4.2 points") >= 2  # in the document and in its chunk
    file.write_bytes(raw.replace(b"4.2 points", b"9.9 points"))
    code, said = run("verify", built)
    assert code == 1 and "catalog.sqlite" in said["problems"][0]["file"]
    mended = repair(built, embedder)
    assert len(mended.lost) == 1 and "'trials/alpha.md' was dropped" in mended.lost[0] and not embedder.embedded
    assert mended.finished is not None and mended.finished.manifest.documents == 2
    assert not verify(built, embedder).problems
    report = build(corpus)
    assert (report["added"], report["unchanged"], report["documents"]) == (1, 2, 3)


def test_ingest_into_an_altered_index_says_what_it_lost(
    built: Path, build: Build, corpus: Path, tmp_path: Path, embedder: HashedWords
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("A document from another place")
    build(other)
    file = file_of(built, "catalog.sqlite")
    file.write_bytes(file.read_bytes().replace(b"from another", b"from a n0ther"[:12]))
    report = build(corpus)
    assert report["documents"] == 3 and any("'other.txt' was dropped" in item["reason"] for item in report["skipped"])


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_what_cannot_be_repaired_is_left_alone(built: Path, embedder: HashedWords, damage: str) -> None:
    alter(file_of(built, "catalog.sqlite"), damage)
    before = state_of(built)
    with pytest.raises(IndexDamagedError, match="cannot be repaired.*ingest"):
        repair(built, embedder)
    assert state_of(built) == before


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_lost_manifest_comes_back_from_its_copy(built: Path, embedder: HashedWords, damage: str) -> None:
    alter(built / "manifest.json", damage)
    code, said = run("verify", built)
    assert code == 1 and said["problems"][0]["file"] == "manifest.json"
    mended = repair(built, embedder)
    assert mended.lost == () and not embedder.embedded and mended.finished is not None
    assert mended.finished.manifest.documents == 3 and "downstream" in answers(built, embedder)


def test_a_damaged_cache_is_named_and_put_aside(built: Path, build: Build, corpus: Path, embedder: HashedWords) -> None:
    (built / "cache.sqlite").write_bytes(b"no database at all" * 99)
    (corpus / "manual.md").write_text("# Pump manual\n\nAlarm PMP-417 means air in line.\n")
    with pytest.raises(IndexDamagedError, match=r"cache\.sqlite.*artrag index repair"):
        build(corpus)
    mended = repair(built, embedder)
    assert "put aside" in mended.lost[0] and (built / "cache.sqlite.damaged").exists()
    assert build(corpus)["changed"] == 1


def test_an_index_that_was_written_wrong_is_found_out(built: Path, embedder: HashedWords) -> None:
    """Checksums that are right over parts that contradict each other."""

    def rewrite(name: str, change: Callable[[Path], None]) -> list[str]:
        file, manifest = file_of(built, name), read_manifest(built)
        change(file)
        files = manifest.files | {name: entry_of(file)}
        (built / "manifest.json").write_text(manifest.model_copy(update={"files": files}).model_dump_json())
        return [problem.what for problem in verify(built, embedder).problems]

    words = [["the", "wrong", "row"]] * 5
    assert any("own words" in what for what in rewrite("bm25.npz", BM25.build(words).save))
    assert any("holds 1 chunks" in what for what in rewrite("bm25.npz", BM25.build([["x"]]).save))
    assert any("other words" in what for what in rewrite("proximity.npz", Proximity.build(words).save))
    assert any("holds 1 chunks" in what for what in rewrite("proximity.npz", Proximity.build([["x"]]).save))
    eye = np.eye(64, dtype=np.float32)
    assert any("other vectors" in what for what in rewrite("dense.faiss", Dense.build(eye[:5]).save))
    assert any("not of length 1" in what for what in rewrite("dense.faiss", Dense.build(eye[:5] * 2).save))
    assert any("holds 4 x 64" in what for what in rewrite("dense.faiss", Dense.build(eye[:4]).save))

    def sql(statement: str) -> Callable[[Path], None]:
        def change(file: Path) -> None:
            with closing(sqlite3.connect(file)) as connection, connection:
                connection.execute(statement)

        return change

    said = rewrite("catalog.sqlite", sql("UPDATE chunks SET start = start + 1, end = end + 1 WHERE row = 0"))
    assert any("do not stand" in what for what in said)
    assert any(
        "numbers its chunks" in w for w in rewrite("catalog.sqlite", sql("UPDATE chunks SET row = 9 WHERE row = 4"))
    )
    said = rewrite("catalog.sqlite", sql("DELETE FROM documents WHERE id = 'manual.md'"))
    assert any("holds 2 documents" in what for what in said) and any("belong to no document" in what for what in said)
    assert run("verify", built)[0] == 1


def test_a_repair_without_a_reference_says_what_to_do(built: Path) -> None:
    from artrag.errors import EmbedderMismatchError

    alter(file_of(built, "dense.faiss"), "cut")
    with pytest.raises(EmbedderMismatchError, match="hashed-words:64.*repair"):
        run("repair", built)


# A directory from elsewhere.


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"generation": "../../elsewhere"}, "generation"),
        ({"generation": "/etc"}, "generation"),
        ({"generation": "generation-0123456789ab\n"}, "generation"),
        ({"files": {"../../x": {"bytes": 1, "sha256": "0"}}}, "files"),
        ({"files": {"a/b": {"bytes": 1, "sha256": "0"}}}, "files"),
        ({"dimension": -1}, "dimension"),
        ({"chunks": -1}, "chunks"),
    ],
)
def test_a_manifest_cannot_lead_elsewhere(built: Path, change: dict[str, Any], named: str) -> None:
    file = built / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(IndexDamagedError, match=named):
        read_manifest(built)
    latest = latest_manifest(built)
    assert latest is not None and latest.generation.startswith("generation-")


def test_a_linked_generation_or_file_is_refused(built: Path, embedder: HashedWords, tmp_path: Path) -> None:
    file = file_of(built, "bm25.npz")
    file.rename(tmp_path / "bm25.npz")
    file.symlink_to(tmp_path / "bm25.npz")
    with pytest.raises(IndexDamagedError, match="bm25.npz' is a link"):
        Index.open(built, embedder=embedder)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON chunks BEGIN DELETE FROM documents; END",
        "CREATE VIEW v AS SELECT 1",
        "ALTER TABLE chunks ADD COLUMN more TEXT",
        "CREATE TABLE more (x)",
    ],
)
def test_a_catalogue_of_another_schema_is_not_opened(built: Path, statement: str) -> None:
    file = file_of(built, "catalog.sqlite")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)
    for write in (False, True):
        with pytest.raises(IndexDamagedError, match="another schema"):
            Catalog.open(file, write=write)


def test_a_catalogue_is_read_only_and_heeds_no_journal(built: Path) -> None:
    file = file_of(built, "catalog.sqlite")
    Path(f"{file}-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600))
    with Catalog.open(file) as catalog:
        assert catalog.counts() == (3, 5)
        with pytest.raises(sqlite3.OperationalError):
            catalog.remove_documents(["manual.md"])
    assert not Path(f"{file}-wal").exists()


def test_an_index_of_another_format_is_not_written_over(built: Path, build: Build, corpus: Path) -> None:
    file = built / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 1}))
    before = state_of(built)
    with pytest.raises(IndexVersionError, match="format 1.*new directory"):
        build(corpus)
    assert state_of(built) == before


def test_pickles_are_not_loaded(built: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "ran"),))

    trap = np.empty(1, dtype=object)
    trap[0] = Evil()
    for name in ("size", "words", "ends", "starts", "rows", "weights"):
        with (tmp_path / "x.npz").open("wb") as file:
            np.savez(file, **{name: trap}, allow_pickle=True)  # type: ignore[arg-type]
        with pytest.raises(IndexDamagedError):
            BM25.load(tmp_path / "x.npz")
    assert not (tmp_path / "ran").exists()
