"""A headless Chromium for tests, driven over a pipe: opens files without a network, and keeps all that went wrong.

On Debian, as root, it is installed where it is missing; elsewhere a test that needs it fails and says so.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Names that Linux distributions give it.
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
_PATIENCE = 60.0
# Another test, or the system, may be installing something.
_WAIT = "-oDPkg::Lock::Timeout=600"


class BrowserError(Exception):
    """Chromium is missing, or does not do what it is asked."""


def executable() -> str:
    """Path of Chromium, which is installed if it is missing."""
    if found := _found():
        return found
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise BrowserError(f"none of {', '.join(_NAMES)} is on the PATH, and only root on Debian can install one")
    install = ["apt-get", _WAIT, "install", "--yes", "--no-install-recommends", "--no-remove", "chromium"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # The package lists may be old, or not there.
    for command in (install, ["apt-get", _WAIT, "update"], install):
        subprocess.run(command, env=environment, capture_output=True, timeout=1_500)
        if found := _found():
            return found
    raise BrowserError(f"`{' '.join(install)}` left no browser on the PATH")


def _found() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@dataclass
class Page:
    """A page of the browser; `requests` are the addresses that it asked for, `errors` all that it complained of."""

    send: int
    receive: int
    session: str = ""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    rest: bytes = b""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and wait for its result."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.send, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            answer = self._next()
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return dict(answer["result"])
        raise BrowserError(f"{method}: no answer in {_PATIENCE:g} s")

    def open(self, path: Path) -> float:
        """Open a file; returns the seconds until it was loaded and its script had run."""
        self.events.clear()
        began = time.monotonic()
        self.call("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self.events:
            self._next()
        if self.value("document.documentElement.dataset.ready") != "true":
            self.errors.append("the page's script did not finish")
        return time.monotonic() - began

    def cpu_seconds(self) -> float:
        """CPU time of the main thread since the page was opened: it hardly depends on what else the machine does."""
        found = self.call("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in found if one["name"] == "TaskDuration"))

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def look(self, width: int, dark: bool = False) -> None:
        """Set the width of the window, and whether the user prefers dark colours."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="screen", features=[scheme])

    def screenshot(self, path: Path) -> Path:
        """Save a picture of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 12_000), "scale": 1}
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    def pdf(self, path: Path) -> Path:
        """Print the page."""
        self.call("Emulation.setEmulatedMedia", media="", features=[])
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF")["data"]))
        return path

    def _next(self) -> dict[str, Any]:
        """The next message; an event is noted."""
        while b"\0" not in self.rest:
            read = os.read(self.receive, 1 << 20)
            if not read:
                raise BrowserError("the browser has ended")
            self.rest += read
        first, _, self.rest = self.rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        if method := message.get("method"):
            self._note(method, message["params"])
        return message

    def _note(self, method: str, values: dict[str, Any]) -> None:
        self.events.append(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(values["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.errors.append(values["entry"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.errors.append(str([one.get("value") for one in values["args"]]))
        elif method == "Page.javascriptDialogOpening":
            self.errors.append(f"a dialog: {values['message']}")


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """An empty page without a network; `folder` is the browser's home."""
    (command_in, command_out), (answer_in, answer_out) = os.pipe(), os.pipe()

    def hand_over() -> None:
        # Chromium reads from descriptor 3 and writes to 4.
        copies = os.dup(command_in), os.dup(answer_out)
        os.dup2(copies[0], 3)
        os.dup2(copies[1], 4)

    command = [executable(), *_OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    environment = {**os.environ, "HOME": str(folder)}
    log = (folder / "browser.log").open("wb")
    process = subprocess.Popen(
        command, stdout=log, stderr=log, env=environment, close_fds=False, preexec_fn=hand_over, start_new_session=True
    )
    os.close(command_in)
    os.close(answer_out)
    try:
        yield _first_page(Page(command_out, answer_in))
    finally:
        # It ends when nobody holds its pipe any more.
        os.close(command_out)
        os.close(answer_in)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        log.close()


def _first_page(page: Page) -> Page:
    target = page.call("Target.createTarget", url="about:blank")["targetId"]
    page.session = page.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Network", "Log"):
        page.call(f"{domain}.enable")
    page.call("Performance.enable", timeDomain="threadTicks")
    page.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    return page
