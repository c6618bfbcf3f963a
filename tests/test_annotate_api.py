"""The api annotator against a real OpenAI-compatible server (transformers serve), with a proxy that injects faults."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import nullcontext

import pytest
import tiny
from fakes import make_pack
from fault_proxy import FAULTS, FaultProxy

from persllm import cli
from persllm.annotators import REFUSED, Answer, Request, Unanswered
from persllm.annotators.answers import Answers
from persllm.annotators.api import VARIABLE, Api
from persllm.annotators.budget import Purse
from persllm.errors import UserError
from persllm.stop import Interrupted

pytest.importorskip("fastapi", reason="transformers serve needs fastapi and uvicorn (the extra dev)")

ENDPOINT = {
    "base_url": None,
    "concurrency": 4,
    "requests_per_minute": None,
    "timeout_seconds": 4.0,
    "retries": 3,
    "price_input": None,
    "price_output": None,
    "budget": None,
    "batch_size": 16,
}
SECRET = "sk-never-to-be-written-down"


def serve(model, log):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model), "--port", str(port)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen([*command, "--host", "127.0.0.1"], env=env, stdout=log, stderr=log)
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read()
            return process, f"http://127.0.0.1:{port}/v1"
        except OSError:
            assert process.poll() is None, "transformers serve ended"
            time.sleep(0.5)
    raise AssertionError("transformers serve did not come up")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    model = tiny.make_model(folder / "model")
    with (folder / "log.txt").open("w") as log:
        process, url = serve(model, log)
        yield url, str(model)
        process.terminate()
        process.wait(30)


def yes():
    return True


def requests(count):
    messages = [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Say {i}"}] for i in range(count)
    ]
    return [Request(m, 0, 0.0, 8) for m in messages]


def test_faults_lose_nothing_and_nothing_is_asked_twice(server, tmp_path, monkeypatch):
    url, model = server
    monkeypatch.setenv(VARIABLE, SECRET)
    asked = requests(2 * len(FAULTS))
    with FaultProxy(url) as proxy:
        api = Api(model, ENDPOINT | {"base_url": proxy.url})
        began = time.monotonic()
        found = dict(api.answer(asked, {0}, yes))
        assert time.monotonic() - began < 30, "a stall of 30 s is not waited for"
        assert set(found) == set(range(1, len(asked)))
        assert all(answer.completion_tokens > 0 for answer in found.values())
        assert set(proxy.answered.values()) == {1}, "each request was answered by the server once"
        assert len(proxy.answered) == len(asked) - 1
        assert {fault: n for fault, n in proxy.injected.items() if fault != "none"} == dict.fromkeys(FAULTS[1:], 2) | {
            FAULTS[-1]: 1
        }
        assert api.tries == sum(proxy.tries.values())
        assert proxy.keys_sent == {f"Bearer {SECRET}"}


def test_a_server_that_is_down_is_given_up_soon(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = Api("m", ENDPOINT | {"base_url": f"http://127.0.0.1:{port}/v1", "retries": 0, "concurrency": 1})
    with pytest.raises(Unanswered, match=r"^20 requests to http://127.0.0.1:\d+/v1 got no answer"):
        list(api.answer(requests(20), set(), yes))
    assert api.tries == 5


def test_a_refused_key_stops_at_once(server, monkeypatch):
    monkeypatch.setenv(VARIABLE, SECRET)
    with Refusing(401) as proxy:
        api = Api("m", ENDPOINT | {"base_url": proxy.url, "concurrency": 1})
        with pytest.raises(UserError, match=r"refuses annotate\.model=m") as caught:
            list(api.answer(requests(20), set(), yes))
    assert SECRET not in str(caught.value)
    assert api.tries == 1


class Refusing(FaultProxy):
    """Answers every request with an error, or as ``says`` makes of the request."""

    def __init__(self, status, told="no, not with {key}", says=None, usage=None):
        super().__init__("nowhere")
        self.status, self.told, self.says, self.usage = status, told, says, usage

    def handle(self, request):
        row = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        message = self.told.format(key=request.headers["Authorization"])
        code = "insufficient_quota" if self.status == 429 else None
        status, body = self.status, {"error": {"message": message, "code": code}}
        if self.says and (answer := self.says(row)) is not None:
            choice = {"index": 0, "message": {"role": "assistant", "content": answer[0]}, "finish_reason": answer[1]}
            head = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
            status, body = 200, head | {"choices": [choice], "usage": self.usage}
        self.reply(request, status, json.dumps(body).encode(), {"Content-Type": "application/json"})


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_request_too_long_is_set_aside_and_the_others_go_on(status):
    told = "This model's maximum context length is 100 tokens"
    with Refusing(status, told, lambda row: None if "Say 1" in str(row) else ("fine", "stop")) as proxy:
        found = dict(Api("m", ENDPOINT | {"base_url": proxy.url}).answer(requests(3), set(), yes))
    assert [found[i].finish_reason for i in range(3)] == ["stop", REFUSED, "stop"]
    assert told in found[1].text


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ("Unsupported value: temperature does not support 0.0 with this model", "temperature does not support"),
        ("max_tokens is too large: 8. This model supports at most 4 completion tokens", r"annotate\.max_tokens"),
    ],
)
def test_what_the_server_minds_in_every_request_is_told_in_its_words(told, names):
    with Refusing(400, told) as proxy:
        api = Api("m", ENDPOINT | {"base_url": proxy.url, "concurrency": 1})
        with pytest.raises(UserError, match=names):
            list(api.answer(requests(9), set(), yes))
    assert api.tries == 1


def test_newer_models_are_told_their_limit_as_they_want_it():
    """Even where all of the first requests went out in the old way before the first refusal came."""
    told = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    first = threading.Barrier(4)

    def says(row):
        if "max_completion_tokens" in row:
            return "fine", "stop"
        first.wait(10)
        return None

    with Refusing(400, told, says) as proxy:
        api = Api("m", ENDPOINT | {"base_url": proxy.url, "concurrency": 4})
        found = dict(api.answer(requests(6), set(), yes))
    assert [found[i].finish_reason for i in range(6)] == ["stop"] * 6
    assert api.tries == 4 + 6


def test_an_answer_without_content_is_an_answer():
    with Refusing(200, says=lambda _: (None, "content_filter")) as proxy:
        found = dict(Api("m", ENDPOINT | {"base_url": proxy.url}).answer(requests(2), set(), yes))
    assert {(one.text, one.finish_reason) for one in found.values()} == {("", "content_filter")}


def test_half_a_character_is_an_answer_that_can_be_kept(tmp_path):
    with Refusing(200, says=lambda _: ("a \ud83d b", "stop")) as proxy:
        (found,) = (
            answer for _, answer in Api("m", ENDPOINT | {"base_url": proxy.url}).answer(requests(1), set(), yes)
        )
    assert found.text == "a \ufffd b"
    store = Answers(tmp_path, {"api": "m"})
    store.put(requests(1)[0], found)
    assert store.get(requests(1)[0]) == found


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 7, "completion_tokens": None}])
def test_answers_without_usage_are_counted_and_end_what_has_a_budget(usage):
    with Refusing(200, says=lambda _: ("fine", "stop"), usage=usage) as proxy:
        api = Api("m", ENDPOINT | {"base_url": proxy.url, "concurrency": 1})
        purses = [Purse(ENDPOINT | {"price_input": 1, "price_output": 1, "budget": budget}) for budget in (None, 5)]
        for purse in purses:
            for _, answer in api.answer(requests(3), set(), purse.is_left):
                purse.pay(answer)
    assert [(purse.answers, purse.uncounted, purse.spent) for purse in purses] == [(3, 3, 0), (1, 1, 0)]
    purses[0].require_left()
    with pytest.raises(UserError, match=r"budget of 5 cannot be kept: .* 1 of 1 answers took"):
        purses[1].require_left()


def test_a_request_timeout_is_tried_again():
    tries = iter([None])
    with Refusing(408, says=lambda _: next(tries, ("fine", "stop"))) as proxy:
        api = Api("m", ENDPOINT | {"base_url": proxy.url})
        assert [answer.text for _, answer in api.answer(requests(1), set(), yes)] == ["fine"]
    assert api.tries == 2


@pytest.mark.parametrize("key", ["\u201csk-1\u201d", "sk-1\n", "sk 1"])
def test_a_key_that_no_header_can_hold_is_told_at_once(key, monkeypatch):
    monkeypatch.setenv(VARIABLE, key)
    with pytest.raises(UserError, match=f"{VARIABLE}: expected a key of ASCII") as caught:
        Api("m", ENDPOINT | {"base_url": "http://127.0.0.1:1/v1"})
    assert "sk" not in str(caught.value)


@pytest.mark.parametrize("what", ["stop", "budget", "refusal"])
def test_what_waits_for_its_turn_is_not_sent_once_it_is_over(what, monkeypatch):
    status = 401 if what == "refusal" else 200
    with Refusing(status, says=lambda _: None if status == 401 else ("fine", "stop")) as proxy:
        api = Api("m", ENDPOINT | {"base_url": proxy.url, "concurrency": 8, "requests_per_minute": 20})
        began = time.monotonic()
        stop = began + 0.5 if what == "stop" else began + 60
        monkeypatch.setattr("persllm.annotators.api.stop_asked", lambda: time.monotonic() > stop)
        with {"stop": pytest.raises(Interrupted), "refusal": pytest.raises(UserError)}.get(what, nullcontext()):
            list(api.answer(requests(20), set(), lambda: what != "budget" or api.tries == 0))
        assert time.monotonic() - began < 2.5, "three seconds are between two requests"
    assert api.tries == 1


def test_a_stop_ends_the_trying(monkeypatch):
    with Refusing(500) as proxy:
        api = Api("m", ENDPOINT | {"base_url": proxy.url, "retries": 50})
        monkeypatch.setattr("persllm.annotators.api.stop_asked", lambda: api.tries >= 6)
        began = time.monotonic()
        with pytest.raises(Interrupted):
            list(api.answer(requests(20), set(), yes))
        assert time.monotonic() - began < 8
        assert api.tries <= 6 + ENDPOINT["concurrency"]


@pytest.mark.parametrize("url", ["http://user:pw@127.0.0.1/v1", "http://h/v1?key=pw", "ftp://h/v1", "127.0.0.1:80"])
def test_an_address_with_a_secret_is_refused_and_not_shown(url, monkeypatch, capsys):
    words = ["annotate=api", "annotate.model=m", f"annotate.endpoint.base_url='{url}'", "persona=scrooge"]
    assert cli.main(["plan", *words, "method=sft"]) == 2
    told = capsys.readouterr().err
    assert "annotate.endpoint.base_url: expected an address such as" in told
    assert "pw" not in told
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(UserError, match="OPENAI_BASE_URL: expected an address"):
        Api("m", ENDPOINT)


def test_no_quota_is_not_tried_again(monkeypatch):
    monkeypatch.setenv(VARIABLE, SECRET)
    with Refusing(429) as proxy:
        api = Api("m", ENDPOINT | {"base_url": proxy.url, "concurrency": 1, "retries": 1})
        with pytest.raises(UserError, match=r"429: .*\*\*\*") as caught:
            list(api.answer(requests(3), set(), yes))
    assert SECRET not in str(caught.value)
    assert api.tries == 1


def test_a_key_is_asked_for_where_the_server_is_elsewhere(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match=f"environment variable {VARIABLE}"):
        Api("m", ENDPOINT | {"base_url": "https://models.invalid/v1"})


def test_requests_per_minute_are_kept(server):
    url, model = server
    api = Api(model, ENDPOINT | {"base_url": url, "requests_per_minute": 120})
    began = time.monotonic()
    assert len(list(api.answer(requests(5), set(), yes))) == 5
    assert time.monotonic() - began >= 4 * 0.5


def test_the_command_goes_on_where_it_was_stopped(server, tmp_path, monkeypatch, capsys):
    """The tiny model writes noise: no item comes of it, which is told; what counts here is who was asked how often."""
    url, model = server
    monkeypatch.setenv(VARIABLE, SECRET)
    pack = make_pack(tmp_path / "packs", "abel")
    for file in pack.glob("*/*.jsonl"):
        file.unlink()
    with FaultProxy(url, faults=("none", "none", "500", "garbage")) as proxy:
        words = [
            f"persona={pack}",
            "annotate=api",
            f"annotate.model={model}",
            f"annotate.endpoint.base_url={proxy.url}",
            "annotate.knowledge=4",
            "annotate.opinion=2",
            "annotate.premise=1",
            "annotate.attempts=2",
            "annotate.max_tokens=32",
            f"outputs={tmp_path / 'out'}",
        ]
        command = [sys.executable, "-m", "persllm.cli", "annotate", *words]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(list((tmp_path / "out").glob("answers/*/*.json"))) < 3:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert cli.main(["annotate", *words]) == 2
        told = capsys.readouterr()
        assert "wrote no item that can be read, of 14 asked for" in told.err
        assert "every answer is kept" in told.err
        kept = len(list((tmp_path / "out").glob("answers/*/*.json")))
        # What was under way when the process was killed is the only thing that may have been asked again.
        assert sum(proxy.answered.values()) - kept <= 8
        before = sum(proxy.tries.values())
        assert cli.main(["annotate", *words]) == 2
        assert sum(proxy.tries.values()) == before, "what is answered is not asked again"
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert SECRET.encode() not in written


def test_answers_survive_a_torn_file(tmp_path):
    store = Answers(tmp_path, {"api": "m"})
    (request,) = requests(1)
    store.put(request, Answer("yes", "stop", 3, 1))
    assert store.get(request) == Answer("yes", "stop", 3, 1)
    (path,) = tmp_path.glob("*/*.json")
    path.write_bytes(path.read_bytes()[:40])
    assert store.get(request) is None
