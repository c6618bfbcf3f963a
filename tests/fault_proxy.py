"""An HTTP proxy that stands before a model's server and injects faults; it counts what reached the server.

Each request is known by its Idempotency-Key. The faults come in turn, one for each request that is new, and hit only
its first try: no fault, 429 with Retry-After, 500, a cut connection, a stall, garbage with status 200, half a JSON.
"""

import collections
import http.server
import threading
import time
import urllib.error
import urllib.request

FAULTS = ("none", "429", "500", "cut", "stall", "garbage", "half")


class FaultProxy:
    """Listens on a free port of this machine."""

    def __init__(self, upstream, faults=FAULTS, stall=30.0):
        self.upstream = upstream
        self.faults = faults
        self.stall = stall
        self.lock = threading.Lock()
        self.tries = collections.Counter()
        self.answered = collections.Counter()
        self.injected = collections.Counter()
        self.keys_sent = set()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                proxy.handle(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """A client that went away after its timeout is part of the game."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def handle(self, request):
        body = request.rfile.read(int(request.headers["Content-Length"]))
        key = request.headers["Idempotency-Key"]
        with self.lock:
            fault = self.faults[len(self.tries) % len(self.faults)] if key not in self.tries else "none"
            self.tries[key] += 1
            self.injected[fault] += 1
            self.keys_sent.add(request.headers["Authorization"])
        if fault == "stall":
            time.sleep(self.stall)
        if fault in ("cut", "stall"):
            request.connection.close()
            return
        if fault in ("429", "500"):
            self.reply(request, int(fault), b'{"error": {"message": "made up"}}', {"Retry-After": "0"})
            return
        if fault == "garbage":
            self.reply(request, 200, b"<html>Bad gateway, they say</html>", {"Content-Type": "text/html"})
            return
        if fault == "half":
            self.reply(request, 200, b'{"id": "x", "choices": [{"mess', {"Content-Type": "application/json"})
            return
        forward = urllib.request.Request(
            self.upstream + request.path.removeprefix("/v1"), body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(forward, timeout=300) as response:
                answer, status = response.read(), response.status
        except urllib.error.HTTPError as error:
            answer, status = error.read(), error.code
        with self.lock:
            self.answered[key] += status == 200
        self.reply(request, status, answer, {"Content-Type": "application/json"})

    def reply(self, request, status, body, headers):
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
