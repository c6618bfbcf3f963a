"""What a schema cannot say: ranges and combinations. All problems are collected and told at once."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from persllm import geometry, judging, metrics
from persllm.choices import Adapter, Recipe, TemporalLabel
from persllm.errors import UserError, did_you_mean
from persllm.schema import (
    Annotate,
    AnnotatorKind,
    Config,
    Endpoint,
    General,
    Judge,
    JudgeKind,
    LaunchKind,
    StrategyKind,
)

Check = tuple[Callable[[Any], bool], str]

_POSITIVE: Check = (lambda v: v > 0, "more than 0")
_NATURAL: Check = (lambda v: v >= 0, "0 or more")
_SHARE: Check = (lambda v: 0 < v < 1, "between 0 and 1, both excluded")
_SHARE_OR_ZERO: Check = (lambda v: 0 <= v < 1, "at least 0 and below 1")
_UNIT: Check = (lambda v: 0 < v <= 1, "more than 0 and at most 1")

RANGES: dict[str, Check] = {
    "split.test": _SHARE,
    "split.dev": _SHARE,
    "split.duplicate_cosine": _UNIT,
    "split.leak_cosine": _UNIT,
    "annotate.knowledge": _NATURAL,
    "annotate.opinion": _NATURAL,
    "annotate.premise": _NATURAL,
    "annotate.knowledge_words": _NATURAL,
    "annotate.speech_words": _NATURAL,
    "annotate.temperature": _NATURAL,
    "annotate.max_tokens": (lambda v: v >= 32, "32 or more"),
    "annotate.attempts": _POSITIVE,
    "general.limit": _POSITIVE,
    "general.ratio": _POSITIVE,
    "general.scan": _POSITIVE,
    "general.max_new_tokens": _POSITIVE,
    "pairs.rank": _POSITIVE,
    "pairs.cross_persona_limit": _POSITIVE,
    "pairs.cross_stage_limit": _POSITIVE,
    "pairs.dev_limit": _POSITIVE,
    "model.max_length": (lambda v: v >= 64, "64 or more"),
    "method.prompt.shots": _POSITIVE,
    "method.prompt.knowledge_words": _NATURAL,
    "method.prompt.speech_words": _NATURAL,
    "method.steer.layer": _POSITIVE,
    "method.steer.coefficients": (lambda v: v and all(math.isfinite(c) and c for c in v), "numbers other than 0"),
    "method.steer.items": _POSITIVE,
    "method.steer.max_new_tokens": _POSITIVE,
    "method.tune.lora.rank": _POSITIVE,
    "method.tune.lora.alpha": _POSITIVE,
    "method.tune.lora.dropout": _SHARE_OR_ZERO,
    "method.tune.repeat": _POSITIVE,
    "strategy.devices": _POSITIVE,
    "strategy.nodes": _POSITIVE,
    "strategy.micro_batch": _POSITIVE,
    "strategy.checkpoint_seconds": _POSITIVE,
    "generate.max_new_tokens": _POSITIVE,
    "generate.temperature": _NATURAL,
    "generate.top_p": _UNIT,
    "generate.batch_size": _POSITIVE,
    "evaluate.limit": _POSITIVE,
    "judge.items": _POSITIVE,
    "judge.repeats": (lambda v: v >= 3, "3 or more: fewer do not tell how far the judge agrees with itself"),
    "judge.temperature": _POSITIVE,
    "judge.comparisons": _NATURAL,
    "judge.max_tokens": (lambda v: v >= 32, "32 or more"),
    "judge.attempts": _POSITIVE,
    "judge.certificate.items": (lambda v: v >= 8, "8 or more"),
    "compare.resamples": (lambda v: v >= 100, "100 or more"),
    "compare.confidence": _SHARE,
    "compare.power": _SHARE,
    "strategy.memory_gib": _POSITIVE,
    "launch.threads": _POSITIVE,
    "launch.cpus": _POSITIVE,
    "launch.running": _POSITIVE,
    "launch.warning_seconds": (lambda v: 10 <= v <= 65535, "between 10 and 65535"),
    "launch.requeues": _NATURAL,
    "seed": _NATURAL,
}
for _section in ("annotate", "judge"):
    RANGES |= {
        f"{_section}.endpoint.concurrency": _POSITIVE,
        f"{_section}.endpoint.requests_per_minute": _POSITIVE,
        f"{_section}.endpoint.timeout_seconds": _POSITIVE,
        f"{_section}.endpoint.retries": _NATURAL,
        f"{_section}.endpoint.price_input": _NATURAL,
        f"{_section}.endpoint.price_output": _NATURAL,
        f"{_section}.endpoint.budget": _POSITIVE,
        f"{_section}.endpoint.batch_size": _POSITIVE,
    }
for _limit in ("agreement", "retest", "role", "choice", "flip", "position", "length", "missing"):
    RANGES[f"judge.certificate.{_limit}"] = (lambda v: 0 <= v <= 1, "between 0 and 1")
for _objective in ("sft", "dpo"):
    RANGES |= {
        f"method.tune.{_objective}.learning_rate": _POSITIVE,
        f"method.tune.{_objective}.weight_decay": _NATURAL,
        f"method.tune.{_objective}.warmup": _SHARE_OR_ZERO,
        f"method.tune.{_objective}.batch_size": _POSITIVE,
        f"method.tune.{_objective}.epochs": _POSITIVE,
        f"method.tune.{_objective}.steps": _POSITIVE,
        f"method.tune.{_objective}.clip": _POSITIVE,
        f"method.tune.{_objective}.validations": _POSITIVE,
        f"method.tune.{_objective}.patience": _POSITIVE,
        f"method.tune.{_objective}.betas": (
            lambda v: len(v) == 2 and all(0 <= b < 1 for b in v),
            "two numbers, each at least 0 and below 1",
        ),
    }
RANGES |= {"method.tune.dpo.beta": _POSITIVE, "method.tune.dpo.nll_weight": _NATURAL}


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(dotted key, leaf)`` of nested dataclasses or mappings; lists and None are leaves."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict) and (value or not prefix):
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def problems(config: Config) -> Iterator[str]:
    """Yield one sentence for each value out of range and each combination that makes no sense."""
    leaves = dict(flatten(config))
    for key, (holds, expected) in RANGES.items():
        value = leaves.get(key)
        if value is not None and not holds(value):
            yield f"{key} is {value}; expected {expected}"
    method, strategy = config.method, config.strategy
    if config.split.test + config.split.dev >= 1:
        yield f"split.test + split.dev is {config.split.test + config.split.dev:g}; nothing is left to train on"
    yield from _strategy_problems(config)
    if method.tune is not None:
        if method.steer is not None:
            yield f"method.steer is set for tuned method {method.name!r}; set it or method.tune to null"
        if method.prompt.recipe not in (Recipe.brief, Recipe.name, Recipe.profile):
            yield (
                f"method.prompt.recipe is {method.prompt.recipe.value} for tuned method {method.name!r}; "
                "expected brief, name or profile"
            )
        cuttable = min(strategy.devices, strategy.nodes, strategy.micro_batch or 0) > 0
        for name, optim in (("sft", method.tune.sft), ("dpo", method.tune.dpo)):
            if optim is not None and cuttable:
                try:
                    geometry.cut(dataclasses.asdict(strategy), optim.batch_size, name)
                except ValueError as error:
                    yield f"method.tune.{name}.batch_size is {optim.batch_size}; expected {error}"
        if method.tune.dpo is not None and not (config.pairs.cross_persona or config.pairs.cross_stage):
            yield (
                "method.tune.dpo is set but pairs.cross_persona and pairs.cross_stage are both false; "
                "switch one on or set method.tune.dpo=null"
            )
        elif method.tune.dpo is not None and not any(getattr(config.pairs, kind) for kind in method.tune.dpo.pairs):
            named = ", ".join(method.tune.dpo.pairs)
            yield f"method.tune.dpo.pairs is [{named}], of which the section pairs makes none; expected one that is on"
    judged = config.study.primary in judging.METRICS
    # Whether the judge holds its certificate is known when it has been tried: then compare asks for it.
    yield from _metric_problems(tuple(config.evaluate.metrics), None if judged else config.study.primary)
    if judged and config.judge.kind is JudgeKind.none:
        yield f"study.primary is {config.study.primary!r}, which a judge gives; name one: judge=api judge.model=NAME"
    yield from _annotate_problems(config.annotate)
    yield from _judge_problems(config.judge)
    yield from _general_problems(config.general)


ADDRESS = "an address such as http://127.0.0.1:8000/v1, without user, password or query"


def is_plain_address(url: str) -> bool:
    """Return whether a server's address holds no secret and can be one."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or "@" in parts.netloc)
    except ValueError:
        return False


def _endpoint_problems(section: str, endpoint: Endpoint) -> Iterator[str]:
    if endpoint.budget is not None and (endpoint.price_input is None or endpoint.price_output is None):
        yield (
            f"{section}.endpoint.budget is {endpoint.budget:g} but no prices are given; set "
            f"{section}.endpoint.price_input and price_output (per million tokens)"
        )
    if endpoint.base_url is not None and not is_plain_address(endpoint.base_url):
        # Not shown: it may hold what should not be written down.
        yield f"{section}.endpoint.base_url: expected {ADDRESS}"


def _judge_problems(judge: Judge) -> Iterator[str]:
    if judge.kind is JudgeKind.none:
        return
    if not judge.model:
        yield f"judge.kind is {judge.kind.value} but judge.model is not given; name the model that judges"
    yield from _endpoint_problems("judge", judge.endpoint)


def _annotate_problems(annotate: Annotate) -> Iterator[str]:
    kind = annotate.annotator
    if kind is AnnotatorKind.recorded:
        return
    if not annotate.model:
        yield f"annotate.annotator is {kind.value} but annotate.model is not given; name the model that writes items"
    if annotate.knowledge + annotate.opinion + annotate.premise == 0:
        yield "annotate.knowledge, annotate.opinion and annotate.premise are all 0; ask for items of one at least"
    yield from _endpoint_problems("annotate", annotate.endpoint)


def _general_problems(general: General) -> Iterator[str]:
    if general.mix and general.source != "self":
        yield f"general.source is {general.source} but general.mix names the sources; name all of them there"
    for source, weight in general.mix.items():
        if source == "self":
            yield "general.mix names self, whose answers the base model writes; mix files, folders and hub ids"
        if weight <= 0:
            yield f"general.mix gives {source} the weight {weight:g}; expected more than 0"


def _strategy_problems(config: Config) -> Iterator[str]:
    strategy, launch, tune = config.strategy, config.launch, config.method.tune
    count = strategy.devices * strategy.nodes
    if strategy.kind is StrategyKind.single and count != 1:
        yield f"strategy.kind is single but devices x nodes is {count}; expected 1 x 1, or strategy=ddp"
    if strategy.nodes > 1 and launch.kind is LaunchKind.local:
        yield f"strategy.nodes is {strategy.nodes} but launch.kind is local; more than one node needs launch=slurm"
    if not re.fullmatch(r"(\d+-)?\d{1,2}:\d{2}:\d{2}", launch.time):
        yield f"launch.time is {launch.time!r}; expected HH:MM:SS or D-HH:MM:SS"
    if launch.memory is not None and not re.fullmatch(r"\d+[KMGT]?", launch.memory):
        yield f"launch.memory is {launch.memory!r}; expected a number and K, M, G or T, such as 64G"
    for option in launch.sbatch:
        if not option.startswith("-"):
            yield f"launch.sbatch names {option!r}; expected options of sbatch, such as --qos=long"
    if tune is None:
        return
    wanted = {"zero": "deepspeed"} if strategy.kind.startswith("zero") else {}
    sharded = strategy.kind in (StrategyKind.zero3, StrategyKind.zero3_offload)
    if tune.adapter is Adapter.qlora:
        wanted["qlora"] = "bitsandbytes"
        if sharded:
            yield f"method.tune.adapter is qlora, but {strategy.kind} cannot shard four-bit weights; use zero2"
    if sharded and tune.temporal_label is TemporalLabel.token:
        yield f"method.tune.temporal_label is token, whose rows {strategy.kind} cannot add; use text, or zero2"
    for extra, package in wanted.items():
        if importlib.util.find_spec(package) is None:
            key = "strategy.kind" if extra == "zero" else "method.tune.adapter"
            value = strategy.kind if extra == "zero" else extra
            yield f"{key} is {value} but {package} is not installed; in the checkout: pip install -e '.[{extra}]'"


@functools.cache
def _metric_problems(names: tuple[str, ...], primary: str | None) -> list[str]:
    """Return what is wrong with evaluate.metrics and, where it is given, study.primary."""
    modules = metrics.names()
    known = f"({', '.join(modules)})"
    unknown = [
        f"evaluate.metrics names {name!r}, which is no module of persllm.metrics{did_you_mean(name, modules)} {known}"
        for name in names
        if name not in modules
    ]
    if unknown:
        return unknown
    if primary is None:
        return []
    made = metrics.catalogue(names)
    if primary not in made:
        told = f"{did_you_mean(primary, made)} ({', '.join(names)})"
        return [f"study.primary is {primary!r}, which no metric of evaluate.metrics gives{told}"]
    if not made[primary].headline:
        first = next((name for name, metric in made.items() if metric.headline), "gold_log_likelihood")
        return [f"study.primary is {primary!r}, which alone may head no table; choose another, such as {first}"]
    return []


def check(configs: list[Config]) -> None:
    """Raise one UserError that lists every distinct problem of all cells."""
    found: dict[str, None] = {}
    kind = configs[0].strategy.kind
    if kind is not StrategyKind.single and all(config.method.tune is None for config in configs):
        names = ", ".join(dict.fromkeys(config.method.name for config in configs))
        found[f"strategy.kind is {kind} but {names} only prompts and trains nothing; use strategy=single"] = None
    for config in configs:
        found |= dict.fromkeys(problems(config))
    if found:
        raise UserError("\n".join(found))
