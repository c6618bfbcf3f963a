"""Lead an arm through its probes, turn by turn, many conversations at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from persllm.probes import Probe
from persllm.prompting import Message
from persllm.records import Telling
from persllm.scoring import option_log_likelihoods
from persllm.speaking import Asked, Prompt, Speaker


@dataclass
class _Talk:
    """One conversation under way."""

    probe: Probe
    sample: int
    before: list[Message] = field(default_factory=list)
    replies: list[str | None] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    likelihoods: list[list[list[float]]] = field(default_factory=list)
    forgotten: int = 0
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def telling(self) -> Telling:
        return Telling(
            probe_id=self.probe.id,
            sample=self.sample,
            replies=self.replies,
            texts=self.texts,
            likelihoods=self.likelihoods,
            forgotten=self.forgotten,
            prompt_tokens=self.prompt_tokens,
            tokens=self.tokens,
            seconds=round(self.seconds, 4),
        )


def rounds(probes: list[Probe], size: int) -> list[list[tuple[Probe, int]]]:
    """Return conversations in groups that are held together, the same each time: of one frame and decoding, long first.

    Args:
        probes: of stages that share their weights.
        size: conversations in a group, at most.
    """
    talks = [(probe, sample) for probe in probes for sample in range(probe.samples)]
    groups: dict[tuple[str, bool, float], list[tuple[Probe, int]]] = {}
    for probe, sample in talks:
        warm = probe.samples > 1
        groups.setdefault((probe.frame, warm, probe.temperature if warm else 0.0), []).append((probe, sample))
    found = []
    for key in sorted(groups):
        ordered = sorted(groups[key], key=lambda talk: (-len(talk[0].turns), talk[0].stage, talk[0].id, talk[1]))
        found += [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return found


def hold(speaker: Speaker, group: list[tuple[Probe, int]], seed: int) -> Iterator[Telling]:
    """Hold a group's conversations to their ends.

    Args:
        speaker: the arm.
        group: probes with their sample's number; all of one frame and temperature.
        seed: fixes what is drawn.
    """
    speaker = speaker.framed(group[0][0].frame)
    talks = [_Talk(probe, sample) for probe, sample in group]
    for turn in range(max(len(talk.probe.turns) for talk in talks)):
        _turn(speaker, [talk for talk in talks if turn < len(talk.probe.turns)], turn, seed)
    yield from (talk.telling() for talk in talks)


def _turn(speaker: Speaker, talks: list[_Talk], turn: int, seed: int) -> None:
    probe = talks[0].probe
    temperature = probe.temperature if probe.samples > 1 else None
    seed = seed * 1009 + turn
    asked = [Asked(talk.probe.stage, talk.probe.turns[turn], talk.before) for talk in talks]
    prompts = speaker.compose(asked, seed, temperature)
    replying = [place for place, talk in enumerate(talks) if _replies(speaker, talk.probe, turn)]
    made: dict[int, str] = {}
    if replying:
        given = [prompts[place].ids + speaker.ids(_prefill(talks[place].probe, turn)) for place in replying]
        for place, reply in zip(replying, speaker.speak(given, seed, temperature), strict=True):
            made[place] = _prefill(talks[place].probe, turn) + _gap(talks[place].probe, turn) + reply.text
            talks[place].tokens += reply.tokens
            talks[place].seconds += reply.seconds
    parsed = [_parse(speaker, talk, turn, made.get(place)) for place, talk in enumerate(talks)]
    leads = [prompt.ids + speaker.lead_in(analysis) for prompt, (analysis, _) in zip(prompts, parsed, strict=True)]
    _weigh(speaker, talks, turn, leads)
    for place, talk in enumerate(talks):
        _take(talk, turn, prompts[place], made.get(place), parsed[place][1])


def _replies(speaker: Speaker, probe: Probe, turn: int) -> bool:
    """Return whether a reply is made: not to a last turn of which only the options matter, unless it is analysed."""
    return turn + 1 < len(probe.turns) or probe.closing or speaker.analyses


def _prefill(probe: Probe, turn: int) -> str:
    return probe.prefill if turn + 1 == len(probe.turns) else ""


def _gap(probe: Probe, turn: int) -> str:
    return " " if _prefill(probe, turn) else ""


def _parse(speaker: Speaker, talk: _Talk, turn: int, text: str | None) -> tuple[str | None, str | None]:
    """Return the analysis and the response of what was said, if anything was."""
    analysis, response = speaker.parse(text) if text is not None else (None, None)
    if response is None and text and _prefill(talk.probe, turn):
        # Words put into its mouth leave no room for the arm's own format.
        response = text
    return analysis, response


def _weigh(speaker: Speaker, talks: list[_Talk], turn: int, leads: list[list[int]]) -> None:
    """Note how likely the options are; together those of a stage, whose prompts begin alike.

    Args:
        speaker: the arm.
        talks: conversations.
        turn: from 0.
        leads: by conversation, the token ids that stand before an option.
    """
    options = [[speaker.ids(option) for option in talk.probe.at(turn)] for talk in talks]
    totals: dict[int, list[float]] = {}
    for stage in dict.fromkeys(talk.probe.stage for talk in talks):
        places = [place for place, talk in enumerate(talks) if talk.probe.stage == stage and options[place]]
        found = option_log_likelihoods(speaker.model, [(leads[place], options[place]) for place in places])
        totals |= zip(places, found, strict=True)
    for place, talk in enumerate(talks):
        each = zip(totals.get(place, []), options[place], strict=True)
        talk.likelihoods.append([[round(total, 5), len(option)] for total, option in each])


def _take(talk: _Talk, turn: int, prompt: Prompt, text: str | None, response: str | None) -> None:
    """Note what was said, and remember the turn."""
    talk.forgotten = max(talk.forgotten, prompt.forgotten)
    talk.prompt_tokens += prompt.prompt_tokens
    talk.tokens += prompt.tokens
    talk.seconds += prompt.seconds
    if turn + 1 < len(talk.probe.turns) or talk.probe.closing:
        talk.replies.append(response)
        talk.texts.append(text or "")
    said = response if response is not None else (text or "")
    talk.before += [{"role": "user", "content": talk.probe.turns[turn]}, {"role": "assistant", "content": said}]
