"""A real Chromium without a window for tests, spoken to over its DevTools pipe."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = "--headless=new --no-sandbox --remote-debugging-pipe --use-angle=swiftshader --enable-unsafe-swiftshader"


class Chromium:
    """One page. messages: everything that the browser has told so far."""

    def __init__(self, width: int = 1200, height: int = 800) -> None:
        self.profile = tempfile.TemporaryDirectory()
        self.number, self.buffer, self.messages = 0, b"", []
        commands, self.write = os.pipe()
        self.read, answers = os.pipe()
        words = [CHROMIUM, *FLAGS.split(), f"--user-data-dir={self.profile.name}", f"--window-size={width},{height}"]

        def at_3_and_4() -> None:  # where the browser expects its ends of the pipes
            ends = os.dup(commands), os.dup(answers)
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([*words, "about:blank"], preexec_fn=at_3_and_4, close_fds=False, **quiet)
        os.close(commands)
        os.close(answers)
        os.set_blocking(self.read, False)
        target = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in target if one["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        os.close(self.read)
        os.close(self.write)
        shutil.rmtree(self.profile.name, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict:
        """The result of a DevTools command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if hasattr(self, "session"):
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        answer = self.wait(lambda told: told.get("id") == self.number)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def wait(self, wanted: Any, seconds: float = 120) -> dict:
        """The first message, also of the past, that is wanted."""
        seen, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            self._receive()
            for told in self.messages[seen:]:
                if wanted(told):
                    return told
            seen = len(self.messages)
            time.sleep(0.005)
        raise TimeoutError("the browser did not answer")

    def open(self, path: Path) -> None:
        """Open a file from disk."""
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.wait(lambda told: told.get("method") == "Page.loadEventFired")

    def run(self, code: str) -> Any:
        """The value of a piece of JavaScript, awaited."""
        answer = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, code: str, seconds: float = 120) -> None:
        """Wait until a piece of JavaScript is true."""
        end = time.monotonic() + seconds
        while not self.run(code):
            assert time.monotonic() < end, f"never true: {code}"
            time.sleep(0.05)

    def picture(self) -> bytes:
        """A PNG of the page."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        told = [message for message in self.messages if message.get("method") in kinds]
        return [json.dumps(message["params"]) for message in told if '"GPU stall' not in json.dumps(message)]

    def requests(self) -> list[str]:
        """Addresses of everything asked for."""
        sent = [message for message in self.messages if message.get("method") == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def _receive(self) -> None:
        try:
            while part := os.read(self.read, 1 << 20):
                self.buffer += part
        except BlockingIOError:
            pass
        *whole, self.buffer = self.buffer.split(b"\0")
        self.messages += map(json.loads, whole)
