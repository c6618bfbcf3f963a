"""What several tests share: a small study on made-up packs with made-up steps, and the tiny model."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fakes

from persllm import cli, compose

# No test may reach for the network, nor a subprocess of one.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# The server that tests fork children from reads this, not sys.path.
HERE = Path(__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])

MODEL = ["model=hf", "model.path=none/tiny"]
"""A hub id that is never loaded: its identity needs no file and no package."""


class Small:
    """A study of two packs; ``words`` are its overrides."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outputs = folder / "out"
        for name in ("abel", "berta"):
            fakes.make_pack(folder / "packs", name)
        self.words = [
            "study.name=small",
            f"persona={folder}/packs/abel,{folder}/packs/berta",
            "method=prompt_profile,sft,persllm",
            *MODEL,
            f"outputs={self.outputs}",
            "track=disabled",
        ]

    def __call__(self, verb: str, *more: str) -> int:
        """Run a verb in this process."""
        return cli.main([verb, *self.words, *more])

    def spawn(self, verb: str, *more: str, **env: str) -> subprocess.Popen[str]:
        """Start a verb in a process of its own."""
        return subprocess.Popen(
            [sys.executable, fakes.__file__, verb, *self.words, *more],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def bytes(self) -> dict[str, bytes]:
        """Return every artifact's bytes by path."""
        files = sorted(p for p in self.outputs.glob("*/*/artifacts/**/*") if p.is_file())
        return {p.relative_to(self.outputs).as_posix(): p.read_bytes() for p in files}


@pytest.fixture(scope="session", autouse=True)
def composed_once():
    """Remember what Hydra makes of the project's own conf/: a tenth of a second each, hundreds of times."""
    real, own, made = compose.compose, compose.CONF, {}

    def remembering(name, overrides):
        if own != compose.CONF:
            return real(name, overrides)
        key = (name, *overrides)
        if key not in made:
            made[key] = real(name, overrides)
        return copy.deepcopy(made[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compose, "compose", remembering)
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The tiny model's folder."""
    import tiny

    return tiny.make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def lab(tiny, tmp_path_factory):
    """A study on the tiny model; its steps are shared by all tests of the session."""
    from tiny import Lab

    return Lab(tmp_path_factory.mktemp("lab"), tiny)


@pytest.fixture
def small(tmp_path, monkeypatch):
    for name, module in fakes.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("COLUMNS", "80")
    for name in list(os.environ):
        if name.startswith("FAKE_"):
            monkeypatch.delenv(name)
    return Small(tmp_path)
