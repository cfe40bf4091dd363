"""A headless Chromium for the tests of the page: found or skipped with a reason, driven over the DevTools protocol.

Two can be used, the first that is there: Qt WebEngine, which pip installs (`PySide6-WebEngine`), or a Chromium or
Chrome on the PATH. ``EDGEIR_BROWSER`` names an executable instead.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 60.0
ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No sandbox: containers and root have none, and the page is ours. No host name leads anywhere.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
HOW_TO_GET = "pip install -e '.[dev]' brings one (PySide6-WebEngine), and so does apt-get install chromium"


class Tab:
    """One page, spoken to over its WebSocket."""

    def __init__(self, address: str) -> None:
        import websocket

        self._socket = websocket.create_connection(address, timeout=SECONDS, suppress_origin=True)
        self._last = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self.call("Network.emulateNetworkConditions", **offline)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._last:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, promises awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of the expression as soon as it is true."""
        end = time.monotonic() + SECONDS
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)
        return value

    def open(
        self, file: Path, *, width: int = 1000, height: int = 800, theme: str = "light", script: bool = True
    ) -> None:
        """Load a file of this disk and wait until it has drawn; events of earlier pages are forgotten."""
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.resize(width, height)
        self.look(theme)
        self.events.clear()
        self.call("Page.navigate", url=file.as_uri())
        self.wait_for(f"location.href === {json.dumps(file.as_uri())} && document.readyState === 'complete'")
        if script:
            self.settle()

    def look(self, theme: str, media: str = "") -> None:
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)

    def settle(self) -> None:
        """Wait for two frames."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def mouse(self, kind: str, x: float, y: float) -> None:
        button = "none" if kind == "mouseMoved" else "left"
        count = int(button == "left")
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=count, clickCount=count)

    def key(self, name: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def screenshot(self, x: float, y: float, width: float, height: float) -> bytes:
        """PNG of a part of the page, measured from its top left."""
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(answer["data"])

    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened, data: and blob: left out."""
        self.evaluate("1")  # whatever was under way has been reported before the answer
        sent = [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in sent if not url.startswith(("data:", "blob:"))]

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions, since the page was opened."""
        self.evaluate("1")
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(parameters["exceptionDetails"])[:500])
            elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in {"error", "warning", "assert"}:
                found.append(json.dumps(parameters["args"])[:500])
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in {"error", "warning"}:
                found.append(parameters["entry"]["text"])
        return found

    def close(self) -> None:
        self._socket.close()


def why_not() -> str | None:
    """What is missing for a browser test, ``None`` when nothing is."""
    if importlib.util.find_spec("websocket") is None:
        return "websocket-client is not installed; " + HOW_TO_GET
    return None if _command() else f"no headless Chromium on this machine ({_qt_problem()}); {HOW_TO_GET}"


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """A tab of a fresh browser whose profile and log lie in ``folder``."""
    command = _command()
    assert command
    log = folder / "browser.log"
    environment = {
        **os.environ,
        "HOME": str(folder),
        "QT_QPA_PLATFORM": "offscreen",
        "QTWEBENGINE_REMOTE_DEBUGGING": f"127.0.0.1:{_free_port()}",  # it refuses 0, which would be safer
        "QTWEBENGINE_CHROMIUM_FLAGS": " ".join(f'"{flag}"' if " " in flag else flag for flag in FLAGS),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.replace("PROFILE", str(folder)) for part in command], env=environment, stdout=output, stderr=output
        )
    try:
        tab = Tab(_address(process, log))
        try:
            yield tab
        finally:
            tab.close()
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@functools.cache
def _qt_problem() -> str | None:
    """Why Qt WebEngine cannot be used: it needs libraries of the system that pip does not bring (libnss3)."""
    tried = [sys.executable, "-c", "import PySide6.QtWebEngineWidgets"]
    result = subprocess.run(tried, capture_output=True, text=True, timeout=SECONDS, check=False)
    return result.stderr.strip().rpartition("\n")[2] or "it ended" if result.returncode else None


def _command() -> list[str] | None:
    named = os.environ.get("EDGEIR_BROWSER")
    if not named and not _qt_problem():
        return [sys.executable, str(Path(__file__).with_name("qt_browser.py"))]
    found = named or next(filter(None, map(shutil.which, ON_PATH)), None)
    if found is None:
        return None
    return [
        found,
        "--headless=new",
        *FLAGS,
        "--remote-debugging-port=0",
        "--user-data-dir=PROFILE/profile",
        "about:blank",
    ]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        text = log.read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None, f"the browser ended:\n{text}"
        if found := re.search(r"DevTools listening on ws://([\d.:]+)/", text):
            with urllib.request.urlopen(f"http://{found[1]}/json/list", timeout=SECONDS) as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.1)
    raise AssertionError(f"the browser did not answer:\n{log.read_text(encoding='utf-8', errors='replace')}")
