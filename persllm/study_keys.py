"""Which keys a study may fix or sweep: those that can have an effect where they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from persllm import validate
from persllm.errors import UserError, did_you_mean
from persllm.schema import GROUPS, Study

COMMON = ("compare", "launch", "outputs", "strategy", "study", "track", "annotate.endpoint", "judge.endpoint")
"""What no step of an arm is told apart by."""
ELSEWHERE = {
    "seed": "list seeds in study.seeds",
    "persona": "list personas in study.personas, or give it on the command line",
    "study": "write it as a key of the study itself",
}
"""Where stands what every cell takes from elsewhere."""
_OF_A_STUDY = ("compare", "launch", "outputs", "track")
"""Read once for the whole study, so that no single arm can have its own."""


def _root(key: str) -> str:
    return key.split(".")[0]


def _is_common(key: str) -> bool:
    return any(f"{key}.".startswith(f"{section}.") for section in COMMON)


def check_fixed(study: Study) -> None:
    """Raise where a study fixes a value that can have no effect.

    Raises:
        UserError: it names the first such key of ``study.values`` and ``study.arm_values``.
    """
    _check("study.values", study.values, [*(name for name in GROUPS if name not in ELSEWHERE), "outputs"])
    allowed = [name for name in GROUPS if name not in (*ELSEWHERE, *_OF_A_STUDY)]
    for arm, values in study.arm_values.items():
        _check(f"study.arm_values.{arm}", values, allowed)


def _check(where: str, values: Mapping[str, Any], allowed: list[str]) -> None:
    for key, value in values.items():
        root = _root(key)
        if root not in allowed:
            told = ELSEWHERE.get(root, f"expected keys of {', '.join(allowed)}")
            raise UserError(f"{where}: {key} has no effect here{did_you_mean(root, allowed)}; {told}")
        if key in GROUPS and not isinstance(value, dict):
            raise UserError(f"{where}: {key} is a group; choose its option in study.groups, and fix {key}.FIELD here")


def check_swept(axes: Iterable[str]) -> None:
    """Raise where a swept key would make arms that are the same.

    Raises:
        UserError: it names the first such key.
    """
    for key in axes:
        if key in GROUPS:
            raise UserError(f"{key}: only method, persona and values can be swept; e.g. sweep {key}.FIELD=1,2")
        if key == "seed":
            raise UserError("study.sweep.seed: list seeds in study.seeds")
        if _is_common(key):
            raise UserError(f"{key} makes no arm different; give it without a list")


def check_epochs(cfg: DictConfig, arm: str, given: Mapping[str, Any]) -> None:
    """Raise where epochs are given to an arm whose steps are set, which stand in their place.

    Args:
        cfg: the arm's configuration, with all values set.
        arm: its method.
        given: dotted key to value, of the user's own words on this arm.

    Raises:
        UserError: it names both keys.
    """
    for key, _ in (leaf for name, value in given.items() for leaf in validate.flatten(value, name)):
        steps = f"{key.removesuffix('.epochs')}.steps"
        if key.startswith("method.tune.") and key.endswith(".epochs") and OmegaConf.select(cfg, steps) is not None:
            raise UserError(
                f"{key} has no effect in {arm}: {steps} is {OmegaConf.select(cfg, steps)} and stands in its place; "
                f"give {steps}=null too, or other steps"
            )


def without_chosen(values: dict[str, Any], groups: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return a study's values without those of groups that the command line chose, and a note on each such group.

    Args:
        values: ``study.values``.
        groups: group to option, as the command line says.
    """
    kept = {
        key: value for key, value in values.items() if _root(key) in ("method", "persona") or _root(key) not in groups
    }
    notes = []
    for group, option in groups.items():
        gone = [key for key in values if key not in kept and _root(key) == group]
        if gone:
            notes.append(f"{group}={option} on the command line takes the place of study.values' {', '.join(gone)}")
    return kept, notes
