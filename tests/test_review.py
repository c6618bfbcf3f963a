"""The review page, over HTTP and in a real browser, and the log it keeps."""

import base64
import contextlib
import errno
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fakes
import pytest
from chromium import Browser

from persllm import cli, packs, records, reviews
from persllm.annotators.inquiry import SetAside
from persllm.errors import UserError
from persllm.records import Item, Reanswer
from persllm.review import Drafts, require_own, told
from persllm.review.desk import Desk
from persllm.review.server import PageServer

HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)> </script> & so on"


def annotated(folder, pack):
    """Annotate a pack for real and return where its drafts lie."""
    assert cli.main(["annotate", f"persona={pack}", f"outputs={folder}/out"]) == 0
    places = [
        max((folder / "out" / step).iterdir(), key=lambda p: p.stat().st_mtime_ns) for step in ("annotate", "materials")
    ]
    return Drafts(places[0] / "artifacts", places[1] / "artifacts", pack)


@pytest.fixture
def drafts(tmp_path):
    pack = fakes.make_pack(tmp_path, "abel")
    path = pack / "early" / "items.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0] |= {"response": HOSTILE, "retrieved": ["knowledge/1", "knowledge/3"]}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place = annotated(tmp_path, pack)
    records.write(
        place.annotate / "set_aside.jsonl", [SetAside("early-k2", "question", "no line 'Question:'", HOSTILE)]
    )
    return place


@contextlib.contextmanager
def serving(*places):
    with PageServer(Desk(places), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(address, path="", body=None, **headers):
    """Return status and answer; a body makes it a post as the page itself sends it."""
    if body is not None:
        headers = {"Content-Type": "application/json", "Origin": re.match(r"http://[^/]+", address)[0]} | headers
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        address + path, data=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def decide(address, key, decision, seen=0, by="Ada", **texts):
    status, text, _ = ask(address, "decide", {"key": key, "decision": decision, "by": by, "seen": seen, **texts})
    return status, json.loads(text)


def test_decisions_are_kept_and_applied(drafts, tmp_path):
    with serving(drafts) as server:
        here = server.address
        assert decide(here, "0/early-k1", "accept")[0] == 200
        edit = {"question": "What of the lamp?", "analysis": "Think.", "response": "It burns."}
        status, state = decide(here, "0/early-o1", "edit", by="Bea", **edit)
        assert (status, state["decision"], state["edited"]) == (
            200,
            "edit",
            {k: edit[k] for k in ("question", "response")},
        )
        assert state["history"][0]["changes"]["question"] == [
            ["same", "What of "],
            ["gone", "o1?"],
            ["new", "the lamp?"],
        ]
        assert decide(here, "0/late-f1", "reject")[0] == 200
        assert decide(here, "0/late-k1@early", "edit", analysis="Think.", response="Another answer.")[0] == 200
        assert decide(here, "0/late-o1", "reject")[0] == 200
        status, state = decide(here, "0/late-o1", "undo", seen=1)
        assert (state["decision"], len(state["history"])) == ("open", 2)
        told = server.desk.counts()
    assert told == {"accept": 1, "edit": 2, "reject": 1, "open": 9, "dropped": 3, "stale": 0}
    log = reviews.load(drafts.pack)
    assert [(line.id, line.decision, line.by) for line in log[:3]] == [
        ("early-k1", "accept", "Ada"), ("early-o1", "edit", "Bea"), ("late-f1", "reject", "Ada"),
    ]  # fmt: skip
    assert [line.decision for line in log[4:]] == ["reject", "undo"]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", line.at) for line in log)

    again = annotated(tmp_path, drafts.pack)
    assert again.annotate != drafts.annotate
    items = {item.id: item for item in records.read(Item, again.annotate / "items.jsonl")}
    answers = {reviews.name_of(one): one for one in records.read(Reanswer, again.annotate / "reanswers.jsonl")}
    # The rejected one is gone with its twin and the answers to both.
    assert set(items) == {f"{stage}-{short}" for stage in ("early", "late") for short in ("k1", "o1", "f1", "t1")} - {
        "late-f1",
        "late-t1",
    }
    assert not {"late-f1@early", "late-t1@early"} & set(answers)
    assert len(answers) == 6
    assert (items["early-o1"].question, items["early-o1"].response) == ("What of the lamp?", "It burns.")
    assert answers["late-k1@early"].response == "Another answer."
    with serving(again) as server:
        # The page still knows every decision: drafts are what the annotator wrote.
        assert server.desk.counts() == told


def test_only_its_own_page_with_the_token_is_served(drafts):
    with serving(drafts) as server:
        here = server.address
        root = here.removesuffix(f"{server.token}/")
        body = {"key": "0/early-k1", "decision": "accept", "by": "Ada", "seen": 0}
        assert server.server_address[0] == "127.0.0.1"
        assert ask(here)[0] == 200
        assert ask(here, Host=f"localhost:{server.server_port}")[0] == 200
        refused = [
            ask(root),
            ask(root + "x" * len(server.token) + "/"),
            ask(root + server.token[:-1] + "/", "decide", body),
            ask(here, Host=f"evil.example:{server.server_port}"),
            ask(here, "decide", body, Host="evil.example:80", Origin="http://evil.example:80"),
            ask(here, "decide", body, Origin="http://evil.example"),
            ask(here, "decide", body, Origin="null"),
            ask(here, "decide", body, Sec_Fetch_Site="cross-site"),
            ask(here, "decide", body, Content_Type="text/plain"),
        ]
        assert [status for status, _, _ in refused] == [403] * len(refused)
        assert all(len(json.loads(text)["error"]) > 20 for _, text, _ in refused)
        assert not any(server.token in text for _, text, _ in refused)
        assert ask(here, "../../etc/passwd")[0] in (403, 404)
        assert ask(here, "decide", b"[")[0] == 400
        assert ask(here, "decide", b"[" * 100_000)[0] == 400
        assert ask(here, "decide", b"", Content_Length=str(2 << 20))[0] == 413
        assert ask(here, "changes?since=x")[0] == 400
        assert not (drafts.pack / reviews.FILE).exists()


def test_the_address_without_its_last_slash_leads_to_the_page(drafts):
    with serving(drafts) as server:
        status, page, _ = ask(server.address[:-1])
        assert (status, page) == (200, ask(server.address)[1])
        wrong = http.client.HTTPConnection("127.0.0.1", server.server_port)
        wrong.request("GET", f"/{server.token}")
        assert wrong.getresponse().getheader("Location") == f"/{server.token}/"


def test_requests_that_are_none_are_answered_without_a_traceback(drafts, capsys):
    with serving(drafts) as server:
        for line, more, status in (
            ("GET http://[x/ HTTP/1.1", "", b"400"),
            (f"POST /{server.token}/decide HTTP/1.1", f"Content-Length: {'9' * 5000}\r\n", b"403"),
        ):
            with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as wire:
                wire.sendall(f"{line}\r\nHost: localhost:1\r\n{more}\r\n".encode())
                assert wire.recv(4096).split()[1] == status
    assert capsys.readouterr().err == ""


def test_decisions_about_texts_that_are_no_more_are_told():
    counts = {"accept": 1, "edit": 0, "reject": 0, "open": 3, "dropped": 0, "stale": 2}
    assert told(counts) == "1 accepted, 0 edited, 0 rejected, 3 left, 2 about texts that are no more"
    assert "no more" not in told(counts | {"stale": 0})


def test_strange_texts_stay_texts(drafts):
    with serving(drafts) as server:
        _, page, headers = ask(server.address)
    assert "document.title" in page
    assert "<img" not in page
    # The page's own two, and the data's element.
    assert len(re.findall(r"<script", page)) == len(re.findall(r"</script>", page)) == 2
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["Referrer-Policy"] == "no-referrer"
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|url\(|@import", page)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"by": "  "}, "say who you are"),
        ({"by": "A\u202eda"}, "say who you are"),
        ({"decision": "acept"}, "expected accept, edit, reject or undo"),
        ({"decision": "undo"}, "nothing to undo"),
        ({"decision": "edit", "question": "Q?", "analysis": "A.", "response": " "}, "the response is empty"),
        ({"decision": "edit", "question": "Q?", "analysis": "[Response]", "response": "R."}, "which mark"),
        (
            {"decision": "edit", "question": "What of f1?", "analysis": "Think.", "response": "abel says f1."},
            "accept it",
        ),
        ({"seen": True}, "expected a JSON object"),
        ({"key": "1/early-f1"}, "no such text"),
    ],
)
def test_senseless_decisions_are_refused_in_words(drafts, change, said):
    with serving(drafts) as server:
        body = {"key": "0/early-f1", "decision": "accept", "by": "Ada", "seen": 0} | change
        status, text, _ = ask(server.address, "decide", body)
    assert status in (400, 404)
    assert said in json.loads(text)["error"]
    assert not (drafts.pack / reviews.FILE).exists()


def test_two_browsers_and_two_servers_lose_nothing(drafts):
    keys = [text["key"] for text in Desk([drafts]).page()["texts"]]
    with serving(drafts) as one, serving(drafts) as other:
        work = [(server.address, key, by) for key in keys for server, by in ((one, "Ada"), (other, "Bea"))]
        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(lambda job: decide(job[0], job[1], "accept", by=job[2])[0], work))
        # Of two who saw the same text undecided, one was told of the other.
        assert sorted(done) == [200] * len(keys) + [409] * len(keys)
        assert one.desk.counts() == other.desk.counts()
        status, answer = decide(other.address, keys[0], "reject", seen=0, by="Cid")
        assert status == 409
        assert re.search(r"(Ada|Bea) decided \(accept\)", answer["error"])
        assert decide(other.address, keys[0], "reject", seen=1, by="Cid")[1]["decision"] == "reject"
        found = json.loads(ask(one.address, f"changes?since={len(keys)}")[1])
        assert list(found["states"]) == [keys[0]]
        assert found["states"][keys[0]]["history"][-1]["by"] == "Cid"
    assert len(reviews.load(drafts.pack)) == len(keys) + 1


def test_undo_counts_the_decision_before_again(drafts):
    with serving(drafts) as server:
        edit = {"question": "What of f1?", "analysis": "Think.", "response": "New."}
        for seen, decision in enumerate(["accept", "edit", "reject", "undo", "undo", "undo"]):
            _, state = decide(server.address, "0/early-f1", decision, seen=seen, **edit)
            assert state["decision"] == ["accept", "edit", "reject", "edit", "accept", "open"][seen]
        assert decide(server.address, "0/early-f1", "undo", seen=6)[0] == 400
        gone = ["gone", "new"]
        told = [[kind for kind, _ in line["changes"].get("response", [])] for line in state["history"]]
        assert told == [[], gone, gone, gone, gone, []]
    assert len((drafts.pack / reviews.FILE).read_text().splitlines()) == 6


def start(drafts, limit=None):
    code = (
        "import sys; from pathlib import Path\n"
        "from persllm.cli import guard; from persllm.review import Drafts, serve\n"
        "sys.exit(guard(lambda: serve([Drafts(*map(Path, sys.argv[1:4]))])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, drafts.annotate, drafts.materials, drafts.pack],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))),
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "review: 0 accepted, 0 edited, 0 rejected, 16 left\n"
    return process, re.search(r"http://127\.0\.0\.1:\d+/\S+/", process.stdout.readline())[0]


def test_ctrl_c_ends_it_with_a_count(drafts):
    process, address = start(drafts)
    decide(address, "0/early-k1", "accept")
    decide(address, "0/early-f1", "reject")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    ended = "review ended: 1 accepted, 0 edited, 1 rejected, 11 left, 3 left out with a rejected one\n"
    assert ended + f"  kept in {drafts.pack / reviews.FILE}\n" in out


def test_a_full_disk_is_one_sentence_and_leaves_no_half_line(drafts):
    process, address = start(drafts, limit=700)
    said = []
    for key in ("early-k1", "early-o1", "early-f1", "early-t1", "late-k1"):
        status, answer = decide(address, f"0/{key}", "accept", by="A" * 60)
        said.append((status, answer.get("error", "")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    kept = reviews.load(drafts.pack)
    assert 0 < len(kept) < 5
    assert [status for status, _ in said] == [200] * len(kept) + [507] * (5 - len(kept))
    sentence = f"{drafts.pack / reviews.FILE}: the decision was not kept ({os.strerror(errno.EFBIG)})"
    assert said[-1][1].startswith(sentence)
    assert err.splitlines() == [f"error: {said[-1][1]}"] * (5 - len(kept))


def test_what_cannot_be_reviewed_is_refused(drafts, tmp_path):
    shipped = Drafts(drafts.annotate, drafts.materials, packs.SHIPPED / "scrooge")
    with pytest.raises(UserError, match=r"scrooge is shipped with persllm .* copy it"):
        require_own([shipped])
    (drafts.pack / reviews.FILE).write_text('{"id": "x"\n')
    with pytest.raises(UserError, match=r"reviews.jsonl:1: not valid JSON"):
        Desk([drafts])
    with serving() as server, pytest.raises(UserError, match=rf"--port {server.server_port}: Address already in use"):
        PageServer(Desk([]), server.server_port)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(drafts):
    drafts.pack.chmod(0o500)
    with pytest.raises(UserError, match="no decision could be kept"):
        Desk([drafts]).require_writable()


@pytest.fixture
def browser(tmp_path):
    if not shutil.which("chromium"):
        pytest.skip("no chromium on the PATH: the page itself is not tried")
    found = Browser(tmp_path / "profile")
    yield found
    found.close()


def test_a_person_reviews_with_keys_alone(drafts, browser):
    shown = "document.querySelector('[aria-current]')?.id"
    log = drafts.pack / reviews.FILE
    with serving(drafts) as server:
        browser.width(1200)
        browser("Page.navigate", url=server.address)
        browser.until("document.getElementById('name')?.open")
        assert browser.js("document.title") == "Review of abel"
        browser.keys(*"Ada", "Enter")
        assert browser.js(shown) == "0/early-k1"
        assert HOSTILE in browser.js("document.querySelector('[aria-current]').innerText")
        assert "log 3" in browser.js("document.getElementById('paragraphs').innerText")
        browser.keys("a")
        browser.until(f"{shown} === '0/early-k1@late'")
        assert browser.js("document.activeElement.id") == "0/early-k1@late"
        browser.keys("r")
        browser.until("document.getElementById('done').textContent === '2 of 16 decided'")
        browser.keys("u")
        browser.until("document.getElementById('said').textContent === 'early-k1@late is open again.'")
        # The mouse may take a text that the keys are not at.
        browser.keys("j")
        browser.click("article[aria-current] + article button")
        browser.until("document.getElementById('done').textContent === '2 of 16 decided'")
        browser.keys("u")
        browser.until("document.getElementById('done').textContent === '1 of 16 decided'")
        browser.keys("k", "e")
        assert browser.js("document.activeElement.name") == "response"
        browser.keys(*" a! ")
        browser.keys("Enter", modifiers=2)
        browser.until("document.getElementById('kinds').textContent.startsWith('1 accepted, 1 edited')")
        browser.keys("/", *"T1?", "Enter")
        assert browser.js("[...document.querySelectorAll('.column')].length") == 2
        # Another browser's decision shows by itself, and what overlaps is not written over.
        assert decide(server.address, "0/early-t1", "reject", by="Bea")[0] == 200
        browser.keys("a")
        browser.until("document.getElementById('alert').textContent.includes('Bea decided (reject)')")
        browser.until("document.getElementById('0/early-f1').innerText.includes('with early-t1, which is rejected')")
        for width in (1200, 400):
            browser.width(width)
            assert browser.js("document.documentElement.scrollWidth") <= width
        assert len(base64.b64decode(browser("Page.captureScreenshot")["data"])) > 5000
        assert browser.js("document.title") == "Review of abel"
        kept = [(line.id, line.decision, line.by) for line in reviews.load(drafts.pack)]
        log.rename(log.with_suffix(".kept"))
        log.mkdir()
        browser.js("document.getElementById('search').value = ''; filter()")
        browser.keys("Escape", "a")
        browser.until(f"document.getElementById('alert').textContent.includes({json.dumps(str(Path(log)))})")
    assert kept == [
        ("early-k1", "accept", "Ada"), ("early-k1@late", "reject", "Ada"), ("early-k1@late", "undo", "Ada"),
        ("early-o1@late", "accept", "Ada"),
        ("early-o1@late", "undo", "Ada"),
        ("early-o1", "edit", "Ada"), ("early-t1", "reject", "Bea"),
    ]  # fmt: skip
