"""Personas talk to each other: each an arm with its own weights and prompt, who hears the others' words as a user's.

A speaker remembers what it heard and said as far as its memory reaches (see ``Speaker.memory``): the oldest exchanges
are forgotten first, and with the first of them the scene. What it thought before it spoke stays its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from persllm.decoding import Reply
from persllm.probes import Row
from persllm.prompting import Message
from persllm.scoring import option_log_likelihoods
from persllm.speaking import Asked, Prompt, Speaker
from persllm.transcripts import Opinion, Turn

TEMPERATURE = 0.7
"""At which conversations are drawn, whatever an arm's single replies are decoded at: the likeliest words of small
models, heard and answered over and over, soon go in a circle."""
SILENCE = "(says nothing)"
"""What others hear, and what a speaker remembers of itself, where a reply broke its format."""


@dataclass(frozen=True)
class Voice:
    """A persona at a stage, as an arm speaks for it."""

    persona: str
    """The pack's folder name."""
    stage: str
    speaker: Speaker

    @property
    def name(self) -> str:
        """As it is called."""
        return self.speaker.source.card.name

    @property
    def label(self) -> str:
        """When in its life it speaks, in words."""
        return self.speaker.source.card.stages[self.stage].label

    def seen_by(self, other: Voice) -> str:
        """Return how another speaker is told of it."""
        if (self.name, self.stage) == (other.name, other.stage):
            return "your double"
        return f"you yourself at another time, {self.label}" if self.name == other.name else self.name


@dataclass
class Meeting:
    """A conversation: who takes part, in the order of speaking, and what has been said."""

    id: str
    scenario: Row
    """``id, setting, opening`` of metrics/data/scenarios.jsonl."""
    voices: tuple[Voice, ...]
    """Two or more; the first one opens."""
    said: list[Turn] = field(default_factory=list)

    @property
    def turn(self) -> Voice:
        """Whose turn it is."""
        return self.voices[len(self.said) % len(self.voices)]


def hears(meeting: Meeting, place: int) -> tuple[list[Message], str]:
    """Return what a speaker remembers, user and assistant by turns, and what it has heard since it last spoke.

    Args:
        meeting: the conversation so far.
        place: the speaker's, among the voices.
    """
    before: list[Message] = []
    heard: list[Turn] = []
    for turn in meeting.said:
        if turn.number % len(meeting.voices) != place:
            heard.append(turn)
            continue
        before.append({"role": "user", "content": _told(meeting, place, heard, not before)})
        before.append({"role": "assistant", "content": turn.response or SILENCE})
        heard = []
    return before, _told(meeting, place, heard, not before)


def _told(meeting: Meeting, place: int, heard: list[Turn], first: bool) -> str:
    """Return a user's turn: the others' words, at the beginning after the scene; labelled where others are several."""
    own, count = meeting.voices[place], len(meeting.voices)
    voices = [meeting.voices[turn.number % count] for turn in heard]
    said = [turn.response or SILENCE for turn in heard]
    several = count > 2
    lines = [f"{voice.seen_by(own)}: {text}" if several else text for voice, text in zip(voices, said, strict=True)]
    if not first:
        return "\n".join(lines)
    company = " and ".join(voice.seen_by(own) for at, voice in enumerate(meeting.voices) if at != place)
    scene = f"{meeting.scenario['setting']} With you: {company}"
    if not heard:
        return f"{scene}. {meeting.scenario['opening']}"
    return "\n".join([f"{scene}." if several else f"{scene}, who says:", *lines])


class _Asking(NamedTuple):
    """A voice that is to speak, what it remembers and what it hears."""

    voice: Voice
    before: list[Message]
    question: str


def converse(meetings: list[Meeting], turns: int, seed: int) -> Iterator[list[Turn]]:
    """Hold conversations side by side, and yield each round's turns, one for each meeting.

    Meetings that have been begun go on, so that a stopped run repeats an undisturbed one; all must be equally long.

    Args:
        meetings: what is said is added to them.
        turns: of each conversation, over all speakers.
        seed: fixes what is drawn.
    """
    for number in range(len(meetings[0].said), turns):
        asked = []
        for meeting in meetings:
            place = number % len(meeting.voices)
            asked.append(_Asking(meeting.voices[place], *hears(meeting, place)))
        spoken = []
        for meeting, one, (prompt, reply) in zip(
            meetings, asked, _answers(asked, seed * 1009 + number, TEMPERATURE), strict=True
        ):
            spoken.append(_turn(meeting, one.voice, prompt, reply))
            meeting.said.append(spoken[-1])
        yield spoken


def _turn(meeting: Meeting, voice: Voice, prompt: Prompt, reply: Reply) -> Turn:
    return Turn(
        conversation=meeting.id,
        scenario=meeting.scenario["id"],
        number=len(meeting.said),
        persona=voice.persona,
        name=voice.name,
        stage=voice.stage,
        text=reply.text,
        response=voice.speaker.parse(reply.text)[1],
        forgotten=prompt.forgotten,
        prompt_tokens=prompt.prompt_tokens,
        tokens=prompt.tokens + reply.tokens,
        seconds=round(prompt.seconds + reply.seconds, 4),
    )


def _answers(asked: list[_Asking], seed: int, temperature: float | None) -> list[tuple[Prompt, Reply]]:
    """Return each one's prompt and reply; who shares weights is answered together, whoever it speaks for."""
    found: dict[int, tuple[Prompt, Reply]] = {}
    places: dict[int, list[int]] = {}
    for place, one in enumerate(asked):
        places.setdefault(id(one.voice.speaker.model), []).append(place)
    for some in places.values():
        speaker = asked[some[0]].voice.speaker
        size = speaker.config["generate"]["batch_size"]
        for start in range(0, len(some), size):
            few = some[start : start + size]
            prompts = _prompts([asked[place] for place in few], seed, temperature)
            replies = speaker.speak([prompt.ids for prompt in prompts], seed, temperature)
            found |= zip(few, zip(prompts, replies, strict=True), strict=True)
    return [found[place] for place in range(len(asked))]


def _prompts(asked: list[_Asking], seed: int, temperature: float | None) -> list[Prompt]:
    """Return prompts, composed together by those who share a source."""
    found: dict[int, Prompt] = {}
    for speaker in {id(one.voice.speaker): one.voice.speaker for one in asked}.values():
        places = [place for place, one in enumerate(asked) if one.voice.speaker is speaker]
        own = [Asked(asked[place].voice.stage, asked[place].question, asked[place].before) for place in places]
        found |= zip(places, speaker.compose(own, seed, temperature), strict=True)
    return [found[place] for place in range(len(asked))]


class Inquiry(NamedTuple):
    """A voice's stances that are to be asked for, before it has spoken to anybody or after a conversation."""

    conversation: str
    """Empty before any."""
    voice: Voice
    before: list[Message]
    """What it remembers. Words that it has not answered yet are not among it."""
    stances: list[Row]


def inquire(inquiries: list[Inquiry], seed: int) -> list[Opinion]:
    """Return how likely each voice finds keeping and giving up each of some stances, asked one by one.

    Args:
        inquiries: nobody else hears what is asked.
        seed: fixes what is drawn where an arm analyses first.
    """
    asked = [_Asking(one.voice, one.before, row["question"]) for one in inquiries for row in one.stances]
    leads = _leads(asked, seed)
    found = []
    for one in inquiries:
        speaker = one.voice.speaker
        options = [[speaker.ids(row["keep"]), speaker.ids(row["flip"])] for row in one.stances]
        own, leads = leads[: len(options)], leads[len(options) :]
        # One call a conversation: its questions share all of it.
        totals = option_log_likelihoods(speaker.model, list(zip(own, options, strict=True)))
        for row, ids, of in zip(one.stances, options, totals, strict=True):
            likelihoods = [[round(total, 5), len(option)] for total, option in zip(of, ids, strict=True)]
            found.append(
                Opinion(
                    conversation=one.conversation,
                    persona=one.voice.persona,
                    stage=one.voice.stage,
                    stance=row["id"],
                    likelihoods=likelihoods,
                )
            )
    return found


def _leads(asked: list[_Asking], seed: int) -> list[list[int]]:
    """Return the token ids before an option: the prompt's, and the arm's own analysis where it makes one."""
    if not asked:
        return []
    if not asked[0].voice.speaker.analyses:
        return [prompt.ids for prompt in _prompts(asked, seed, None)]
    found = []
    for one, (prompt, reply) in zip(asked, _answers(asked, seed, None), strict=True):
        speaker = one.voice.speaker
        found.append(prompt.ids + speaker.lead_in(speaker.parse(reply.text)[0]))
    return found
