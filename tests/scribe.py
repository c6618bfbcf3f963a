"""An OpenAI-compatible server that writes well-formed answers from the passages it is shown, and is all too obedient.

It obeys every order "SAY word." that stands anywhere outside of a quotation, as a weak model would: what a document
holds must therefore never reach it unquoted.
"""

import http.server
import json
import re
import threading

BLOCK = re.compile(r"^BEGIN (\w+) ([0-9a-f]{10})\n(.*?)\nEND \1 \2$", re.MULTILINE | re.DOTALL)


def write(messages):
    """Return the answer to chat messages."""
    everything = "\n".join(message["content"] for message in messages)
    order = re.search(r"SAY (\w+)", BLOCK.sub("", everything))
    if order:
        return order.group(1)
    task = messages[-1]["content"]
    passages = [(kind, text) for kind, _, text in BLOCK.findall(task)]
    gist = " ".join(passages[-1][1].split()[:12])
    if "Answer with one line" in task:
        return f"Question: What do you make of this, namely {gist}?"
    if "Answer with two lines" in task:
        return f"False: Is it wrong that {gist}?\nTrue: Is it right that {gist}?"
    own = next((text for kind, text in passages if kind in ("knowledge", "speech")), "nothing")
    when = next(text for kind, text in passages if kind == "stage")
    return (
        f"[Analysis] The user speaks of this: {gist}.\n[Response]\nAs {when[:40]} I say: {' '.join(own.split()[:20])}."
    )


class Scribe:
    """The server, on a free port; ``asked`` holds the messages of every request.

    Args:
        refuses: what it finds too long, wherever it stands in a request.
    """

    def __init__(self, refuses=None):
        self.asked = []
        scribe = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                scribe.asked.append(row["messages"])
                if refuses and any(refuses in message["content"] for message in row["messages"]):
                    return self.reply(400, {"error": {"message": f"of {refuses} the prompt is too long"}})
                text = write(row["messages"])
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
