"""An OpenTelemetry receiver on 127.0.0.1 that speaks OTLP over HTTP and keeps the spans it is sent."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class OTLPReceiver:
    """Takes spans.

    Attributes:
        spans: name, id, parent and attributes of each.
        asked: the request lines.
        bodies: what was sent, unpacked.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self.spans: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.silent, self.closing = silent, threading.Event()
        here = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Nothing is printed."""

            def do_POST(self) -> None:
                here.asked.append(f"POST {self.path}")
                if here.silent:
                    here.closing.wait()
                    return
                body = self.rfile.read(int(self.headers["Content-Length"]))
                here.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

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

    def take(self, body: bytes) -> None:
        """One export."""
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for one in scope.spans:
                    about = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in one.attributes}
                    ids = {"id": one.span_id.hex(), "parent": one.parent_span_id.hex(), "trace": one.trace_id.hex()}
                    self.spans.append({"name": one.name, "about": about, **ids})

    def environment(self) -> dict[str, str]:
        """What a user sets; no account is needed."""
        mode = {"LANGSMITH_TRACING": "true", "LANGSMITH_TRACING_MODE": "otel"}
        return mode | {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "LANGSMITH_ENDPOINT": "http://127.0.0.1:1"}
