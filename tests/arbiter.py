"""An OpenAI-compatible server that judges as it is told to: honestly, by place, by length, at random, or not at all.

The honest judge sees what the prompts show and nothing else, but for the identity of the character that is on trial: a
candidate that holds the reference says the same, one that lies in it says a part, anything else says nothing of it.
"""

import hashlib
import http.server
import json
import re
import threading

BLOCK = re.compile(r"^BEGIN (\w+) ([0-9a-f]{10})\n(.*?)\nEND \1 \2$", re.MULTILINE | re.DOTALL)


def parts(row):
    """Return what a request quotes, title and text, in order."""
    return [(title, text) for title, _, text in BLOCK.findall(row["messages"][-1]["content"])]


class Honest:
    """Judges by what is so."""

    def __init__(self, identity=""):
        self.identity = identity

    def __call__(self, row):
        shown = parts(row)
        by_title = dict(shown)
        if "candidate" in by_title:
            return {"score": self.score(row, by_title["reference"], by_title["candidate"])}
        if "A" in by_title:
            return {"better": self.better(by_title["reference"], by_title["A"], by_title["B"])}
        characters = [text for title, text in shown if title == "character"]
        return {"character": self.speaker(characters)}

    def score(self, row, reference, candidate):
        return 5 if reference in candidate else 3 if candidate in reference else 0

    def better(self, reference, first, second):
        from persllm.judging import PADDING

        near = [text.replace(PADDING, "").strip() in reference for text in (first, second)]
        return "tie" if near[0] == near[1] else "A" if near[0] else "B"

    def speaker(self, characters):
        return 1 + next((i for i, text in enumerate(characters) if text.startswith(self.identity)), 0)


class PrefersFirst(Honest):
    def better(self, reference, first, second):
        return "A"


class PrefersLonger(Honest):
    def better(self, reference, first, second):
        return "A" if len(first) > len(second) else "B"


class ScoresLength(Honest):
    def score(self, row, reference, candidate):
        return 5 if len(candidate) > len(reference) else 0


class Constant(Honest):
    def score(self, row, reference, candidate):
        return 5


class Wavering(Honest):
    """Another verdict each time that it is asked."""

    def score(self, row, reference, candidate):
        return hashlib.sha256(f"{row['seed']}{candidate}".encode()).digest()[0] % 6


class KnowsNobody(Honest):
    def speaker(self, characters):
        return 1


class Perverse(Honest):
    """Consistently wrong."""

    def better(self, reference, first, second):
        return {"A": "B", "B": "A"}.get(super().better(reference, first, second), "tie")


class Arbiter:
    """The server, on a free port; ``asked`` holds every request.

    Args:
        judge: from a request to a verdict: an object, a text, or a status for an error.
    """

    def __init__(self, judge):
        self.asked = []
        arbiter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                arbiter.asked.append(row)
                verdict = judge(row)
                if isinstance(verdict, int):
                    return self.reply(verdict, {"error": {"message": "made up"}})
                text = verdict if isinstance(verdict, str) else json.dumps({"reason": "so it is"} | verdict)
                used = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
                choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                answer = {"id": "x", "object": "chat.completion", "created": 1, "model": row["model"]}
                return self.reply(200, answer | {"choices": [choice], "usage": used})

            def reply(self, status, row):
                body = json.dumps(row).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
