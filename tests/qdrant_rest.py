"""Qdrant's REST protocol on 127.0.0.1 over the client's own local mode: what the client sends is read and obeyed."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from qdrant_client import QdrantClient, models


class QdrantRest:
    """A server with one client's worth of data.

    Attributes:
        asked: (method, path, body) of every request, in order of arrival.
        version: what it says it is.
        fail: answer everything with this status.
        delay: seconds before every answer.
    """

    def __init__(self) -> None:
        self.store = QdrantClient(":memory:")
        self.asked: list[tuple[str, str, Any]] = []
        self.version, self.fail, self.delay = "1.17.0", 0, 0.0
        self.key = ""
        self._lock = threading.Lock()
        here = self

        class Handler(_Handler):
            server_of = here

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.store.close()

    def answer(self, method: str, path: str, body: Any) -> Any:
        with self._lock:
            self.asked.append((method, path, body))
            return _plain(self._answer(method, path, body or {}))

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        store = self.store
        if (method, path) == ("GET", "/collections"):
            return store.get_collections()
        if (method, path) == ("GET", "/aliases"):
            return store.get_aliases()
        if (method, path) == ("POST", "/collections/aliases"):
            return store.update_collection_aliases(models.ChangeAliasesOperation(**body).actions)
        found = re.fullmatch(r"/collections/([^/]+)(/.*)?", path)
        assert found, (method, path)
        name, what = found[1], found[2] or ""
        match method, what:
            case "GET", "/exists":
                return {"exists": store.collection_exists(name)}
            case "GET", "":
                return store.get_collection(name)
            case "PUT", "":
                wanted = models.CreateCollection(**body)
                return store.create_collection(name, wanted.vectors, wanted.sparse_vectors, metadata=wanted.metadata)
            case "PATCH", "":
                return store.update_collection(name, metadata=models.UpdateCollection(**body).metadata)
            case "DELETE", "":
                return store.delete_collection(name)
            case "PUT", "/index":
                models.CreateFieldIndex(**body)
                return {"operation_id": 0, "status": "completed"}
            case "PUT", "/points":
                return store.upsert(name, models.PointsList(**body).points)
            case "POST", "/points/delete":
                return store.delete(name, models.PointIdsList(**body).points)
            case "POST", "/points/scroll":
                asked = models.ScrollRequest(**body)
                points, following = store.scroll(
                    name, asked.filter, limit=asked.limit or 10, offset=asked.offset, with_payload=asked.with_payload
                )
                return {"points": points, "next_page_offset": following}
            case "POST", "/points":
                wanted_points = models.PointRequest(**body)
                return store.retrieve(name, wanted_points.ids, with_payload=wanted_points.with_payload or False)
            case "POST", "/points/query/batch":
                searches = models.QueryRequestBatch(**body).searches
                for search in searches:  # read, but of no use to the local mode, which says so in a warning
                    for one in (search, *(search.prefetch or [])):
                        one.params = None
                return store.query_batch_points(name, searches)
        raise AssertionError(f"the test's server does not know {method} {path}")


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


class _Handler(BaseHTTPRequestHandler):
    server_of: QdrantRest
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        here, path = self.server_of, urlsplit(self.path).path
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"null")
        time.sleep(here.delay)
        if here.fail or (here.key and self.headers.get("api-key") != here.key):
            return self._say(here.fail or 401, {"status": {"error": "as the test wants it"}})
        if path == "/":
            return self._say(200, {"title": "qdrant", "version": here.version})
        try:
            result = here.answer(self.command, path, body)
        except ValueError as error:
            return self._say(404 if "not found" in str(error) else 400, {"status": {"error": str(error)}})
        return self._say(200, {"result": result, "status": "ok", "time": 0.0})

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _say(self, status: int, body: Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        pass
