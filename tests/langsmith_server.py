"""A collector on 127.0.0.1 that speaks the endpoints of LangSmith that its SDK uses, and keeps what arrives."""

import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import zstandard

_INFO = {
    "version": "0.12.0",
    "batch_ingest_config": {
        "use_multipart_endpoint": True,
        "size_limit": 100,
        "size_limit_bytes": 20_971_520,
        "scale_up_qsize_trigger": 1000,
        "scale_up_nthreads_limit": 16,
        "scale_down_nempty_trigger": 4,
    },
    "instance_flags": {"zstd_compression_enabled": True},
}


class LangSmithServer:
    """Takes runs and feedback; it may be silent, or answer posts of runs with another status.

    Attributes:
        runs: what is known of every run, by id: its fields, `inputs`, `outputs`, `extra`, `error`.
        feedback: as it was given.
        asked: the request lines, in the order of arrival.
        bodies: the same requests' bodies as they came.
    """

    def __init__(self, *, silent: bool = False, status: int = 202) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.feedback: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.silent, self.status, self.closing = silent, status, threading.Event()
        here = self

        class Handler(_Handler):
            server_ = here

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """What a user sets."""
        return {"LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": "lsv2_test", "LANGSMITH_ENDPOINT": self.url}

    def root(self) -> dict[str, Any]:
        (found,) = (run for run in self.runs.values() if not run.get("parent_run_id"))
        return found

    def below(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """The children of a run, in the order they began."""
        found = [one for one in self.runs.values() if one.get("parent_run_id") == run["id"]]
        return sorted(found, key=lambda one: one["dotted_order"])

    def take(self, name: str, data: Any) -> None:
        """One part of a multipart post: `post.ID`, `patch.ID`, `post.ID.inputs`, ..."""
        kind, run, *key = name.split(".")
        if kind == "feedback":
            self.feedback.append(data)
            return
        known = self.runs.setdefault(run, {"id": run})
        if key:
            known[key[0]] = data
        else:
            known.update({field: value for field, value in data.items() if value is not None})


class _Handler(BaseHTTPRequestHandler):
    server_: LangSmithServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        here, asked = self.server_, urlsplit(self.path)
        here.asked.append(f"GET {self.path}")
        if here.silent:
            here.closing.wait()
        elif asked.path == "/info":
            self._say(_INFO)
        elif asked.path == "/feedback":
            if here.status >= 400:
                self._say({"detail": "as told"}, here.status)
                return
            query = parse_qs(asked.query)
            found = [one for one in here.feedback if one["run_id"] in query["run"] and one["key"] in query["key"]]
            self._say(found[int(query.get("offset", ["0"])[0]) :][: int(query["limit"][0])])
        else:
            self._say({"detail": "not here"}, 404)

    def do_POST(self) -> None:
        here = self.server_
        here.asked.append(f"POST {self.path}")
        if here.silent:
            here.closing.wait()
            return
        body = self._body()
        here.bodies.append(body)
        if self.path == "/runs/multipart":
            boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])
            assert boundary
            if self.headers.get("Content-Encoding") == "zstd":
                body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
            for part in body.split(b"--" + boundary[1].encode())[1:-1]:
                head, _, data = part.partition(b"\r\n\r\n")
                name = re.search(rb'name="([^"]+)"', head)
                assert name
                here.take(name[1].decode(), json.loads(data))
            self._say({"detail": "as told"}, here.status)
        elif self.path == "/feedback":
            given = json.loads(body)
            here.feedback.append({"created_at": "2026-01-01T00:00:00Z", "modified_at": "2026-01-01T00:00:00Z"} | given)
            self._say({"id": given.get("id") or str(uuid.uuid4())})
        else:
            self._say({"detail": "not here"}, 404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _say(self, data: Any, status: int = 200) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
