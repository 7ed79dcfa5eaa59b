"""A server that speaks OpenAI's chat protocol on 127.0.0.1, says what it is told to, and fails when it is told to."""

import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

PROMPT_TOKENS = 7


@dataclass(frozen=True, slots=True)
class Fail:
    """Answer with this HTTP status."""

    status: int


@dataclass(frozen=True, slots=True)
class Quote:
    """Refuse the key, and quote it."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Answer with status 200 and a body that is no JSON."""


@dataclass(frozen=True, slots=True)
class After:
    """Wait, then say something; closing the server ends the wait."""

    seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class Weighed:
    """Say something; a request with `logprobs` is told, for each token, how likely it and others were."""

    text: str
    tokens: tuple[dict[str, float], ...]


@dataclass(frozen=True, slots=True)
class Calls:
    """Call a tool."""

    tool: str
    arguments: dict[str, Any]


Said = str | Fail | Quote | Garbage | After | Weighed | Calls


class OpenAIServer:
    """Says the script's entries one after another, then for ever what `otherwise` makes of the prompt.

    Attributes:
        asked: the prompt of every request, in the order of arrival.
        bodies: the same requests as they came.
        keys: the key that each was sent with.
    """

    def __init__(self, *script: Said, otherwise: Callable[[str], Said] | Said = "Nausea.") -> None:
        self.script, self.otherwise = list(script), otherwise
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.closing, self._lock = threading.Event(), threading.Lock()
        server = self

        class Handler(_Handler):
            here = server

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # the default of 5 makes a burst of clients wait a second to connect

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # close() waits for them: nothing is left open behind a test
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def reference(self) -> str:
        """The model reference of this server."""
        return f"openai:fake@{self.url}"

    @property
    def asked(self) -> list[str]:
        return ["\n".join(str(message["content"]) for message in body["messages"]) for body in self.bodies]

    def next(self, body: dict[str, Any]) -> Said:
        with self._lock:
            self.bodies.append(body)
            if self.script:
                return self.script.pop(0)
        return self.otherwise(self.asked[-1]) if callable(self.otherwise) else self.otherwise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: every connection is closed after its reply, so that no client keeps one open."""

    here: OpenAIServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            return self._json({"error": {"message": f"no such page: {self.path}"}}, 404)
        return self._json({"object": "list", "data": [{"id": "fake", "object": "model", "owned_by": "tests"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            return self._json({"error": {"message": f"no such page: {self.path}"}}, 404)
        self.here.keys.append(key := str(self.headers["Authorization"]).removeprefix("Bearer "))
        said = self.here.next(body)
        if isinstance(said, After):
            self.here.closing.wait(said.seconds)
            said = said.text
        if isinstance(said, Fail):
            return self._json({"error": {"message": "told to fail", "type": "test", "code": None}}, said.status)
        if isinstance(said, Quote):
            return self._json({"error": {"message": f"the key {key} is not known", "type": "test", "code": None}}, 401)
        if isinstance(said, Garbage):
            return self._send(b'{"id": "no JSON', "application/json")
        if isinstance(said, Calls):
            return self._json(_tool_call(said))
        weights = said.tokens if isinstance(said, Weighed) and body.get("logprobs") else None
        text = said.text if isinstance(said, Weighed) else said
        return self._stream(text, body) if body.get("stream") else self._json(_completion(text, weights))

    def _stream(self, said: str, body: dict[str, Any]) -> None:
        words = said.split(" ")
        deltas = [word if n == 0 else f" {word}" for n, word in enumerate(words)]
        chunks = [_chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])]
        chunks += [_chunk([{"index": 0, "delta": {"content": text}, "finish_reason": None}]) for text in deltas]
        chunks += [_chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])]
        if (body.get("stream_options") or {}).get("include_usage"):
            chunks.append(_chunk([]) | {"usage": _usage(said)})
        events = [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]
        self._send("".join(f"data: {event}\n\n" for event in events).encode(), "text/event-stream")

    def _json(self, data: dict[str, Any], status: int = 200) -> None:
        self._send(json.dumps(data).encode(), "application/json", status)

    def _send(self, content: bytes, kind: str, status: int = 200) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client gave up waiting


def _completion(said: str, weights: tuple[dict[str, float], ...] | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": said}
    logprobs = None if weights is None else {"content": [_token(likely) for likely in weights]}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}],
        "usage": _usage(said),
    }


def _tool_call(said: Calls) -> dict[str, Any]:
    completion = _completion("", None)
    function = {"name": said.tool, "arguments": json.dumps(said.arguments)}
    completion["choices"][0]["message"]["tool_calls"] = [{"id": "call-1", "type": "function", "function": function}]
    completion["choices"][0]["finish_reason"] = "tool_calls"
    return completion


def _token(likely: dict[str, float]) -> dict[str, Any]:
    """A token, the first of `likely`, with the others beside it."""
    top = [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in likely.items()]
    return {**top[0], "top_logprobs": top}


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake", "choices": choices}


def _usage(said: str) -> dict[str, int]:
    words = len(said.split())
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": words, "total_tokens": PROMPT_TOKENS + words}
