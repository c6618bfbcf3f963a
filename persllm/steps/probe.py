"""Step probe: one arm is led through one metric's probes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from persllm import metrics, pack_probes, records
from persllm.asking import hold, rounds
from persllm.execute import Context
from persllm.probes import Probe, Subject, Told
from persllm.progress import bar
from persllm.records import Telling
from persllm.speaking import Speaker
from persllm.steps import generate, materials, split


def subject(ctx: Context) -> Subject:
    """Return the persona as probes and scoring see it."""
    card, _ = materials.read(ctx.inputs["materials"])
    items = split.read(ctx.inputs["split"], "test")
    held = {item.id for item in items}
    again = {(one.item_id, one.stage): one for one in split.read_reanswers(ctx.inputs["split"]) if one.item_id in held}
    root = Path(ctx.local["folder"])
    pack_probes.require_unchanged(root, ctx.config["probes_sha256"])
    rows = pack_probes.read(root, list(card.stages))
    return Subject(root.name, card, items, again, rows, ctx.config["limit"])


def _resume(path: Path) -> dict[tuple[str, int], Telling]:
    """Return what an earlier attempt streamed; a torn last line is dropped."""
    found = {}
    for line in path.read_text(encoding="utf-8").split("\n") if path.exists() else ():
        try:
            one = Telling(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            continue
        found[one.probe_id, one.sample] = one
    return found


def run(ctx: Context) -> None:
    """Write ``probes.jsonl`` (what was asked) and ``tellings.jsonl`` (what the arm made of it)."""
    config = ctx.config
    about = subject(ctx)
    probes: list[Probe] = metrics.module(config["metric"]).probes(about)
    source = generate.prompt_source(ctx)
    stream = ctx.work / "tellings.jsonl"
    made = _resume(stream)
    total = sum(probe.samples for probe in probes)
    with bar(total, f"{config['arm']} {config['metric']}") as progress, stream.open("a", encoding="utf-8") as file:
        file.write("\n")
        for stages in generate.voices(ctx.inputs, list(about.card.stages)):
            own = [probe for probe in probes if probe.stage in stages]
            if all((probe.id, sample) in made for probe in own for sample in range(probe.samples)):
                progress(sum(probe.samples for probe in own))
                continue
            speaker = None  # Freed before the next stage's weights are loaded.
            speaker = Speaker(*generate.load_arm(ctx, stages[0]), source, config)
            for number, group in enumerate(rounds(own, config["generate"]["batch_size"])):
                if not all((probe.id, sample) in made for probe, sample in group):
                    for telling in hold(speaker, group, config["seed"] * 100_003 + number):
                        made[telling.probe_id, telling.sample] = telling
                        file.write(records.to_line(telling))
                    file.flush()
                ctx.check_stop()
                progress(len(group))
    records.write(ctx.out / "probes.jsonl", [asdict(probe) for probe in probes])
    told = [made[probe.id, sample] for probe in probes for sample in range(probe.samples)]
    records.write(ctx.out / "tellings.jsonl", told)
    lost = sum(reply is None for one in told for reply in one.replies)
    ctx.log(conversations=total, replies=sum(len(one.replies) for one in told), missing=lost)
    ctx.say(f"{total} conversations, {lost} replies without a response")


def read(artifacts: Path) -> list[Told]:
    """Read what this step wrote."""
    rows: list[dict[str, Any]] = [row for _, row in records.read_json_lines(artifacts / "probes.jsonl")]
    probes = {row["id"]: Probe(**row) for row in rows}
    tellings = records.read(Telling, artifacts / "tellings.jsonl")
    return [Told(probes[one.probe_id], one) for one in tellings]
