"""Reading files: the only module that touches langchain-community."""

import codecs
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langchain_core.documents import Document

from artrag.errors import DocumentError
from artrag.index.context import title_of

PDF, HTML, ROWS = {".pdf"}, {".html", ".htm", ".xhtml"}, {".jsonl"}
_SKIPPED_FOLDERS = {"node_modules", "__pycache__"}
_NOT_TEXT = {"script", "style", "noscript", "template", "nav", "footer", "svg", "iframe", "form"}


def files(root: Path) -> Iterator[tuple[Path, str]]:
    """(file, id) of everything to read under a file or folder, sorted.

    Left out are hidden files, links to elsewhere, and indexes, the one that is being written among them. The id is the
    path below the folder, in POSIX form; for a single file its name.
    """
    if not root.is_dir():
        yield root, root.name
        return
    home = root.resolve()
    # An index holds its finished generations, or the one that is being built, beside its manifest or its lock.
    marks = (*root.rglob("manifest.json"), *root.rglob("writer.json"))
    indexes = {
        mark.parent for mark in marks if any(mark.parent.glob("generation-*")) or any(mark.parent.glob("building-*"))
    }
    for path in sorted(root.rglob("*")):
        below = path.relative_to(root)
        hidden = any(part.startswith(".") or part in _SKIPPED_FOLDERS for part in below.parts)
        if hidden or not indexes.isdisjoint(path.parents):
            continue
        if path.is_file() and path.resolve().is_relative_to(home):
            yield path, below.as_posix()


def read(path: Path, name: str) -> Iterator[Document]:
    """The documents of one file: text, metadata `title`, `format`, and for PDF `pages`, the offset of each page.

    Raises:
        DocumentError: it is missing, empty, unreadable, binary, encrypted, or a bad line of JSON (named by number).
    """
    suffix = path.suffix.lower()
    try:
        if suffix in ROWS:
            yield from _rows(path)
            return
        document = _pdf(path) if suffix in PDF else _html(path) if suffix in HTML else _text(path)
    except FileNotFoundError:
        raise DocumentError(f"{str(path)!r} does not exist: check the path") from None
    except PermissionError:
        raise DocumentError(f"{str(path)!r} may not be read: check its permissions") from None
    except OSError as error:
        raise DocumentError(f"{str(path)!r} cannot be read: {error}") from None
    if not document.page_content.strip():
        hint = "a scanned PDF needs text recognition first" if suffix in PDF else "it is empty"
        raise DocumentError(f"{str(path)!r} has no text: {hint}")
    document.metadata.setdefault("title", title_of(document.page_content, name))
    yield Document(document.page_content, id=name, metadata=document.metadata)


def _text(path: Path) -> Document:
    raw = path.read_bytes()
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Document(raw.decode("utf-16", errors="replace"), metadata={"format": "text"})
    if b"\0" in raw[:8192]:
        raise DocumentError(f"{str(path)!r} is binary: convert it to text, Markdown, HTML or PDF")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{str(path)!r} is not UTF-8 (byte {raw[error.start]:#04x} at {error.start}): convert it, "
            "for example with iconv"
        ) from None
    return Document(text.replace("\r\n", "\n"), metadata={"format": "text"})


def _html(path: Path) -> Document:
    """HTML as Markdown, so that headings, lists and tables keep their shape; navigation, scripts and forms go."""
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(_text(path).page_content, "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for tag in soup.find_all([*_NOT_TEXT, "title"]):
        tag.decompose()
    for tag in soup.find_all(hidden=True):
        tag.decompose()
    body = soup.body or soup
    text = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        strip=["a", "img"],
        escape_misc=False,
        escape_underscores=False,
        escape_asterisks=False,
    ).convert_soup(body)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return Document(text, metadata={"format": "html"} | ({"title": title} if title else {}))


def _pdf(path: Path) -> Document:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package announces its retirement at import; this module is the only user
        from langchain_community.document_loaders import PyPDFLoader
    from pypdf.errors import FileNotDecryptedError, PyPdfError, WrongPasswordError

    path.open("rb").close()
    try:
        pages = PyPDFLoader(str(path)).load()
    except (FileNotDecryptedError, WrongPasswordError):
        raise DocumentError(f"{str(path)!r} is protected by a password: save it without one") from None
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # pypdf reports broken files in many classes
        raise DocumentError(f"{str(path)!r} is no readable PDF: {error}") from None
    text, starts = "", []
    for page in pages:
        text += "\n\n" if text else ""
        starts.append(len(text))
        text += page.page_content.strip()
    about: dict[str, Any] = {"format": "pdf", "pages": starts}
    title = str(pages[0].metadata.get("title") or "").strip() if pages else ""
    return Document(text, metadata=about | ({"title": title} if title else {}))


def _rows(path: Path) -> Iterator[Document]:
    """JSON Lines of documents: `{id, text, title?, path?, chunks?, metadata?}`; BEIR's `_id` is an id, too."""
    seen: set[str] = set()
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                name = str(row.get("id") or row["_id"])
                chunks = row.get("chunks")
                text = str(row["text"]) if row.get("text") is not None else "\n".join(chunks)
                extra = dict(row.get("metadata") or {})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DocumentError(
                    f"line {number} of {str(path)!r} is no document ({type(error).__name__}: {error}): "
                    'write {"id": ..., "text": ...}'
                ) from None
            if name in seen:
                raise DocumentError(f"line {number} of {str(path)!r} repeats the id {name!r}: ids must differ")
            seen.add(name)
            about = extra | {"format": "row", "path": str(row.get("path") or "")}
            if isinstance(chunks, list):
                about["chunks"] = [str(chunk) for chunk in chunks]
            title = str(row.get("title") or "") or title_of(text, about["path"] or name)
            yield Document(text, id=name, metadata=about | {"title": title})
