"""A headless Chromium driven over its debugging pipe: standard library only, no port, no network.

The browser reads JSON messages from file descriptor 3 and writes them to 4, each ended by a zero
byte (the Chrome DevTools Protocol, flattened sessions).
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

__all__ = ["Browser", "BrowserError", "Tab", "find_chromium"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--mute-audio",
    "--remote-debugging-pipe",
)
# Moves the two ends of the pipe to where the browser looks for them, then becomes the browser.
_LAUNCHER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 20) for n in sys.argv[1:3]]
os.dup2(ends[0], 3); os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class BrowserError(RuntimeError):
    """The browser died, did not answer in time, or a script in the page threw."""


def find_chromium() -> str | None:
    """Path of a Chromium: ``HYPERLM_CHROMIUM`` if set, else the first one on the path."""
    named = os.environ.get("HYPERLM_CHROMIUM")
    if named:
        return named
    return next((path for path in map(shutil.which, _NAMES) if path), None)


class Browser:
    """One browser process with a profile of its own; use it in a ``with`` statement."""

    def __init__(self, program: str, *, timeout: float = 30.0) -> None:
        self.timeout = timeout
        self.log: list[dict[str, Any]] = []  # events of all tabs, oldest first
        self._profile = tempfile.mkdtemp(prefix="hyperlm-browser-")
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()
        command = [
            sys.executable, "-I", "-c", _LAUNCHER, str(to_read), str(to_write), program, *_FLAGS,
            f"--user-data-dir={self._profile}", "about:blank",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command,
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer = bytearray()
        self._waiting: deque[dict[str, Any]] = deque()
        self._number = 0

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and remove its profile."""
        try:
            if self.process.poll() is None:
                self.send("Browser.close")
                self.process.wait(10)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        finally:
            for end in (self._in, self._out):
                os.close(end)
            shutil.rmtree(self._profile, ignore_errors=True)

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + self.timeout
        while True:
            answer = self._next(end)
            if answer is None:
                raise BrowserError(f"{method}: no answer within {self.timeout:g} s.")
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error'].get('message')}")
                result: dict[str, Any] = answer["result"]
                return result
            self.log.append(answer)

    def pump(self, seconds: float) -> None:
        """Collect events for a while."""
        end = time.monotonic() + seconds
        while (event := self._next(end)) is not None:
            self.log.append(event)

    def _next(self, end: float) -> dict[str, Any] | None:
        while not self._waiting:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                return None
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise BrowserError(f"The browser has ended ({self.process.poll()}).")
            self._buffer += piece
            *whole, rest = self._buffer.split(b"\0")
            self._buffer = bytearray(rest)
            self._waiting.extend(json.loads(bytes(part)) for part in whole)
        return self._waiting.popleft()

    def open(self, width: int = 1280, height: int = 800, **emulation: Any) -> "Tab":
        """A new tab; see :meth:`Tab.emulate` for ``emulation``."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.send(f"{domain}.enable")
        tab.emulate(width, height, **emulation)
        return tab


class Tab:
    """One page."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self.browser, self.target, self.session = browser, target, session

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.send(method, self.session, **parameters)

    def show(self) -> None:
        """Bring it to the front: tabs behind others draw no frames."""
        self.send("Page.bringToFront")

    def close(self) -> None:
        self.browser.send("Target.closeTarget", targetId=self.target)

    def emulate(
        self,
        width: int,
        height: int,
        *,
        dark: bool = False,
        reduced_motion: bool = True,
        touch: bool = False,
        ratio: float = 1.0,
    ) -> None:
        """Screen, colour scheme and what else the page may ask the device for."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=ratio, mobile=touch,
        )  # fmt: skip
        self.send(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                {
                    "name": "prefers-reduced-motion",
                    "value": "reduce" if reduced_motion else "no-preference",
                },
            ],
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=touch, maxTouchPoints=2)

    def go(self, address: str) -> None:
        """Open an address and wait until it has loaded and drawn."""
        self.show()
        found = self.send("Page.navigate", url=address)
        if "errorText" in found:
            raise BrowserError(f"{address}: {found['errorText']}")
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
        self.settle()

    def evaluate(self, script: str) -> Any:
        """Value of a JavaScript expression in the page; promises are awaited."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            text = details.get("exception", {}).get("description") or details.get("text")
            raise BrowserError(f"{text}\nin {script[:200]}")
        return answer["result"].get("value")

    def call(self, function: str, *arguments: Any) -> Any:
        """Result of a JavaScript function for arguments that JSON can hold."""
        return self.evaluate(f"({function})(...{json.dumps(arguments)})")

    def wait(self, condition: str, seconds: float = 10.0) -> None:
        """Until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise BrowserError(f"Not within {seconds:g} s: {condition}")
            time.sleep(0.02)

    def settle(self) -> None:
        """Until two more frames have been drawn."""
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
        )

    def mouse(
        self, kind: str, x: float, y: float, *, button: str = "left", clicks: int = 1
    ) -> None:
        """``kind`` is ``mousePressed``, ``mouseMoved`` or ``mouseReleased``."""
        down = kind != "mouseReleased" and button != "none"
        self.send(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button,
            buttons=1 if down else 0, clickCount=clicks,
        )  # fmt: skip

    def click(self, x: float, y: float, *, clicks: int = 1) -> None:
        for number in range(1, clicks + 1):
            self.mouse("mousePressed", x, y, clicks=number)
            self.mouse("mouseReleased", x, y, clicks=number)
        self.settle()

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 4) -> None:
        self.mouse("mousePressed", *start)
        for k in range(1, steps + 1):
            share = k / steps
            self.mouse(
                "mouseMoved", *(a + (b - a) * share for a, b in zip(start, end, strict=True))
            )
        self.mouse("mouseReleased", *end)
        self.settle()

    def wheel(self, x: float, y: float, delta: float) -> None:
        self.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=delta)
        self.settle()

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """``kind`` is ``touchStart``, ``touchMove`` or ``touchEnd``."""
        self.send(
            "Input.dispatchTouchEvent",
            type=kind,
            touchPoints=[{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)],
        )

    def key(self, key: str, code: int = 0) -> None:
        """Press and release a key by its DOM name."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        common = {"key": key, "windowsVirtualKeyCode": code or _KEYS.get(key, 0)}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)
        self.settle()

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)
        self.settle()

    def screenshot(self, path: Path | None = None) -> bytes:
        """PNG of what is visible, also written to ``path``."""
        picture = base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.write_bytes(picture)
        return picture

    def events(self, method: str) -> list[dict[str, Any]]:
        """Parameters of this tab's events so far."""
        return [
            event["params"]
            for event in self.browser.log
            if event.get("method") == method and event.get("sessionId") == self.session
        ]

    def problems(self) -> list[str]:
        """Errors and warnings on the console, uncaught exceptions, breaches of the policy."""
        found = [
            str(event["exceptionDetails"].get("exception", {}).get("description", event))
            for event in self.events("Runtime.exceptionThrown")
        ]
        found += [
            " ".join(str(a.get("value", a.get("description"))) for a in event["args"])
            for event in self.events("Runtime.consoleAPICalled")
            if event["type"] in ("error", "warning", "assert")
        ]
        found += [
            event["entry"]["text"]
            for event in self.events("Log.entryAdded")
            if event["entry"]["level"] in ("error", "warning")
        ]
        return found

    def requests(self) -> list[str]:
        """Addresses asked for, without the page itself and without data in the address."""
        asked = [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]
        return [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))]


_KEYS = {
    "Enter": 13, "Escape": 27, "Home": 36, "Tab": 9,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip
