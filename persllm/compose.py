"""From overrides to the cells of a study. The only module that imports Hydra (and its compose API only)."""

from __future__ import annotations

import dataclasses
import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from persllm import study_keys, validate
from persllm.errors import UserError, did_you_mean
from persllm.groups import CONF
from persllm.schema import GROUPS, Config, Persona, Study


@dataclass(frozen=True)
class Cell:
    """One point of a study: an arm, a persona, a seed and the whole typed configuration."""

    arm: str
    persona: str
    seed: int
    variant: tuple[tuple[str, Any], ...]
    """The swept keys that this arm has, with its values."""
    config: Config


@dataclass
class Request:
    """Parsed overrides: group choices, single values and axes."""

    groups: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, list[Any]] = field(default_factory=dict)


def options(group: str) -> list[str]:
    """Return the names of a group's files."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _parse_one(text: str) -> Override:
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
    except HydraException as error:
        raise UserError(
            f"cannot read the override {text!r}; expected key=value, e.g. seed=1 or method=sft,persllm "
            "(quote values that hold spaces, commas or brackets)"
        ) from error
    if override.is_add() or override.is_force_add() or override.is_delete():
        raise UserError(f"{text!r}: keys cannot be added or deleted; write key=value (key=null switches a section off)")
    return override


def parse(overrides: list[str]) -> Request:
    """Sort overrides into group choices, values and swept axes.

    Raises:
        UserError: an override that is no ``key=value``.
    """
    request = Request()
    for text in overrides:
        override = _parse_one(text)
        key = override.key_or_group
        # The last word on a key counts, as in Hydra, also where an earlier one swept it.
        for kind in (request.groups, request.values, request.axes):
            kind.pop(key, None)
        if override.is_sweep_override():
            request.axes[key] = list(override.sweep_iterator())
        elif key in GROUPS:
            request.groups[key] = str(override.value())
        else:
            request.values[key] = override.value()
    for key in ("study",):
        if key in request.axes:
            raise UserError(f"{key} cannot be swept; run one study at a time")
    return request


def _plain(error: BaseException) -> str:
    return str(error).split("\n")[0].rstrip(".")


def _from_file(error: Exception) -> UserError:
    """Translate an error inside a YAML file: the file that Hydra names, and the key that OmegaConf names."""
    file = re.match(r"In '([^']+)'", str(error))
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__ or cause.__context__
    if cause is None or file is None:
        return UserError(_plain(error))
    key = cause.full_key or ""
    known = getattr(cause.object_type, "__dataclass_fields__", {})
    leaf = key.rsplit(".", 1)[-1]
    hint = did_you_mean(leaf, known) or f"; known keys: {', '.join(known)}" if leaf and leaf not in known else ""
    place = f"conf/{file.group(1)}.yaml" + (f": {key}" if key else "")
    return UserError(f"{place}: {_plain(cause)}{hint}")


def _compose(choices: dict[str, str]) -> DictConfig:
    for group, choice in choices.items():
        if choice not in options(group):
            raise UserError(
                f"{group}={choice}: no such option{did_you_mean(choice, options(group))} "
                f"(expected one of {', '.join(options(group))}, the files in conf/{group}/)"
            )
    try:
        return compose("config", [f"{group}={choice}" for group, choice in choices.items()])
    except (HydraException, OmegaConfBaseException) as error:
        raise _from_file(error) from error
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            place = str(getattr(error, "problem_mark", "")).strip()
            raise UserError(f"not valid YAML ({getattr(error, 'problem', error)}) {place}") from error
        raise


def _persona_choice(choice: str) -> tuple[str, str | None]:
    """Return ``(option, pack path)``; a folder's path stands for a pack outside the shipped ones."""
    if choice in options("persona"):
        return choice, None
    path = Path(choice)
    if path.is_dir():
        # In full: a folder may bear a shipped pack's name.
        return options("persona")[0], str(path.resolve())
    if "/" in choice:
        raise UserError(f"persona={choice}: no such folder; expected a folder with persona.yaml or a shipped persona")
    return choice, None


def _set(cfg: DictConfig, key: str, value: Any) -> bool:
    """Set a value, typed; return False where the key lies under a section that this arm switches off (null).

    Raises:
        UserError: an unknown key, or a value of the wrong type.
    """
    node: Any = cfg
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not OmegaConf.is_dict(node):
            raise UserError(f"{key}: {'.'.join(parts[:depth])} has no keys below it")
        known = [str(k) for k in node]
        if part not in known:
            where = ".".join(parts[:depth])
            hint = did_you_mean(part, known) or f"; known keys{' of ' + where if where else ''}: {', '.join(known)}"
            raise UserError(f"{key}: unknown key {part!r}{hint}")
        if depth < len(parts) - 1:
            node = node[part]
            if node is None:
                return False
    if isinstance(value, dict) and isinstance(node, DictConfig) and node[parts[-1]] is None:
        raise UserError(f"{key}={value}: this section is switched off (null) here; choose a method that has it")
    try:
        # A section keeps the fields that are not named; a mapping of the user's own keys is replaced.
        section = isinstance(value, dict) and OmegaConf.get_type(node, parts[-1]) is not dict
        OmegaConf.update(cfg, key, value, merge=section)
    except OmegaConfBaseException as error:
        raise UserError(f"{key}={value}: {_plain(error)}") from error
    return True


def _arm_label(method: str, variant: tuple[tuple[str, Any], ...]) -> str:
    if not variant:
        return method
    told = ",".join(f"{key.removeprefix('method.')}={value}" for key, value in variant)
    return f"{method}[{told}]"


def slug(text: str) -> str:
    """Return a text as a safe file name: lower case letters, digits, ``._=-``."""
    return re.sub(r"[^a-z0-9._=-]+", "-", text.lower()).strip("-.")[:80] or "x"


def _to_config(cfg: DictConfig, where: str) -> Config:
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError(f"{where}: {', '.join(missing)} must be given, e.g. {missing[0]}=VALUE")
    try:
        config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise UserError(f"{where}: {_plain(error)}") from error
    assert isinstance(config, Config)
    return config


@dataclass(frozen=True)
class Resolved:
    """A study, expanded."""

    study: Study
    cells: list[Cell]
    notes: list[str]
    """What was skipped or replaced, for the user to know."""

    @property
    def config(self) -> Config:
        """The configuration that all cells share outside persona, method and seed."""
        return self.cells[0].config


def resolve(overrides: list[str]) -> Resolved:
    """Compose, expand and validate a study.

    Args:
        overrides: Hydra overrides; ``a=1,2``, ``range()`` and ``choice()`` are axes.

    Raises:
        UserError: anything wrong, before any work.
    """
    request = parse(overrides)
    store = ConfigStore.instance()
    store.store(name="config_schema", node=Config)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return _resolve(request)


def _resolve(request: Request) -> Resolved:
    groups = {k: v for k, v in request.groups.items() if k not in ("method", "persona")}
    base = _compose(groups)
    notes: list[str] = []
    for key, value in request.values.items():
        if key.startswith("study."):
            _set(base, key, value)
    study = OmegaConf.to_object(base.study)
    assert isinstance(study, Study)
    _check_groups(study)
    study_keys.check_fixed(study)
    fixed, told = study_keys.without_chosen(study.values, groups)
    notes += told
    groups = study.groups | groups

    def chosen(group: str, default: list[str]) -> list[str]:
        if group in request.axes:
            return [str(v) for v in request.axes[group]]
        return [request.groups[group]] if group in request.groups else default

    study.arms = chosen("method", study.arms)
    study.personas = chosen("persona", study.personas)
    if "seed" in request.values:
        request.axes["seed"] = [request.values["seed"]]
    study.seeds = request.axes.pop("seed", study.seeds)
    _check_cells(study)
    if study.baseline not in study.arms:
        if "study.baseline" in request.values:
            raise UserError(
                f"study.baseline={study.baseline}: no arm of this study{did_you_mean(study.baseline, study.arms)} "
                f"(its arms: {', '.join(study.arms)})"
            )
        notes.append(f"baseline {study.baseline} is not among the arms; {study.arms[0]} takes its place")
        study.baseline = study.arms[0]
    values = {k: v for k, v in request.values.items() if not k.startswith("study.") and k != "seed"}
    axes = {k: v for k, v in study.sweep.items() if k not in values}
    axes |= {k: v for k, v in request.axes.items() if k not in ("method", "persona")}
    study_keys.check_swept(axes)
    if "persona.pack" in values or "persona.pack" in axes:
        raise UserError("persona.pack: a pack is chosen by persona=NAME or persona=PATH")

    packs = {}
    for choice in study.personas:
        option, path = _persona_choice(choice)
        pack = OmegaConf.to_object(_compose(groups | {"persona": option}).persona)
        assert isinstance(pack, Persona)
        packs[choice] = pack if path is None else dataclasses.replace(pack, pack=path)
    cells: list[Cell] = []
    used: dict[str, int] = dict.fromkeys((*values, *axes), 0)
    for method in study.arms:
        cfg = _compose(groups | {"method": method})
        alone = {k: v for k, v in study.arm_values.get(method, {}).items() if k not in used}
        for key, value in fixed.items():
            if key not in used and key not in alone:
                _set(cfg, key, value)
        for key, value in alone.items():
            if not _set(cfg, key, value):
                raise UserError(f"study.arm_values.{method}: {key} has no effect, its section is null in this arm")
        for key, value in values.items():
            used[key] += _set(cfg, key, value)
        own = []
        for key, points in axes.items():
            if not isinstance(points, list) or not points:
                raise UserError(f"study.sweep.{key}: expected a list of values")
            _once(key, points)
            if _set(cfg, key, points[0]):
                own.append((key, points))
                used[key] += 1
        for point in itertools.product(*(points for _, points in own)):
            variant = tuple(zip((key for key, _ in own), point, strict=True))
            for key, value in variant:
                _set(cfg, key, value)
            study_keys.check_epochs(cfg, method, alone | values | dict(variant))
            cells += _cells(cfg, method, variant, study, packs, "persona.stages" in used)
    for key, arms in used.items():
        if not arms:
            raise UserError(f"{key}: no arm of this study has it (its section is null in {', '.join(study.arms)})")
        if arms < len(study.arms):
            notes.append(f"{key} applies to {arms} of {len(study.arms)} arms")
    validate.check([cell.config for cell in cells])
    return Resolved(study, cells, notes)


def _check_groups(study: Study) -> None:
    """Raise where a study fixes values of no method, or what is no group of its own choosing."""
    allowed = [group for group in GROUPS if group not in ("method", "persona", "study")]
    for arm in study.arm_values:
        if arm not in options("method"):
            known = options("method")
            raise UserError(f"study.arm_values: no method {arm!r}{did_you_mean(arm, known)} ({', '.join(known)})")
    for group in study.groups:
        if group not in allowed:
            raise UserError(f"study.groups: no group {group!r}{did_you_mean(group, allowed)} ({', '.join(allowed)})")


def _once(key: str, values: list[Any]) -> None:
    """Raise where a value stands twice: the study would count one cell as two."""
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{key}={value} stands twice; list each value once")


def _check_cells(study: Study) -> None:
    """Raise where arms, personas or seeds make no set of different cells."""
    if not study.arms or not study.personas or not study.seeds:
        raise UserError("a study needs at least one arm, one persona and one seed; see conf/study/quickstart.yaml")
    for seed in study.seeds:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise UserError(f"seed={seed}: expected a whole number")
    _once("seed", study.seeds)
    _once("method", study.arms)
    _once("persona", [slug(Path(persona).name) for persona in study.personas])


def _cells(
    cfg: DictConfig,
    method: str,
    variant: tuple[tuple[str, Any], ...],
    study: Study,
    packs: dict[str, Persona],
    persona_given: bool,
) -> list[Cell]:
    config = dataclasses.replace(_to_config(cfg, f"method={method}"), study=study)
    label = _arm_label(method, variant)
    # A pack is composed by its own name; what the overrides say of its fields holds for each.
    given = {"stages": config.persona.stages} if persona_given else {}
    return [
        Cell(
            label,
            slug(Path(persona).name),
            seed,
            variant,
            dataclasses.replace(config, persona=dataclasses.replace(pack, **given), seed=seed),
        )
        for persona, pack in packs.items()
        for seed in study.seeds
    ]
