"""`persllm chat` with arms on the tiny model."""

import pytest
from transformers import LlamaConfig

from persllm import cli
from persllm.answer import ANALYSIS
from persllm.decoding import generate_batch
from persllm.language_model import chat_ids
from persllm.prompting import build
from persllm.steps import generate
from persllm.verbs import chat

pytestmark = pytest.mark.pipeline

ASK = ["--ask", "What do you make of Christmas?"]
TUNED = [
    "method=persllm",
    "method.tune.repeat=1",
    "method.tune.general=false",
    "method.tune.materials=false",
    "method.tune.dpo=null",
]


@pytest.fixture(scope="module")
def words(lab):
    """The overrides of the lab's study for one persona."""
    return ["persona=scrooge", *(word for word in lab.words if not word.startswith("persona="))]


def reply(lab, step, directory, stage):
    """Return what the arm of a generate step says to the question, and its text is."""
    ctx = lab.context(step, directory)
    model, tokenizer = generate.load_arm(ctx, stage)
    prompt = chat_ids(tokenizer, build(generate.prompt_source(ctx), stage, ASK[1]))
    config = step.config["generate"] | {"max_new_tokens": 2 * step.config["generate"]["max_new_tokens"]}
    return generate_batch(model, tokenizer, [prompt], config, 0)[0].text


@pytest.mark.parametrize("stage", ["early", "late"])
def test_says_what_the_arm_would_generate(lab, words, tmp_path, capsys, stage):
    expected = reply(lab, lab.cell("prompt_profile").generate, tmp_path / "step", stage)
    capsys.readouterr()
    assert cli.main(["chat", *words, "method=prompt_profile", f"stage={stage}", *ASK]) == 0
    assert capsys.readouterr().out.strip() == expected


def test_stages_are_told_apart(lab, words, tmp_path):
    step = lab.cell("prompt_profile").generate
    one, two = (reply(lab, step, tmp_path / stage, stage) for stage in ("early", "late"))
    assert one != two


def test_the_last_stage_is_the_default(lab, words, tmp_path, capsys):
    told = []
    for more in ([], ["stage=late"]):
        assert cli.main(["chat", *words, "method=prompt_profile", *more, *ASK]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]


def test_an_arm_that_is_not_trained_names_the_command(words, capsys):
    assert cli.main(["chat", *words, *TUNED, "method.tune.lora.rank=3", *ASK]) == 2
    told = capsys.readouterr().err
    assert "this arm is not trained yet; run: persllm run persona=scrooge" in told
    assert "method.tune.lora.rank=3" in told


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["method=prompt_name", "stage=erly"], "stage=erly: Ebenezer Scrooge has early, late; did you mean 'early'?"),
        (["method=prompt_name,prompt_none"], "chat talks to one arm of one persona"),
    ],
)
def test_refusals_are_one_sentence(words, capsys, more, message):
    assert cli.main(["chat", *words, *more, *ASK]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_trained_arm_shows_its_analysis_only_when_asked(lab, words, capsys):
    """A random model's analysis never ends, which is said."""
    lab.run(lab.cell("persllm", *TUNED[1:]).train[0])
    assert cli.main(["chat", *words, *TUNED, *ASK]) == 0
    assert capsys.readouterr().out.strip() == "(the reply broke off in its analysis; try --analysis)"
    assert cli.main(["chat", *words, *TUNED, *ASK, "--analysis"]) == 0
    told = capsys.readouterr().out.strip()
    assert told
    assert "broke off" not in told


def test_a_finished_analysis_is_hidden_and_the_response_told(lab, words, tmp_path, capsys, monkeypatch):
    class Speaks:
        """Stands for a model that writes both parts."""

        device = "cpu"
        config = LlamaConfig()

        def generate(self, input_ids, streamer, **_):
            text = f"{ANALYSIS}He asks.\n[Response]\nHumbug!"
            streamer.put(input_ids)
            for token in lab.tokenizer(text, add_special_tokens=False)["input_ids"]:
                streamer.put(__import__("torch").tensor([token]))
            streamer.end()

    lab.run(lab.cell("persllm", *TUNED[1:]).train[0])
    monkeypatch.setattr(generate, "load_arm", lambda ctx, stage: (Speaks(), lab.tokenizer))
    assert cli.main(["chat", *words, *TUNED, *ASK]) == 0
    assert capsys.readouterr().out == "Humbug!\n"
    assert cli.main(["chat", *words, *TUNED, *ASK, "--analysis"]) == 0
    assert capsys.readouterr().out == f"{ANALYSIS}He asks.\n[Response]\nHumbug!\n"


def test_a_conversation_ends_with_an_empty_line(words, capsys, monkeypatch):
    lines = iter(["Who are you?", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert cli.main(["chat", *words, "method=prompt_name", "stage=late"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("You are talking to Ebenezer Scrooge, ")
    assert told.count("Ebenezer Scrooge: ") == 1


def test_stage_is_taken_out_of_the_overrides():
    assert chat._stage(["a=1", "stage=early", "b=2", "stage=late"]) == ("late", ["a=1", "b=2"])
    assert chat._stage(["a=1"]) == (None, ["a=1"])
