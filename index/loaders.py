"""Reading files: the only module that touches langchain-community."""

import codecs
import hashlib
import json
import os
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from artrag.errors import DocumentError
from artrag.holding import LOCK
from artrag.index.build import CACHE
from artrag.index.context import title_of

READ_LIKE = "read 1"
"""Count it up when a format is read in another way: then the files of old indexes are read again."""

LARGEST = 1 << 28
"""Bytes of a file that is read whole; JSON Lines, which are read line by line, may have more, but no line of them."""

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

PDF, HTML, ROWS = {".pdf"}, {".html", ".htm", ".xhtml"}, {".jsonl"}
_AS_BROWSERS_DO = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "ascii": "cp1252", "us-ascii": "cp1252"}
_SKIPPED_FOLDERS = {"node_modules", "__pycache__"}
_NEWLINE, _BETWEEN_PAGES = b"\n", "\n\n"
_UNSEEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|opacity\s*:\s*0(?![.\d]*[1-9])|font-size\s*:\s*0(?![.\d]*[1-9])",
    re.IGNORECASE,
)
"""Styles of what readers of a page do not see; a style sheet can hide more."""
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
    found = []
    for place, folders, names in os.walk(root):
        folder = Path(place)
        if _is_index(folder, folders, names):
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED_FOLDERS]
        for name in names:
            path = folder / name
            inside = not path.is_symlink() or path.resolve().is_relative_to(home)
            if not name.startswith(".") and inside and path.is_file():
                found.append(path)
    for path in sorted(found):
        yield path, path.relative_to(root).as_posix()


def _is_index(folder: Path, folders: list[str], names: list[str]) -> bool:
    """An index holds its generations, finished or not, or its cache, beside its manifest or its lock."""
    parts = any(name.startswith(("generation-", "building-")) for name in folders) or CACHE in names
    return parts and (LOCK in names or "manifest.json" in names)


def file_hash(path: Path) -> str:
    """What tells how a file would be read: its bytes, and the version of this reader.

    Raises:
        DocumentError: it cannot be read, or is no file or too large.
    """
    try:
        _check_file(path)
        with path.open("rb") as file:
            return f"{READ_LIKE} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise _unreadable(path, error) from None


def read(path: Path, name: str) -> Iterator[Document]:
    """The documents of one file: text, metadata `title`, `format`, and for PDF `pages`, the offset of each page.

    Raises:
        DocumentError: it is missing, empty, unreadable, binary, encrypted, or a bad line of JSON (named by number).
    """
    suffix = path.suffix.lower()
    try:
        _check_file(path)
        if suffix in ROWS:
            yield from _rows(path)
            return
        document = _pdf(path) if suffix in PDF else _html(path) if suffix in HTML else _text(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if not document.page_content.strip():
        hint = "a scanned PDF needs text recognition first" if suffix in PDF else "it is empty"
        raise DocumentError(f"{str(path)!r} has no text: {hint}")
    document.metadata.setdefault("title", title_of(document.page_content, name))
    yield Document(document.page_content, id=name, metadata=document.metadata)


def _check_file(path: Path) -> None:
    """Refuse what would be read for ever: pipes and devices, and files of more than there is memory for."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
        raise DocumentError(f"{str(path)!r} is a pipe or a device: give a file, or a folder")
    if about.st_size > LARGEST and path.suffix.lower() not in ROWS:
        raise DocumentError(f"{str(path)!r} has {about.st_size} bytes, more than {LARGEST}: split it, or leave it out")


def _unreadable(path: Path, error: OSError) -> DocumentError:
    if isinstance(error, FileNotFoundError):
        return DocumentError(f"{str(path)!r} does not exist: check the path")
    if isinstance(error, PermissionError):
        return DocumentError(f"{str(path)!r} may not be read: check its permissions")
    return DocumentError(f"{str(path)!r} cannot be read: {error}")


def _text(path: Path, encoding: str = "utf-8") -> Document:
    """Text in UTF-8, or in UTF-16 with its mark; a text in another encoding is refused rather than guessed at.

    Lines end as Python reads them, with one newline; offsets count in this text.
    """
    raw = path.read_bytes()
    if wide := raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    if b"\0" in raw[:8192] and not wide:
        raise DocumentError(f"{str(path)!r} is binary: convert it to text, Markdown, HTML or PDF")
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{str(path)!r} is not {encoding.upper()} (byte {raw[error.start]:#04x} at {error.start}, "
            f"line {raw.count(_NEWLINE, 0, error.start) + 1}): convert it to UTF-8, for example with iconv"
        ) from None
    except LookupError:
        raise DocumentError(f"{str(path)!r} declares the unknown encoding {encoding!r}: convert it to UTF-8") from None
    return Document(text.replace("\r\n", "\n"), metadata={"format": "text"})


def _html(path: Path) -> Document:
    """HTML as Markdown, so that headings, lists and tables keep their shape; navigation, scripts and forms go.

    It is read in the encoding that it declares, else in UTF-8.
    """
    from bs4 import BeautifulSoup
    from bs4.dammit import EncodingDetector
    from bs4.exceptions import ParserRejectedMarkup

    declared = EncodingDetector.find_declared_encoding(path.read_bytes()[:4096], is_html=True) or "utf-8"
    markup = _text(path, _AS_BROWSERS_DO.get(declared, declared)).page_content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # XHTML is read as HTML on purpose
            return _converted(BeautifulSoup(markup, "html.parser"))
    except (RecursionError, ParserRejectedMarkup, AssertionError) as error:
        raise DocumentError(
            f"{str(path)!r} is no readable HTML ({type(error).__name__}): mend it, or leave it out"
        ) from None


def _converted(soup: "BeautifulSoup") -> Document:
    from markdownify import MarkdownConverter

    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for tag in soup.find_all([*_NOT_TEXT, "title"]):
        tag.decompose()
    for tag in [*soup.find_all(hidden=True), *soup.find_all(style=_UNSEEN)]:
        tag.decompose()
    for tag in soup.select("h1 a, h2 a, h3 a, h4 a, h5 a, h6 a"):
        if not any(character.isalnum() for character in tag.get_text()):  # the sign that links a heading to itself
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
    from pypdf.errors import FileNotDecryptedError, WrongPasswordError

    path.open("rb").close()
    texts: list[str] = []
    starts: list[int] = []
    title, at = "", 0
    try:
        for page in PyPDFLoader(str(path)).lazy_load():
            text = page.page_content.strip()
            starts.append(at)
            texts.append(text)
            at += len(text) + len(_BETWEEN_PAGES)
            title = title or str(page.metadata.get("title") or "").strip()
    except (FileNotDecryptedError, WrongPasswordError):
        raise DocumentError(f"{str(path)!r} is protected by a password: save it without one") from None
    except OSError:
        raise
    except Exception as error:  # pypdf reports broken files in any class
        raise DocumentError(f"{str(path)!r} is no readable PDF: {error}") from None
    about: dict[str, Any] = {"format": "pdf", "pages": starts}
    return Document(_BETWEEN_PAGES.join(texts), metadata=about | ({"title": title} if title else {}))


def _rows(path: Path) -> Iterator[Document]:
    """JSON Lines of documents: `{id, text, title?, path?, chunks?, metadata?}`; BEIR's `_id` is an id, too."""
    seen: set[str] = set()
    with path.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(LARGEST + 1), b""), start=1):
            if len(line) > LARGEST:
                raise DocumentError(f"line {number} of {str(path)!r} has more than {LARGEST} bytes: split it")
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                name = str(row.get("id") or row["_id"])
                chunks = row.get("chunks")
                text = str(row["text"]) if row.get("text") is not None else "\n".join(chunks)
                extra = dict(row.get("metadata") or {})
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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
