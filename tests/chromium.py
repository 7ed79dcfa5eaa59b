"""A real Chromium without a window, driven over its DevTools protocol: what a page shows, asks for and complains of."""

import base64
import io
import itertools
import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import numpy as np
from PIL import Image
from websockets.sync.client import connect

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Chromium:
    """One page.

    Attributes:
        requests: the addresses that it asked for.
        complaints: what it logged: errors, warnings, breaches of the content policy.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers, self._open = folder, itertools.count(1), ExitStack()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = False

    def __enter__(self) -> Self:
        assert BINARY
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={self._folder}"]
        command, quiet = [BINARY, *flags, "about:blank"], {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = self._open.enter_context(subprocess.Popen(command, **quiet))
        self._open.callback(process.terminate)
        place, lines = self._folder / "DevToolsActivePort", [""]
        for _ in range(600):
            if place.is_file() and (lines := place.read_text().splitlines()):
                break
            time.sleep(0.05)
        with urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=30) as answer:
            (target,) = (one for one in json.load(answer) if one["type"] == "page")
        self._socket = self._open.enter_context(connect(target["webSocketDebuggerUrl"], max_size=None))
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """One call of the protocol; events that come in between are noted."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": given}))
        while True:
            said = json.loads(self._socket.recv(60))
            if said.get("id") == number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            self._note(said)

    def _note(self, said: dict[str, Any]) -> None:
        about = said.get("params", {})
        match said["method"]:
            case "Network.requestWillBeSent":
                self.requests.append(about["request"]["url"])
            case "Log.entryAdded":
                self.complaints.append(about["entry"]["text"])
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(about))
            case "Page.javascriptDialogOpening":
                self.complaints.append(about["message"])
                self.call("Page.handleJavaScriptDialog", accept=True)
            case "Page.loadEventFired":
                self._loaded = True

    def open(self, page: Path, *, width: int = 1100, height: int = 1400, scheme: str = "light") -> None:
        """Load a file and wait until it is there."""
        self.requests, self.complaints, self._loaded = [], [], False
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=page.as_uri())
        while not self._loaded:
            self._note(json.loads(self._socket.recv(60)))

    def value(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": {"Tab": 9, "Enter": 13}[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", text="\r" if key == "Enter" else "", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self) -> Any:
        """The window as an array of height, width and colours."""
        shot = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
