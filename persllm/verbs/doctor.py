"""``persllm doctor``: is everything here that a study needs?"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from persllm import verbs
from persllm.errors import UserError

if TYPE_CHECKING:
    from persllm.schema import Config

EXAMPLES = """  persllm doctor
  persllm doctor model=hf model.path=./my-model outputs=/data/outputs"""

BAD_VERSIONS = {"pytorch-lightning": ("2.6.2", "2.6.3"), "lightning": ("2.6.2", "2.6.3")}
"""Releases that were malicious (GHSA-w37p-236h-pfx3)."""
GIB = 2**30

Finding = tuple[str, str, str]
"""``ok``, ``warn`` or ``bad``; what; what was found."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's flags."""
    verbs.json_flag(parser)


def main(args: argparse.Namespace) -> int:
    """Print one line per finding; return 1 where anything is bad."""
    from persllm.compose import resolve

    config = resolve(args.overrides).config
    found = [*_versions(), *_machine(Path(config.outputs)), *_models(config), *_services(config)]
    if args.json:
        verbs.print_json([{"level": level, "what": what, "found": text} for level, what, text in found])
    else:
        table = verbs.table(("", "what", "found"), fixed=("", "what"))
        for row in found:
            table.add_row(*row)
        console = verbs.console()
        console.print(table)
        console.print()
        console.print(verbs.counted((level for level, _, _ in found), ("ok", "warn", "bad")))
    return 1 if any(level == "bad" for level, _, _ in found) else 0


def _wanted() -> tuple[str, list[str]]:
    """Return the Python range and the requirements, from pyproject.toml or, once installed, from the metadata."""
    file = Path(__file__).parents[2] / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        return project["requires-python"], project["dependencies"]
    told = importlib.metadata.metadata("persllm")
    return told["Requires-Python"], [r for r in told.get_all("Requires-Dist") or [] if "extra ==" not in r]


def _versions() -> Iterator[Finding]:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    python, requirements = _wanted()
    here = platform.python_version()
    yield ("ok" if here in SpecifierSet(python) else "bad"), "python", f"{here} (wants {python})"
    for text in requirements:
        wanted = Requirement(text)
        wants = text.removeprefix(wanted.name)
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            yield "bad", wanted.name, f"not installed; pip install '{text}'"
            continue
        if version in BAD_VERSIONS.get(wanted.name, ()):
            yield "bad", wanted.name, f"{version} is a malicious release; remove it and pip install '{text}'"
        elif not wanted.specifier.contains(version.split("+")[0], prereleases=False):
            yield "bad", wanted.name, f"{version} is outside {wants}; pip install '{text}'"
        else:
            yield "ok", wanted.name, f"{version} (wants {wants})"


def _machine(outputs: Path) -> Iterator[Finding]:
    from persllm.store import require_writable

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        import torch
    except ImportError as error:
        yield "bad", "torch import", str(error)
    else:
        threads = torch.get_num_threads()
        level = "warn" if threads > cores else "ok"
        more = "; more threads than cores: set launch.threads" if threads > cores else ""
        yield level, "threads", f"{threads} on {cores} cores{more}"
        cuda = torch.cuda.is_available()
        yield "ok", "device", torch.cuda.get_device_name() if cuda else "no CUDA here; steps run on the CPU"
    memory = _memory_bytes()
    if memory is not None:
        level = "ok" if memory > 3 * GIB else "warn" if memory > 1.5 * GIB else "bad"
        yield level, "memory", f"{memory / GIB:.1f} GiB available (the quickstart wants about 3)"
    try:
        require_writable(outputs)
    except UserError as error:
        yield "bad", "outputs", str(error)
        return
    free = shutil.disk_usage(outputs).free
    level = "ok" if free > 5 * GIB else "warn" if free > GIB else "bad"
    yield level, "outputs", f"{outputs} can be written; {free / GIB:.1f} GiB free (the quickstart wants about 5)"


def _memory_bytes() -> int | None:
    """Return the memory that is available, or None where the system does not tell (not Linux)."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def _models(config: Config) -> Iterator[Finding]:
    from persllm.models import model_identity, package_folder

    try:
        identity = model_identity(config.model)
    except UserError as error:
        yield "bad", "model", str(error)
    else:
        if "package" in identity:
            yield "ok", "model", f"{identity['package']} {identity['version']}, {identity['bytes'] / 1e6:.0f} MB"
        else:
            yield "ok", "model", config.model.path + ("; fetched from the hub once" if "hub" in identity else "")
    for embedder in sorted({config.pairs.embedder, config.split.embedder, config.method.prompt.embedder}):
        if not embedder.startswith("package:"):
            yield "ok", "embedder", embedder
            continue
        try:
            package_folder(embedder.removeprefix("package:"))
            yield "ok", "embedder", f"{embedder} is installed"
        except UserError as error:
            yield "bad", "embedder", str(error)


def _services(config: Config) -> Iterator[Finding]:
    sbatch = shutil.which("sbatch")
    yield "ok", "slurm", f"sbatch at {sbatch}" if sbatch else "no sbatch here; steps run in this process"
    mode = config.track.mode.value
    netrc = Path("~/.netrc").expanduser()
    known = bool(os.environ.get("WANDB_API_KEY")) or (netrc.is_file() and "wandb" in netrc.read_text(errors="replace"))
    if mode == "online" and not known:
        yield "warn", "wandb", "online, but no WANDB_API_KEY and no login; set it or use track=offline"
    else:
        yield "ok", "wandb", mode
