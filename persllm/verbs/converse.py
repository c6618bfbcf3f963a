"""Verb converse: personas of one arm talk to each other, or stages of one persona; printed turn by turn."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from persllm.errors import UserError, did_you_mean
from persllm.metrics.conversation import TURNS
from persllm.probes import data
from persllm.verbs.chat import require_ready

if TYPE_CHECKING:
    from persllm.nodes import Step
    from persllm.plan import PlannedCell

EXAMPLES = """\
  persllm converse persona=scrooge,ottoline method=prompt_profile
  persllm converse persona=scrooge,ottoline method=persllm --scenario inn --stages late,early --turns 6
  persllm converse persona=scrooge method=persllm --stages early,late"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's options."""
    names = ", ".join(row["id"] for row in data("scenarios.jsonl"))
    parser.add_argument("--scenario", metavar="ID", default="ferry", help=f"where they meet: {names} (default: ferry)")
    parser.add_argument("--turns", metavar="N", type=int, default=TURNS, help=f"over all speakers (default: {TURNS})")
    parser.add_argument(
        "--stages",
        metavar="A,B",
        help="each persona's stage, in their order, or two or more of one persona "
        "(default: each one's last; all of a single one's)",
    )


def _scenario(name: str) -> dict[str, str]:
    found = {row["id"]: row for row in data("scenarios.jsonl")}
    if name not in found:
        raise UserError(f"--scenario {name}: expected one of {', '.join(found)}{did_you_mean(name, found)}")
    return found[name]


def _guests(cells: list[PlannedCell], told: str | None) -> list[tuple[int, str]]:
    """Return each speaker's cell, by place, and stage.

    Raises:
        UserError: stages that are not there, or not as many as speakers; a single speaker.
    """
    lives: list[list[str]] = [cell.generate.inputs["materials"].config["stages"] for cell in cells]
    names = [cell.cell.persona for cell in cells]
    alone = len(cells) == 1
    chosen = told.split(",") if told else lives[0] if alone else [life[-1] for life in lives]
    if len(chosen) < 2:
        raise UserError("a conversation needs two: name another persona (persona=scrooge,ottoline) or --stages A,B")
    if not alone and len(chosen) != len(cells):
        raise UserError(f"--stages {told}: expected {len(cells)} stages, one each for {', '.join(names)}")
    places = [0] * len(chosen) if alone else list(range(len(cells)))
    for place, stage in zip(places, chosen, strict=True):
        if stage not in lives[place]:
            close = did_you_mean(stage, lives[place])
            raise UserError(f"--stages: {names[place]} has {', '.join(lives[place])}, not {stage!r}{close}")
    return list(zip(places, chosen, strict=True))


def main(args: argparse.Namespace) -> int:
    """Load the speakers, and print what they say."""
    from persllm import plan
    from persllm.compose import resolve

    scenario = _scenario(args.scenario)
    if args.turns < 1:
        raise UserError(f"--turns {args.turns}: expected 1 or more")
    overrides = list(args.overrides)
    for group, default in (("method", "persllm"), ("persona", "scrooge,ottoline")):
        if not any(text.startswith(f"{group}=") for text in overrides):
            overrides.append(f"{group}={default}")
    resolved = resolve(overrides)
    if len({(cell.arm, cell.seed) for cell in resolved.cells}) > 1:
        raise UserError("those who converse are of one arm; give one method and one seed, and the personas")
    cells = plan.build(resolved).cells
    guests = _guests(cells, args.stages)
    outputs = Path(resolved.config.outputs)
    for cell in cells:
        require_ready(cell.generate, outputs, overrides)
    if sys.stdin.isatty():
        print("loading ...", end="\r", file=sys.stderr)
    _talk([cell.generate for cell in cells], outputs, guests, scenario, args.turns)
    return 0


def _talk(
    steps: list[Step], outputs: Path, guests: list[tuple[int, str]], scenario: dict[str, str], turns: int
) -> None:
    from persllm.conversation import SILENCE, Meeting, converse
    from persllm.execute import context_for
    from persllm.steps.converse import Guest, voices

    parts = [context_for(step, outputs, {"mode": "disabled"}) for step in steps]
    who = [Guest(place, str(place), stage) for place, stage in guests]
    cast = voices(parts, who)
    speakers = tuple(cast[guest] for guest in who)
    print(f"{scenario['setting']}\nWith each other: {'; '.join(f'{one.name}, {one.label}' for one in speakers)}.\n")
    names = [one.name for one in speakers]
    for (turn,) in converse([Meeting(scenario["id"], dict(scenario), speakers)], turns, steps[0].config["seed"]):
        told = turn.name if names.count(turn.name) == 1 else f"{turn.name} ({turn.stage})"
        print(f"{told}: {turn.response or SILENCE}\n", flush=True)
        if turn.forgotten and turn.number + len(speakers) >= turns:
            print(f"({told} has forgotten the first {turn.forgotten} exchanges.)")
