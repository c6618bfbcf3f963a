"""From a cell's configuration to its steps, each distinct one built once. Imports no torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from persllm import foresight, packs, plan_scores, reviews, sizing, workload
from persllm.chats import collect
from persllm.choices import PairKind, Recipe
from persllm.compose import Resolved
from persllm.errors import UserError
from persllm.expected import Times
from persllm.models import model_identity, package_folder
from persllm.nodes import Step, make_step, plain
from persllm.schema import Annotate, AnnotatorKind, Config, Model
from persllm.schema_method import Optim


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


def schedule(optim: Optim) -> dict[str, Any]:
    """Return an objective's meaning: no word of what is as if it were not there (no ``steps``, every kind of pair)."""
    meaning: dict[str, Any] = plain(optim)
    if meaning["steps"] is None:
        del meaning["steps"]
    if meaning.get("pairs") == list(PairKind):
        del meaning["pairs"]
    return meaning


class StepBuilder:
    """Builds each distinct step once."""

    def __init__(self, resolved: Resolved) -> None:
        self.study, self.notes = resolved.study, resolved.notes
        self.personas = list(dict.fromkeys(cell.config.persona.pack for cell in resolved.cells))
        self.memo: dict[Any, Any] = {}
        self.steps: dict[str, Step] = {}
        self.trained: dict[str, Step] = {}
        """Train steps by their whole fingerprints."""
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
        """Return a step, the same one for the same meaning."""
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
        """Return the step that splits a pack's items."""
        annotate = self.annotate(config, pack)
        key = ("split", annotate.id, repr(config.split))
        if key not in self.memo:
            inputs = {"annotate": annotate, "materials": annotate.inputs["materials"]}
            self.memo[key] = self.step("split", annotate.label, plain(config.split), inputs)
        return self.memo[key]

    def pack(self, config: Config) -> workload.Pack:
        """Return the texts of the persona's pack."""
        self.annotate(config, config.persona.pack)
        return self.packs[config.persona.pack, repr(config.persona.stages)]

    def materials(self, config: Config, pack: str) -> Step:
        """Return the step that reads a pack's paragraphs."""
        return self.annotate(config, pack).inputs["materials"]

    def others(self, config: Config) -> list[str]:
        """Return the packs whose answers compete with the persona's."""
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
        """Return the step that makes preference pairs."""
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
        """Return the base model's meaning."""
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
        """Return what steps that load the base model are told and is not semantic."""
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
        """Return a train step that is told how long it may take."""
        expected = self.times.expected("train", meaning, local)
        known = {} if expected is None else {"expected_seconds": round(expected, 1)}
        made = make_step("train", label, meaning, inputs, local | known)
        # Arms that begin alike share the beginning, whose name the first of them gives.
        made = self.trained.setdefault(made.fingerprint, made)
        return self.steps.setdefault(made.id, made)

    def train(self, config: Config, persona: str) -> tuple[Step, ...]:
        """Return the steps that tune an arm: SFT, then DPO; none for a prompted arm."""
        tune = config.method.tune
        if tune is None:
            return ()
        label = f"{persona}-{config.method.name}"
        split = self.split(config, config.persona.pack)
        shared = {k: v for k, v in plain(tune).items() if k not in ("sft", "dpo")}
        common = {"model": self.model(config), "recipe": config.method.prompt.recipe.value, "seed": config.seed}
        inputs = {"materials": self.materials(config, config.persona.pack), "split": split}
        meaning = common | {"objective": "sft", "tune": shared, "optim": schedule(tune.sft)}
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
            optim = schedule(tune.dpo)
            apart = optim.pop("per_stage")
            local = self.train_local(config, "dpo", tune.dpo, workload.dpo_units(config, tune, self.pack(config)))
            for stage in inputs["materials"].config["stages"] if apart else (None,):
                meaning = common | {"objective": "dpo", "tune": shared, "optim": optim, "stage": stage}
                name = f"{label}-dpo-{stage}-s{config.seed}" if stage else f"{label}-dpo-s{config.seed}"
                steps.append(self.train_step(name, meaning, inputs, local))
        return tuple(steps)

    def steer(self, config: Config, persona: str) -> dict[str, Step]:
        """Return the step that makes an arm's directions, by its role; none for an arm that is not steered."""
        method = config.method
        if method.steer is None:
            return {}
        meaning = {"model": self.model(config), "prompt": plain(method.prompt), "steer": plain(method.steer)}
        inputs = {
            "materials": self.materials(config, config.persona.pack),
            "split": self.split(config, config.persona.pack),
        }
        return {"steer": self.step("steer", f"{persona}-{method.name}", meaning, inputs, self.local(config, 1))}

    def generate(self, config: Config, persona: str, train: tuple[Step, ...]) -> Step:
        """Return the step in which an arm answers the held-out questions."""
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
        inputs |= self.steer(config, persona)
        local = self.local(config, workload.test_items(config, self.pack(config)))
        return self.step("generate", f"{persona}-{method.name}-s{seed}", meaning, inputs, local)

    def evaluate(self, config: Config, persona: str, generate: Step) -> Step:
        """Return the step that scores an arm on held-out items."""
        plainly = plan_scores.unpersonified(config)
        generic = self.generate(plainly, persona, ())
        inputs = {"generate": generate, "generic": generic, "split": self.split(config, config.persona.pack)}
        if generate is not generic:
            inputs["prior"] = self.evaluate(plainly, persona, generic)
        inputs |= {role: step for role, step in generate.inputs.items() if role.startswith(("train", "steer"))}
        inputs |= {f"other_{i}": self.split(config, other) for i, other in enumerate(self.others(config))}
        names = set(config.evaluate.metrics) - set(plan_scores.examining(config))
        chosen = {"metrics": [name for name in config.evaluate.metrics if name in names]}
        meaning = chosen | {"embedder": config.pairs.embedder, "model": self.model(config)}
        return self.step("evaluate", generate.label, meaning, inputs, generate.local)
