"""From two folders of text, through a server, to a tuned model that answers: the whole path on the tiny model."""

import os
import shutil
import subprocess
import sys

import pytest
import tiny
from scribe import Scribe
from test_annotators import words

from persllm import cli, packs

pytestmark = pytest.mark.pipeline


def texts_of(root, shipped):
    """A folder of text: the beginnings of a shipped persona's paragraphs, and none of its items."""
    for file in packs.folder(shipped).glob("*/*.txt"):
        (root / file.parent.name).mkdir(parents=True, exist_ok=True)
        (root / file.parent.name / file.name).write_text("".join(file.open().readlines()[:9]))
    shutil.copy(packs.folder(shipped) / "persona.yaml", root)
    return root


def test_from_a_folder_of_text_to_an_answer(tmp_path, capsys):
    model = tiny.make_model(tmp_path / "model")
    one, other = (texts_of(tmp_path / f"my_{name}", name) for name in ("scrooge", "ottoline"))
    with Scribe() as scribe:
        study = [word for word in words(scribe, one, tmp_path / "out") if not word.startswith("persona=")]
        study += ["model=hf", f"model.path={model}", "model.max_length=2048", "track=disabled", "method=persllm"]
        study += ["method.tune.general=false", "method.tune.repeat=1", "generate.max_new_tokens=24"]
        study += ["annotate.knowledge=4", "annotate.opinion=4", "annotate.premise=4"]
        both = [f"persona={one},{other}", *study, "study.name=path", "compare.resamples=200"]
        assert cli.main(["plan", *both]) == 0
        assert not scribe.asked, "planning asks nobody"
        assert cli.main(["run", *both]) == 0
        assert "gold_log_likelihood" in capsys.readouterr().out
        asked = len(scribe.asked)
    # The server is gone: what was annotated needs it no more, neither in chat nor in another run.
    assert cli.main(["run", *both]) == 0
    assert "nothing to run" in capsys.readouterr().out
    talk = [sys.executable, "-m", "persllm.cli", "chat", f"persona={one}", "stage=late", *study]
    talk += [f"pairs.others=[{other}]", "--ask", "What of the lamp?"]
    done = subprocess.run(talk, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert asked == len(scribe.asked)
