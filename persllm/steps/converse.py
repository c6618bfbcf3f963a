"""Step converse: personas of one arm talk to each other in scenarios, and are asked for their opinions afterwards."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from persllm import records
from persllm.conversation import Inquiry, Meeting, Voice, converse, hears, inquire
from persllm.execute import Context
from persllm.metrics.conversation import asked_after, scenarios
from persllm.probes import Row, Subject
from persllm.progress import bar
from persllm.speaking import Speaker
from persllm.steps import generate, probe
from persllm.transcripts import Opinion, Turn, streamed


class Guest(NamedTuple):
    """A persona at a stage, before its weights are loaded."""

    part: int
    """Its place in the step's cast."""
    persona: str
    stage: str


class Company(NamedTuple):
    """A step's cast, by place."""

    parts: list[Context]
    subjects: list[Subject]


class Planned(NamedTuple):
    """A conversation before it is held."""

    number: int
    scenario: Row
    guests: tuple[Guest, Guest]
    """In the order of speaking."""

    @property
    def id(self) -> str:
        """The same whoever opens."""
        names = sorted(f"{guest.persona}-{guest.stage}" for guest in self.guests)
        return "-".join([self.scenario["id"], *names])


def part(ctx: Context, place: int) -> Context:
    """Return the context as one member of the cast sees it: its own inputs, folder and probes."""
    prefix, own = f"{place}_", ctx.config["cast"][place]
    inputs = {role.removeprefix(prefix): path for role, path in ctx.inputs.items() if role.startswith(prefix)}
    local = ctx.local | {"folder": ctx.local["folders"][place]}
    return dataclasses.replace(ctx, inputs=inputs, local=local, config=ctx.config | own)


def programme(subjects: list[Subject]) -> list[Planned]:
    """Return who meets in which scenario: two personas at stages that go round, or neighbouring stages of one.

    Args:
        subjects: two personas, or one. Who opens goes round as well.
    """
    found = []
    for number, scenario in enumerate(scenarios(subjects[0])):
        lives = [list(subject.card.stages) for subject in subjects]
        if len(subjects) == 1:
            first = number % (len(lives[0]) - 1)
            guests = [Guest(0, subjects[0].name, stage) for stage in lives[0][first : first + 2]]
        else:
            guests = [
                Guest(place, subject.name, life[number % len(life)])
                for place, (subject, life) in enumerate(zip(subjects, lives, strict=True))
            ]
        # Stages go round by one; the opener by the round after them, so that each stage opens as often as it replies.
        turned = (number // max(map(len, lives))) % 2
        found.append(Planned(number, scenario, (guests[turned], guests[1 - turned])))
    return found


def _weights(parts: list[Context], guest: Guest) -> tuple[Any, ...]:
    """Return what tells apart whose weights a guest speaks with."""
    inputs = parts[guest.part].inputs
    trained = inputs.get(f"train_{guest.stage}", inputs.get("train"))
    steered = (guest.persona, guest.stage) if "steer" in inputs else None
    return (str(trained) if trained else None, steered)


def groups(parts: list[Context], planned: list[Planned]) -> list[list[Planned]]:
    """Return the conversations that are held side by side: those of the same weights, so that few are in memory."""
    found: dict[frozenset[Any], list[Planned]] = {}
    for one in planned:
        found.setdefault(frozenset(_weights(parts, guest) for guest in one.guests), []).append(one)
    return list(found.values())


def voices(parts: list[Context], guests: list[Guest]) -> dict[Guest, Voice]:
    """Load what some guests speak with; those who share weights share them in memory.

    Args:
        parts: the context of each member of the cast: as ``part`` returns it, or of its step generate.
        guests: who speaks.
    """
    loaded: dict[tuple[Any, ...], tuple[Any, Any]] = {}
    speakers: dict[tuple[Any, ...], Speaker] = {}
    found = {}
    for guest in dict.fromkeys(guests):
        own, weights = parts[guest.part], _weights(parts, guest)
        if weights not in loaded:
            loaded[weights] = generate.load_arm(own, guest.stage)
        key = (guest.part, weights)
        if key not in speakers:
            speakers[key] = Speaker(*loaded[weights], generate.prompt_source(own), own.config)
        found[guest] = Voice(guest.persona, guest.stage, speakers[key])
    return found


def _rounds(some: list[Planned], made: dict[tuple[str, int], Turn], turns: int) -> Iterator[list[Turn]]:
    """Yield the rounds of some conversations that an earlier attempt finished whole."""
    for number in range(turns):
        found = [made[one.id, number] for one in some if (one.id, number) in made]
        if len(found) < len(some):
            return
        yield found


class _Stream:
    """What was made so far, here or in an earlier attempt, and the file that it goes to."""

    def __init__(self, folder: Path, progress: Callable[[int], None]) -> None:
        self.progress = progress
        self.path = folder / "talks.jsonl"
        rows = streamed(self.path)
        turns = [Turn(**row) for row in rows if "number" in row]
        self.turns = {(turn.conversation, turn.number): turn for turn in turns}
        opinions = [Opinion(**row) for row in rows if "stance" in row]
        self.opinions = {(one.conversation, one.persona, one.stage, one.stance): one for one in opinions}

    def add(self, found: list[Turn] | list[Opinion]) -> None:
        """Keep some records, and write them."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n")
            for one in found:
                file.write(json.dumps(dataclasses.asdict(one), ensure_ascii=False) + "\n")
                if isinstance(one, Turn):
                    self.turns[one.conversation, one.number] = one
                else:
                    self.opinions[one.conversation, one.persona, one.stage, one.stance] = one


def _wanted(
    subjects: list[Subject], some: list[Planned]
) -> tuple[dict[tuple[str, Guest], list[Row]], dict[Guest, list[Row]]]:
    """Return the stances asked after each conversation, and all of them by guest: what is asked before any."""
    after: dict[tuple[str, Guest], list[Row]] = {}
    before: dict[Guest, dict[str, Row]] = {}
    for one in some:
        for guest in one.guests:
            rows = asked_after(subjects[guest.part], guest.stage, one.number)
            after[one.id, guest] = rows
            before.setdefault(guest, {}).update({row["id"]: row for row in rows})
    return after, {guest: list(rows.values()) for guest, rows in before.items()}


def _inquiries(
    subjects: list[Subject], some: list[Planned], cast: dict[Guest, Voice], held: list[Meeting]
) -> list[Inquiry]:
    after, before = _wanted(subjects, some)
    found = [Inquiry("", cast[guest], [], rows) for guest, rows in before.items() if rows]
    for one, meeting in zip(some, held, strict=True):
        for place, guest in enumerate(one.guests):
            if after[one.id, guest]:
                found.append(Inquiry(one.id, cast[guest], hears(meeting, place)[0], after[one.id, guest]))
    return found


def _hold(ctx: Context, company: Company, some: list[Planned], stream: _Stream, seed: int) -> None:
    """Hold conversations side by side to their ends, then ask; what an earlier attempt did whole is left as it is."""
    turns = ctx.config["turns"]
    after, _ = _wanted(company.subjects, some)
    asked = {(name, guest.persona, guest.stage, row["id"]) for (name, guest), rows in after.items() for row in rows}
    if asked and asked <= stream.opinions.keys():
        stream.progress(len(some) * turns)
        return
    cast = voices(company.parts, [guest for one in some for guest in one.guests])
    meetings = [Meeting(one.id, one.scenario, tuple(cast[guest] for guest in one.guests)) for one in some]
    for earlier in _rounds(some, stream.turns, turns):
        for meeting, turn in zip(meetings, earlier, strict=True):
            meeting.said.append(turn)
        stream.progress(len(earlier))
    for made in converse(meetings, turns, seed):
        stream.add(made)
        stream.progress(len(made))
        ctx.check_stop()
    stream.add(inquire(_inquiries(company.subjects, some, cast, meetings), seed * 1009 + turns))


def run(ctx: Context) -> None:
    """Write ``transcripts.jsonl`` (what was said) and ``opinions.jsonl`` (stances before and after)."""
    parts = [part(ctx, place) for place in range(len(ctx.config["cast"]))]
    company = Company(parts, [probe.subject(one) for one in parts])
    planned, turns = programme(company.subjects), ctx.config["turns"]
    with bar(len(planned) * turns, f"{ctx.config['arm']} talks") as progress:
        stream = _Stream(ctx.work, progress)
        for number, some in enumerate(groups(parts, planned)):
            _hold(ctx, company, some, stream, ctx.config["seed"] * 100_003 + number)
    said = [stream.turns[one.id, number] for one in planned for number in range(turns)]
    records.write(ctx.out / "transcripts.jsonl", said)
    records.write(ctx.out / "opinions.jsonl", stream.opinions.values())
    lost = sum(turn.response is None for turn in said)
    forgot = len({turn.conversation for turn in said if turn.forgotten})
    ctx.log(conversations=len(planned), turns=len(said), missing=lost, forgetful=forgot)
    ctx.say(
        f"{len(planned)} conversations, {lost} of {len(said)} turns without a response, {forgot} with turns forgotten"
    )
