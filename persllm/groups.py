"""What `--help` says of the configuration: each config group and its options, read from conf/ as text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

CONF = Path(__file__).parent.parent / "conf"

GROUPS_HELP: dict[str, str] = {
    "study": "arms x personas x seeds, a baseline arm, a primary metric",
    "method": "one way to personify a base model: a prompt recipe, perhaps a tuning recipe",
    "persona": "the character: a shipped pack, or a folder (persona=PATH)",
    "model": "the base language model",
    "annotate": "where the items come from",
    "split": "which materials are trained on and which are held out",
    "general": "instruction data that keeps the base model's manners",
    "pairs": "automatic preference pairs",
    "generate": "decoding, the same for every arm",
    "evaluate": "which metrics are computed",
    "judge": "who scores and ranks replies against the recorded answers",
    "compare": "intervals and tests",
    "strategy": "how training is spread over devices",
    "launch": "where steps run",
    "track": "the W&B mirror",
}


def option_names(group: str) -> list[str]:
    """Return the names of a group's files in conf/."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def option_help(group: str, option: str) -> str:
    """Return what the first comment of an option's file says, or its settings where it has no comment."""
    lines = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
    comments = [line.lstrip("# ") for line in lines if line.startswith("#")]
    return comments[0] if comments else ", ".join(line for line in lines if line.strip())


def default_options() -> dict[str, str]:
    """Return the option that each group has when nothing is said, as conf/config.yaml lists them."""
    text = (CONF / "config.yaml").read_text(encoding="utf-8")
    return dict(re.findall(r"^\s+- (\w+): (\w+)$", text, flags=re.MULTILINE))


def describe(width: int, groups: Sequence[str]) -> str:
    """Return the groups with their options, one line each (wrapped at ``width``), the default marked with ``*``."""
    defaults = default_options()
    lines = []
    for group in groups:
        told = f"{group}: {GROUPS_HELP[group]}"
        lines += textwrap.wrap(told, width - 2, initial_indent="  ", subsequent_indent="    ")
        for option in option_names(group):
            mark = "*" if defaults.get(group) == option else " "
            start = f"   {mark} {option:<15} "
            lines += textwrap.wrap(
                option_help(group, option), width - 2, initial_indent=start, subsequent_indent=" " * len(start)
            )
    return "\n".join(lines)
