"""LangSmith's client as artrag wants it: it keeps to `Privacy`, and holds up neither answers nor a process's end."""

import atexit
import gc
import logging
import os
import threading
import time
from collections import deque
from typing import Any

from artrag.errors import RemoteRefusedError, SettingsError
from artrag.harmless import one_line
from artrag.settings import Settings
from artrag.telling import without_keys
from artrag.tracing.privacy import Privacy, error_class, redacted, wordless

LEAVING = 1.5
"""Seconds that a process waits at its end for LangSmith to take what is left of a trace."""

_making = threading.Lock()
_made: tuple[Privacy, Any] | None = None
_faults: deque[str] = deque(maxlen=1)
_leaving, _flushed = threading.Event(), threading.Event()


def refuse_remote_tracing(settings: Settings) -> None:
    """Raise RemoteRefusedError where `local_only` meets tracing to a server."""
    from langsmith.utils import tracing_is_enabled

    if settings.local_only and tracing_is_enabled():
        raise RemoteRefusedError(
            "LangSmith tracing is on and local_only is set: unset LANGSMITH_TRACING, or unset local_only"
        )


def use_langsmith(privacy: Privacy | None = None) -> None:
    """Where LangSmith's tracing is on, make its client for this process; else do nothing.

    Every graph of artrag calls this when it is built, so the environment alone switches tracing and privacy on. Call it
    yourself, before the first run, to set the privacy in code. At the end of the process a trace has 1.5 seconds to
    leave; the client that LangChain makes by itself waits for minutes where its endpoint does not answer.

    Args:
        privacy: what may leave; none: as `ARTRAG_TRACE_HIDE` and `ARTRAG_TRACE_REDACT` say.

    Raises:
        RemoteRefusedError: `ARTRAG_LOCAL_ONLY` is set.
        SettingsError: something is to be kept private, but a client was made before, by somebody else.
    """
    from langsmith.utils import tracing_is_enabled

    global _made
    if not tracing_is_enabled():
        return
    refuse_remote_tracing(Settings.of(None))
    from langsmith import configure, run_trees

    with _making:
        known, privacy = run_trees._CLIENT, privacy or (_made[0] if _made else Privacy())
        if known is not None and (_made is None or known is not _made[1]):
            if privacy.hide or privacy.redact:
                raise SettingsError(
                    "traces are to be kept private, but a LangSmith client was made before artrag's graphs: call "
                    "artrag.tracing.use_langsmith() before the first run, or give your own client an anonymizer and "
                    "unset ARTRAG_TRACE_HIDE and ARTRAG_TRACE_REDACT"
                )
            return
        if known is None or _made is None or _made[0] != privacy:
            _made = (privacy, _client(privacy))
            configure(client=_made[1])


def _client(privacy: Privacy) -> Any:
    from langsmith import Client
    from langsmith.utils import get_env_var

    # Threads that wait for an endpoint must not keep the process: the one that sends, and those of a pool that only
    # compressed sending uses, and that Python always waits for.
    os.environ.setdefault("LANGSMITH_USE_DAEMON", "true")
    os.environ.setdefault("LANGSMITH_DISABLE_RUN_COMPRESSION", "true")
    get_env_var.cache_clear()  # type: ignore[attr-defined]  # it remembers that they were not set
    client = Client(
        hide_inputs=privacy.hide or None,  # None: as the SDK's own variables say
        hide_outputs=privacy.hide or None,
        anonymizer=_without_texts if privacy.hide else _redacted if privacy.redact else _without_keys,
        tracing_error_callback=lambda error: _faults.append(str(error).partition("trace=")[0]),
    )
    provider = _opentelemetry(client)
    if provider is not None:
        atexit.unregister(provider._atexit_handler)  # it waits for ten seconds
        threading.Thread(target=_flush, args=(provider,), daemon=True).start()  # at the end none may be started
    atexit.register(_leave, client, provider is not None)
    return client


def _opentelemetry(client: Any) -> Any:
    """What sends spans to an OTLP receiver, where LangSmith's client has made it; one of the user's own is let be."""
    if client.otel_exporter is None:
        return None
    from opentelemetry.trace import get_tracer_provider

    provider = get_tracer_provider()
    resource = getattr(provider, "resource", None)
    made = resource is not None and resource.attributes.get("langsmith.internal_provider")
    return provider if made and getattr(provider, "_atexit_handler", None) else None


def _flush(provider: Any) -> None:
    _leaving.wait()
    provider.force_flush()
    _flushed.set()


def _without_texts(data: dict[str, Any]) -> dict[str, Any]:
    """What the SDK hands over besides inputs and outputs: a run's error, or its metadata."""
    if set(data) == {"error"}:
        return {"error": error_class(str(data["error"]))}
    return wordless(data)


def _without_keys(data: Any) -> Any:
    """Inputs and outputs as they are, a run's error without keys of this process."""
    if isinstance(data, dict) and set(data) == {"error"}:
        return {"error": without_keys(str(data["error"]))}
    return data


def _redacted(data: Any) -> Any:
    return redacted(_without_keys(data))


def _leave(client: Any, opentelemetry: bool) -> None:
    """Wait a little for what is left, then let go; what was not taken is told in one line."""
    logging.getLogger("langsmith").setLevel(logging.CRITICAL)  # it would tell each try
    end = time.monotonic() + LEAVING
    client.flush(timeout=LEAVING)
    left = client.tracing_queue.unfinished_tasks if client.tracing_queue else 0
    where = f"LangSmith at {client.api_url}"
    if opentelemetry:
        _leaving.set()
        left = left or not _flushed.wait(max(0.0, end - time.monotonic()))
        where = "the OTLP receiver"
    if left or _faults:
        why = one_line(_faults[-1], 200) if _faults else f"no answer within {LEAVING} s"
        logging.getLogger("artrag").warning("%s did not take the whole trace: %s", where, why)
    gc.freeze()  # Python's last look at all that LangChain loaded takes another second
