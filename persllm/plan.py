"""The DAG of a study: which steps, from which inputs, and why each would run. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persllm import foresight, packs, reviews, sizing, workload
from persllm.chats import collect
from persllm.compose import Cell, Resolved, slug
from persllm.errors import UserError
from persllm.expected import Times
from persllm.identity import fingerprint
from persllm.models import model_identity, package_folder
from persllm.schema import Annotate, AnnotatorKind, Config, Method, Model, Optim, Prompt, Recipe
from persllm.steps import VERSIONS
from persllm.store import StepDir


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


def annotation(annotate: Annotate, recorded: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what of the section annotate makes a step's meaning, and what does not: the endpoint, the model's place.

    Args:
        annotate: the section.
        recorded: whether the pack's own items are taken, to which nothing else of the section matters.
    """
    if recorded:
        return {"annotator": AnnotatorKind.recorded.value}, {}
    meaning: dict[str, Any] = plain(annotate)
    local = {"endpoint": meaning.pop("endpoint"), "model": meaning["model"]}
    is_local = annotate.annotator is AnnotatorKind.local
    meaning["model"] = {"identity": model_identity(Model(path=local["model"])) if is_local else {"api": local["model"]}}
    if is_local:
        # In bfloat16 its padding moves the last bits.
        meaning["batch_size"] = local["endpoint"]["batch_size"]
    return meaning, local


class _Builder:
    """Builds each distinct step once."""

    def __init__(self, resolved: Resolved) -> None:
        self.study, self.notes = resolved.study, resolved.notes
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

    def is_recorded(self, root: Path, annotator: AnnotatorKind) -> bool:
        """Return whether a pack's own items are taken: where it ships any.

        Raises:
            UserError: it ships none, and nobody was chosen to write them.
        """
        recorded = list(root.glob("*/items.jsonl"))
        if recorded and not any(path.stat().st_size for path in recorded):
            raise UserError(
                f"{recorded[0]}: this and every other items.jsonl of the pack is empty; fill or remove them"
            )
        if recorded:
            return True
        if annotator is AnnotatorKind.recorded:
            raise UserError(
                f"{root}: no items.jsonl in any stage; let a model write the items (annotate=api "
                "annotate.model=NAME, or annotate=local), or write them yourself as README.md says"
            )
        return False

    def annotate(self, config: Config, pack: str) -> Step:
        """Return the step that makes a pack's items; a pack that ships them keeps them, whatever annotator is asked."""
        stages = config.persona.stages if pack == config.persona.pack else None
        key = ("annotate", pack, repr(stages), repr(config.annotate))
        if key not in self.memo:
            root = packs.folder(pack)
            recorded = self.is_recorded(root, config.annotate.annotator)
            found = packs.load(root, stages) if recorded else None
            card = found.card if found else packs.load_card(root, stages)
            if card.source is not None:
                packs.check_source(root, card)
            content = {"pack": root.name, "stages": list(card.stages), "sha256": packs.sha256(root)}
            materials = self.step("materials", root.name, content, local={"folder": str(root)})
            if found:
                texts = workload.Pack(card, found.materials, found.items, found.reanswers)
            else:
                paragraphs = [] if card.source else packs.load_materials(root, card)
                texts = workload.unannotated(card, config.annotate, paragraphs)
            meaning, local = annotation(config.annotate, recorded)
            decided = reviews.effect(root)
            meaning |= {"reviews": decided} if decided else {}
            local |= {"folder": str(root), "sha256": content["sha256"], "work": len(texts.items) + len(texts.reanswers)}
            made = self.step("annotate", root.name, meaning, {"materials": materials}, local)
            self.packs[pack, repr(stages)] = texts
            foreseen = foresight.notes(root.name, texts, config, recorded)
            self.notes += [note for note in foreseen if note not in self.notes]
            self.memo[key] = made
        return self.memo[key]

    def split(self, config: Config, pack: str) -> Step:
        annotate = self.annotate(config, pack)
        key = ("split", annotate.id, repr(config.split))
        if key not in self.memo:
            inputs = {"annotate": annotate, "materials": annotate.inputs["materials"]}
            self.memo[key] = self.step("split", annotate.label, plain(config.split), inputs)
        return self.memo[key]

    def pack(self, config: Config) -> workload.Pack:
        self.annotate(config, config.persona.pack)
        return self.packs[config.persona.pack, repr(config.persona.stages)]

    def materials(self, config: Config, pack: str) -> Step:
        return self.annotate(config, pack).inputs["materials"]

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
            written = any(packs.folder(own).glob("*/items.jsonl"))
            lack = "no reanswers.jsonl" if written else "no re-answers (annotate.reanswers=false)"
            lack = lack if len(stages) > 1 else f"one stage, {stages[0]!r}"
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

    def general(self, config: Config) -> Step:
        """Return the step that makes the general data; the model matters only where it writes the answers itself."""
        key = ("general", repr(dataclasses.replace(config.general, ratio=None)))
        if key not in self.memo:
            self.memo[key] = collect.meaning(config.general)
            self.notes += collect.notes(self.memo[key])
        meaning = {"general": self.memo[key]}
        meaning |= {"model": self.model(config)} if collect.is_own(config.general) else {}
        label = "mix" if config.general.mix else config.general.source
        return self.step("general", label, meaning, local=self.local(config, config.general.limit))

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
        meaning = common | {"objective": "sft", "tune": shared, "optim": plain(tune.sft)}
        if tune.general:
            inputs["general"] = self.general(config)
            meaning["general"] = {"ratio": config.general.ratio}
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


def annotate_steps(resolved: Resolved) -> list[Step]:
    """Return the steps that make the items of a study's personas."""
    builder = _Builder(resolved)
    for cell in resolved.cells:
        builder.annotate(cell.config, cell.config.persona.pack)
    _require_effect(resolved, builder)
    return [step for step in builder.steps.values() if step.name == "annotate"]


def _require_effect(resolved: Resolved, builder: _Builder) -> None:
    """Say which personas keep the items that they ship; refuse an annotator that would write none at all."""
    chosen = resolved.config.annotate.annotator.value
    kept = [pack for pack in builder.personas if any(packs.folder(pack).glob("*/items.jsonl"))]
    if chosen == AnnotatorKind.recorded.value or not kept:
        return
    names = ", ".join(packs.folder(pack).name for pack in kept)
    if len(kept) == len(builder.personas):
        raise UserError(
            f"annotate={chosen}: {names} ships items already, and they are kept; to have them written anew, copy the "
            "folder without items.jsonl and reanswers.jsonl and name the copy"
        )
    resolved.notes.append(f"{names} ships items, which are kept; annotate={chosen} writes those of the others")


def build(resolved: Resolved) -> Plan:
    """Expand a study into its steps. Reads the persona packs (and so finds what is wrong with them); writes nothing."""
    builder = _Builder(resolved)
    cells = []
    for cell in resolved.cells:
        builder.require_embedders(cell.config)
        train = builder.train(cell.config, cell.persona)
        generate = builder.generate(cell.config, cell.persona, train)
        cells.append(PlannedCell(cell, train, generate, builder.evaluate(cell.config, cell.persona, generate)))
    _require_effect(resolved, builder)
    meaning = [[c.cell.arm, c.cell.persona, c.cell.seed, c.evaluate.fingerprint] for c in cells]
    study = resolved.study
    config = {"cells": meaning, "baseline": study.baseline, "primary": study.primary}
    config["compare"] = plain(resolved.config.compare)
    return Plan(resolved, cells, _ordered(cells), fingerprint("study", 1, config, {}))
