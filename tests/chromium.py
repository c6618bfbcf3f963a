"""A real browser for tests."""

import fcntl
import json
import os
import subprocess
import time

import pytest


class Browser:
    """A real Chromium, driven through its debugging pipe."""

    def __init__(self, folder):
        down, self.commands = os.pipe()
        self.answers, up = os.pipe()
        # Out of the way of 3 and 4, which the browser reads and writes.
        far = [fcntl.fcntl(end, fcntl.F_DUPFD, 30) for end in (down, up)]
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        words += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}"]
        words += ["--remote-debugging-pipe", "about:blank"]
        line = f'exec chromium "$@" 3<&{far[0]} 4>&{far[1]}'
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(["bash", "-c", line, "-", *words], pass_fds=far, stdout=quiet, stderr=quiet)
        for end in (down, up, *far):
            os.close(end)
        self.rest, self.number, self.session = b"", 0, {}
        target = next(one for one in self("Target.getTargets")["targetInfos"] if one["type"] == "page")["targetId"]
        self.session = {"sessionId": self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def __call__(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **self.session}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                self.rest += os.read(self.answers, 1 << 20) or pytest.fail("the browser ended")
            line, _, self.rest = self.rest.partition(b"\0")
            answer = json.loads(line)
            if answer.get("id") == self.number:
                return answer["result"]

    def js(self, code):
        return self("Runtime.evaluate", expression=code, returnByValue=True)["result"].get("value")

    def until(self, code):
        end = time.monotonic() + 20
        while not self.js(code):
            assert time.monotonic() < end, (code, self.js("document.body.innerText"))
            time.sleep(0.03)

    def keys(self, *keys, **more):
        for key in keys:
            text = "\r" if key == "Enter" else key if len(key) == 1 else ""
            for kind in ("keyDown", "keyUp"):
                self("Input.dispatchKeyEvent", type=kind, key=key, text=text if kind == "keyDown" else "", **more)

    def click(self, selector):
        """Press the mouse in the middle of an element."""
        place = f"document.querySelector({json.dumps(selector)})"
        self.js(f"{place}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = json.loads(self.js(f"JSON.stringify({place}.getBoundingClientRect())"))
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for kind in ("mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def width(self, pixels):
        self("Emulation.setDeviceMetricsOverride", width=pixels, height=900, deviceScaleFactor=1, mobile=False)

    def close(self):
        self("Browser.close")
        self.process.wait(20)
        os.close(self.commands)
        os.close(self.answers)
