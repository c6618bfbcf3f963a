"""The DAG of a study: which steps, from which inputs, and why each would run. Imports no torch."""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persllm import packs, sizing, workload
from persllm.compose import Cell, Resolved, slug
from persllm.errors import UserError
from persllm.expected import Times
from persllm.identity import differences, file_sha256, fingerprint, tree_sha256
from persllm.models import model_identity, package_folder
from persllm.schema import Config, Method, Optim, Prompt, Recipe
from persllm.steps import VERSIONS
from persllm.store import StepDir, read_json


def plain(value: Any) -> Any:
    """Return a dataclass as JSON types only."""
    return json.loads(json.dumps(dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Step:
    """A node of the pipeline: its meaning, and the steps it reads."""

    name: str
    label: str
    config: dict[str, Any]
    inputs: dict[str, Step] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)
    """Where things are on this machine, and other things that change no result."""
    version: int = 0
    fingerprint: str = ""

    @property
    def id(self) -> str:
        """The folder under outputs/, ``<step>/<label>-<hash8>``."""
        return f"{self.name}/{self.label}-{self.fingerprint[:8]}"

    def directory(self, outputs: Path) -> StepDir:
        """Return the step's directory."""
        return StepDir(outputs / self.id)

    def meaning(self) -> dict[str, Any]:
        """What config.json holds: name, code version, semantic config, and the local part that is not."""
        return {"step": self.name, "version": self.version, "config": self.config, "local": self.local}

    def input_record(self) -> dict[str, Any]:
        """What inputs.json holds: each role's step and fingerprint."""
        return {role: {"id": s.id, "fingerprint": s.fingerprint} for role, s in self.inputs.items()}


def make_step(
    name: str,
    label: str,
    config: dict[str, Any],
    inputs: dict[str, Step] | None = None,
    local: dict[str, Any] | None = None,
) -> Step:
    """Build a step with its fingerprint."""
    inputs = inputs or {}
    version = VERSIONS[name]
    digest = fingerprint(name, version, config, {role: step.fingerprint for role, step in inputs.items()})
    return Step(name, slug(label), config, inputs, local or {}, version, digest)


@dataclass(frozen=True)
class PlannedCell:
    """A cell with the steps that make it."""

    cell: Cell
    train: tuple[Step, ...]
    """SFT, then DPO (one step per stage where they are tuned apart); empty for a prompted arm."""
    generate: Step
    evaluate: Step


@dataclass(frozen=True)
class Plan:
    """A study's steps in an order in which each comes after its inputs."""

    resolved: Resolved
    cells: list[PlannedCell]
    steps: list[Step]
    """Everything up to evaluate; ``compare`` and ``report`` follow from what succeeded (see ``persllm.finish``)."""
    fingerprint: str

    @property
    def name(self) -> str:
        """The study's folder under outputs/studies/."""
        return f"{slug(self.resolved.study.name)}-{self.fingerprint[:8]}"


class _Builder:
    """Builds each distinct step once."""

    def __init__(self, resolved: Resolved) -> None:
        self.study = resolved.study
        self.personas = list(dict.fromkeys(cell.config.persona.pack for cell in resolved.cells))
        self.memo: dict[Any, Any] = {}
        self.steps: dict[str, Step] = {}
        self.packs: dict[tuple[str, str], workload.Pack] = {}
        self.times = Times(Path(resolved.config.outputs))

    def step(
        self,
        name: str,
        label: str,
        config: dict[str, Any],
        inputs: dict[str, Step] | None = None,
        local: dict[str, Any] | None = None,
    ) -> Step:
        made = make_step(name, label, config, inputs, local)
        return self.steps.setdefault(made.id, made)

    def split(self, config: Config, pack: str) -> Step:
        stages = config.persona.stages if pack == config.persona.pack else None
        key = (pack, repr(stages), repr(config.annotate), repr(config.split))
        if key not in self.memo:
            root = packs.folder(pack)
            card = packs.load_card(root, stages)
            paragraphs = packs.load_materials(root, card)
            items, reanswers = packs.load_items(root, card, paragraphs)
            self.packs[pack, repr(stages)] = workload.Pack(card, paragraphs, items, reanswers)
            name = root.name
            content = {"pack": name, "stages": list(card.stages), "sha256": tree_sha256(root, packs.FILES)}
            materials = self.step("materials", name, content, local={"folder": str(root)})
            annotate = self.step(
                "annotate", name, plain(config.annotate), {"materials": materials}, {"folder": str(root)}
            )
            self.memo[key] = self.step("split", name, plain(config.split), {"annotate": annotate})
        return self.memo[key]

    def pack(self, config: Config) -> workload.Pack:
        self.split(config, config.persona.pack)
        return self.packs[config.persona.pack, repr(config.persona.stages)]

    def materials(self, config: Config, pack: str) -> Step:
        return self.split(config, pack).inputs["annotate"].inputs["materials"]

    def others(self, config: Config) -> list[str]:
        key = ("others", config.persona.pack, repr(config.pairs.others))
        if key not in self.memo:
            own = packs.folder(config.persona.pack)
            shipped = [p.name for p in packs.SHIPPED.iterdir() if p.is_dir()]
            for named in (config.pairs.others or self.personas, shipped):
                self.memo[key] = sorted(p for p in named if packs.folder(p) != own)
                if self.memo[key] or config.pairs.others:
                    break
        return self.memo[key]

    def pairs(self, config: Config) -> Step:
        own = config.persona.pack
        chosen = {k: v for k, v in plain(config.pairs).items() if k != "others"}
        stages = self.materials(config, own).config["stages"]
        if config.pairs.cross_stage and (len(stages) < 2 or not self.pack(config).reanswers):
            lack = "no reanswers.jsonl" if len(stages) > 1 else f"one stage, {stages[0]!r}"
            raise UserError(f"pairs.cross_stage is on but {own} has {lack}; set pairs.cross_stage=false")
        inputs = {"split": self.split(config, own)}
        if config.pairs.cross_persona:
            inputs |= {f"other_{i}": self.split(config, other) for i, other in enumerate(self.others(config))}
        return self.step("pairs", packs.folder(own).name, chosen, inputs)

    def model(self, config: Config) -> dict[str, Any]:
        key = ("model", repr(config.model))
        if key not in self.memo:
            meaning = plain(config.model) | {"identity": model_identity(config.model)}
            del meaning["path"]
            self.memo[key] = meaning
        return self.memo[key]

    def require_embedders(self, config: Config) -> None:
        """Raise where a package that carries sentence embeddings is not installed."""
        places = {"split.embedder": config.split.embedder, "pairs.embedder": config.pairs.embedder}
        if config.method.prompt.recipe in (Recipe.few_shot, Recipe.retrieval):
            places["method.prompt.embedder"] = config.method.prompt.embedder
        for key, embedder in places.items():
            if embedder.startswith("package:") and embedder not in self.memo:
                try:
                    self.memo[embedder] = package_folder(embedder.removeprefix("package:"))
                except UserError as error:
                    raise UserError(f"{key}: {error}") from error

    def general_file(self, config: Config) -> dict[str, Any]:
        """Return what identifies the file of general data, where it is one."""
        path = Path(config.general.source)
        if path.suffix.lower() not in (".json", ".jsonl", ".parquet"):
            return {}
        if not path.is_file():
            raise UserError(f"general.source={path}: no such file; expected self, a data file or a dataset id")
        return {"sha256": file_sha256(path)}

    def local(self, config: Config, work: int) -> dict[str, Any]:
        return {"model_path": config.model.path, "work": work}

    def train_local(self, config: Config, objective: str, optim: Optim, work: int) -> dict[str, Any]:
        """Return a train step's local part: where the model is, how it is spread, and how much it has to do."""
        read = (config.persona, config.method, config.general, config.strategy, config.model)
        key = ("local", objective, *map(repr, read))
        if key not in self.memo:
            lengths = workload.longest(config, self.pack(config))
            strategy = plain(config.strategy)
            if strategy["micro_batch"] is None:
                strategy["micro_batch"] = sizing.micro_batch(config, objective, optim, strategy, lengths)
            self.memo[key] = {"strategy": strategy, "longest": plain(lengths)}
        return self.local(config, work) | self.memo[key]

    def train_step(self, label: str, meaning: dict[str, Any], inputs: dict[str, Step], local: dict[str, Any]) -> Step:
        expected = self.times.expected("train", meaning, local)
        known = {} if expected is None else {"expected_seconds": round(expected, 1)}
        return self.step("train", label, meaning, inputs, local | known)

    def train(self, config: Config, persona: str) -> tuple[Step, ...]:
        tune = config.method.tune
        if tune is None:
            return ()
        label = f"{persona}-{config.method.name}"
        split = self.split(config, config.persona.pack)
        shared = {k: v for k, v in plain(tune).items() if k not in ("sft", "dpo")}
        common = {"model": self.model(config), "recipe": config.method.prompt.recipe.value, "seed": config.seed}
        inputs = {"materials": self.materials(config, config.persona.pack), "split": split}
        if tune.general:
            general = {"general": plain(config.general) | self.general_file(config), "model": self.model(config)}
            local = self.local(config, config.general.limit)
            inputs["general"] = self.step("general", config.general.source, general, local=local)
        meaning = common | {"objective": "sft", "tune": shared, "optim": plain(tune.sft)}
        local = self.train_local(config, "sft", tune.sft, workload.sft_units(config, tune, self.pack(config)))
        steps = [self.train_step(f"{label}-sft-s{config.seed}", meaning, inputs, local)]
        if tune.dpo is not None:
            inputs = {
                "materials": self.materials(config, config.persona.pack),
                "pairs": self.pairs(config),
                "sft": steps[0],
            }
            optim = plain(tune.dpo)
            apart = optim.pop("per_stage")
            local = self.train_local(config, "dpo", tune.dpo, workload.dpo_units(config, tune, self.pack(config)))
            for stage in inputs["materials"].config["stages"] if apart else (None,):
                meaning = common | {"objective": "dpo", "tune": shared, "optim": optim, "stage": stage}
                name = f"{label}-dpo-{stage}-s{config.seed}" if stage else f"{label}-dpo-s{config.seed}"
                steps.append(self.train_step(name, meaning, inputs, local))
        return tuple(steps)

    def generate(self, config: Config, persona: str, train: tuple[Step, ...]) -> Step:
        method = config.method
        seed = config.seed if train or config.generate.temperature > 0 else 0
        tune = None
        if method.tune is not None:
            tune = {"temporal_label": method.tune.temporal_label.value, "analysis": method.tune.analysis}
        meaning = {
            "arm": method.name,
            "model": self.model(config),
            "prompt": plain(method.prompt),
            "tune": tune,
            "generate": plain(config.generate),
            "seed": seed,
        }
        inputs = {
            "materials": self.materials(config, config.persona.pack),
            "split": self.split(config, config.persona.pack),
        }
        last = [step for step in train if step.config["objective"] == "dpo"] or list(train)
        inputs |= {f"train_{step.config['stage']}" if step.config.get("stage") else "train": step for step in last}
        local = self.local(config, workload.test_items(config, self.pack(config)))
        return self.step("generate", f"{persona}-{method.name}-s{seed}", meaning, inputs, local)

    def evaluate(self, config: Config, persona: str, generate: Step) -> Step:
        plainly = dataclasses.replace(config, method=Method(name="prompt_none", prompt=Prompt(recipe=Recipe.none)))
        generic = self.generate(plainly, persona, ())
        inputs = {"generate": generate, "generic": generic, "split": self.split(config, config.persona.pack)}
        if generate is not generic:
            inputs["prior"] = self.evaluate(plainly, persona, generic)
        inputs |= {role: step for role, step in generate.inputs.items() if role.startswith("train")}
        inputs |= {f"other_{i}": self.split(config, other) for i, other in enumerate(self.others(config))}
        meaning = plain(config.evaluate) | {"embedder": config.pairs.embedder, "model": self.model(config)}
        return self.step("evaluate", generate.label, meaning, inputs, generate.local)


def _ordered(cells: list[PlannedCell]) -> list[Step]:
    seen: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.id not in seen:
            for needed in step.inputs.values():
                visit(needed)
            seen[step.id] = step

    for planned in cells:
        visit(planned.evaluate)
    return list(seen.values())


def build(resolved: Resolved) -> Plan:
    """Expand a study into its steps. Reads the persona packs (and so finds what is wrong with them); writes nothing."""
    builder = _Builder(resolved)
    cells = []
    for cell in resolved.cells:
        builder.require_embedders(cell.config)
        train = builder.train(cell.config, cell.persona)
        generate = builder.generate(cell.config, cell.persona, train)
        cells.append(PlannedCell(cell, train, generate, builder.evaluate(cell.config, cell.persona, generate)))
    meaning = [[c.cell.arm, c.cell.persona, c.cell.seed, c.evaluate.fingerprint] for c in cells]
    study = resolved.study
    config = {"cells": meaning, "baseline": study.baseline, "primary": study.primary}
    config["compare"] = plain(resolved.config.compare)
    return Plan(resolved, cells, _ordered(cells), fingerprint("study", 1, config, {}))


_ALIKE = 8
"""How many earlier directories of a label, latest first, ``explain`` looks at."""


@functools.lru_cache(maxsize=64)
def _listing(folder: Path, _changed: int) -> dict[str, list[Path]]:
    """Return a step's directories by label, latest first; ``_changed`` is the folder's mtime, which tells it anew."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns, reverse=True):
        found.setdefault(path.name.rpartition("-")[0], []).append(path)
    return found


def _earlier(step: Step, outputs: Path) -> list[Path]:
    folder = outputs / step.name
    return _listing(folder, folder.stat().st_mtime_ns).get(step.label, [])[:_ALIKE] if folder.is_dir() else []


def explain(step: Step, outputs: Path) -> str:
    """Say why a step would run, against the most alike of the latest directories of the same label."""
    directory = step.directory(outputs)
    state = directory.state()
    if state == "done":
        return "cached"
    if state == "failed":
        failure = directory.failure() or {}
        return f"failed before ({failure.get('class', 'unknown')}): {failure.get('message', '')}"
    if state in ("running", "stale"):
        return "running elsewhere" if state == "running" else "interrupted; continues"
    if directory.path.is_dir():
        torn = (directory.path / "DONE").exists()
        begun = "interrupted; continues" if (directory.path / "log.txt").exists() else "sent before; not begun"
        return "re-run because its artifacts are incomplete" if torn else begun
    best: list[str] | None = None
    for path in _earlier(step, outputs):
        meaning, inputs = read_json(path / "config.json"), read_json(path / "inputs.json")
        if not isinstance(meaning, dict) or not isinstance(inputs, dict):
            continue
        told = _changes(step, meaning, inputs)
        if best is None or len(told) < len(best):
            best = told
    return "new" if best is None else "re-run because " + "; ".join(best[:3]) + (" ..." if len(best) > 3 else "")


def _changes(step: Step, meaning: dict[str, Any], inputs: dict[str, Any]) -> list[str]:
    before, now = meaning.get("config", {}), step.config
    told = differences({**before, "code": meaning.get("version")}, {**now, "code": step.version})
    for role, record in step.input_record().items():
        if role not in inputs:
            told.append(f"input {role} is new")
        elif inputs[role]["fingerprint"] != record["fingerprint"]:
            told.append(f"input {role} changed")
    return told + [f"input {role} is gone" for role in inputs if role not in step.inputs]
