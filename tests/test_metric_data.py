"""Replies are kept by what an arm was asked, of which the files under persllm/metrics/data/ are told by number alone.

So whoever edits such a file must raise VERSIONS["probe"] of the metrics that read it, else replies to the old questions
stand as replies to the new ones. `python tests/test_metric_data.py` then writes tests/golden/metric_data.json anew.
"""

import hashlib
import json
from pathlib import Path

import pytest

from persllm import metrics, pack_probes, packs
from persllm.probes import DATA, Subject

GOLDEN = Path(__file__).parent / "golden" / "metric_data.json"
OF_THE_JUDGE = {"planted_answers.jsonl"}


def read_by(name):
    """Return the names of the data files that a metric reads to know what it asks."""
    root = packs.folder("scrooge")
    card = packs.load_card(root)
    about = Subject(root.name, card, [], {}, pack_probes.read(root, list(card.stages)), None)
    module, met = metrics.module(name), set()
    ask = getattr(module, "probes", getattr(module, "scenarios", None))
    if ask is None:
        return met
    with pytest.MonkeyPatch.context() as patch:
        for how in ("open", "read_text", "read_bytes"):
            real = getattr(Path, how)

            def spy(path, *args, real=real, **named):
                met.update({path.name} if path.parent == DATA else ())
                return real(path, *args, **named)

            patch.setattr(Path, how, spy)
        ask(about)
    return met


def now():
    found = {}
    for name in metrics.names():
        files = {file: hashlib.sha256((DATA / file).read_bytes()).hexdigest() for file in sorted(read_by(name))}
        if files:
            found[name] = {"probe": metrics.module(name).VERSIONS["probe"], "files": files}
    return found


def stale(golden, found):
    """Return a sentence for each metric whose files changed while its version did not."""
    return [
        f"{', '.join(changed)} in persllm/metrics/data/ changed, which {name} asks from: raise VERSIONS['probe'] in "
        f"persllm/metrics/{name}.py, so that no kept reply to the old text stands for the new one; then run "
        "`python tests/test_metric_data.py`"
        for name, one in found.items()
        if name in golden and golden[name]["probe"] == one["probe"]
        for files in [golden[name]["files"]]
        if (changed := sorted(file for file in files | one["files"] if files.get(file) != one["files"].get(file)))
    ]


@pytest.fixture(scope="module")
def found():
    return now()


def test_an_edited_file_comes_with_a_new_version_of_what_asks_it(found):
    golden = json.loads(GOLDEN.read_text())
    told = stale(golden, found)
    assert not told, "\n".join(told)
    assert found == golden, "versions or metrics changed: run `python tests/test_metric_data.py`"


def test_every_file_is_some_metrics(found):
    files = {path.name for path in DATA.iterdir() if path.name != "README.md"}
    assert {file for one in found.values() for file in one["files"]} | OF_THE_JUDGE == files


def test_an_edit_without_a_version_is_told_by_file_and_metric(found):
    edited = json.loads(json.dumps(found))
    edited["distinction"]["files"]["common.jsonl"] = "0" * 64
    (told,) = stale(found, edited)
    assert "common.jsonl" in told
    assert "VERSIONS['probe'] in persllm/metrics/distinction.py" in told
    edited["distinction"]["probe"] += 1
    assert not stale(found, edited)


if __name__ == "__main__":
    made = now()
    if GOLDEN.exists() and (problems := stale(json.loads(GOLDEN.read_text()), made)):
        raise SystemExit("\n".join(problems))
    GOLDEN.write_text(json.dumps(made, indent=2) + "\n")
