"""Speech tags: whom the narration beside a quotation names as its speaker."""

from __future__ import annotations

import re
from dataclasses import dataclass

from persllm.ingest.cast import Cast, Mention
from persllm.ingest.english import FAMILY, FEMALE_NOUNS, MALE_NOUNS, SAYING
from persllm.ingest.quotes import Turn
from persllm.ingest.text import sentences

_VERB = "|".join(sorted(SAYING, key=len, reverse=True))
_NOUN = re.compile(
    r"(?P<owner>the|his|her|my|their|our|your|a|an|one of|another|this|that|these|those)\s+"
    r"(?P<words>[\w'-]+(?:\s+[\w'-]+){0,3})",
    re.IGNORECASE,
)
_SUBJECT_PRONOUN = r"(?:he|she|I|they|we)"
_INVERTED = re.compile(
    rf"^[\s,;\u2014-]*(?:and\s+|then\s+|thus\s+|so\s+)?(?:{_VERB})\s+(?:\w+ly\s+)?(?=\S)", re.IGNORECASE
)
_SAYS = re.compile(rf"\b(?:{_VERB})\b", re.IGNORECASE)
_NOMINATIVE = re.compile(r"(?<![\w'])(he|she|I|they)(?![\w'])", re.IGNORECASE)
_BOUND = re.compile(
    r"(?:\b(?:that|which|who|whom|when|while|whilst|as|if|than|how|what|where|whether|because|of|to|at|with|by|from|on|in|upon|"
    r"towards?|after|before|about|or|into|against|between|than|did|was|had)\s+(?:\w+\s+)?|'s\s+)$",
    re.IGNORECASE,
)
_GOVERNED = re.compile(r"(?:\b(?:of|to|at|with|by|from|on|in|upon|about|towards?)\s+(?:\w+\s+)?|'s\s+)$", re.IGNORECASE)
_STOPS = frozenset(
    [
        "to",
        "with",
        "in",
        "as",
        "who",
        "and",
        "from",
        "at",
        "on",
        "of",
        "by",
        "for",
        "when",
        "while",
        "after",
        "before",
        "again",
        "then",
        "but",
        "that",
        "said",
        "which",
        "was",
        "had",
        "whose",
        "without",
    ]
)


@dataclass(frozen=True)
class Subject:
    """Whom a tag names: a ``mention`` of the cast, a ``pronoun``, or a noun ``phrase`` of an ``owner``.

    ``said`` is True for a tag with a verb of saying, False for somebody who merely acts beside the quotation.
    """

    said: bool
    mention: Mention | None = None
    pronoun: str = ""
    phrase: str = ""
    owner: str = ""
    gender: str = ""
    kin: str = ""


def _noun(text: str, said: bool) -> Subject | None:
    match = _NOUN.match(text)
    if not match:
        return None
    kept: list[str] = []
    for word in match.group("words").split():
        if word.lower() in _STOPS or word.endswith("ly") or _SAYS.fullmatch(word) or (kept and word.endswith("ed")):
            break
        kept.append(word)
        if word.lower() in FAMILY or word.lower() in MALE_NOUNS or word.lower() in FEMALE_NOUNS:
            break
    if not kept or kept[0][0].isupper():
        return None
    head = kept[-1].lower()
    gender = FAMILY.get(head, "M" if head in MALE_NOUNS else "F" if head in FEMALE_NOUNS else "")
    owner = match.group("owner").lower()
    return Subject(
        said, phrase=f"{owner} {' '.join(kept)}", owner=owner, gender=gender, kin=head if head in FAMILY else ""
    )


def _subject_at(text: str, cast: Cast, said: bool) -> Subject | None:
    """Return the subject that a text begins with."""
    for mention in cast.find(text[:60]):
        if mention.start == 0:
            if re.match(r"'s\s|\u2019s\s", text[mention.end :]):
                return None
            return Subject(said, mention=mention)
        break
    pronoun = re.match(rf"{_SUBJECT_PRONOUN}(?!\w)", text, re.IGNORECASE)
    if pronoun:
        return Subject(said, pronoun=pronoun.group().lower())
    return _noun(text, said)


_ANSWER = re.compile(r"^[\s,;\u2014-]*(?:was|were|came)\s+(?=\S)")
_ANSWERED = re.compile(
    r"\s+(?:\w+\s+)?(?:answer|reply|response|retort|exclamation|rejoinder|question|comment|words?)\b"
)
_LETTER = re.compile(
    r"(?:\b(?:letter|note|lines|answer|message|reply|words)\b[^.;]*?\b(?:from|of)|\bIt was from)\s+"
    r"(?:my own\s+|my dear\s+|poor\s+|dear\s+)?(?=\S)"
)
_DIRECT = re.compile(
    r"\b(?:the|my|his|her|our|their)\s+(?:\w+\s+){0,2}?\w+(?=\s+(?:\w+ly\s+|had\s+|then\s+|thus\s+|again\s+)*$)",
    re.IGNORECASE,
)
_OPENS = re.compile(
    r"(?:^|[,;:.!?)\u2014-]\s*|\b(?:and|but|for|then|yet|so|nor|because|until|till|poor|as|when|now)\s+)[\"'\u201c\u201d]*$"
)
_ADVERBS = re.compile(r"\s+(?:\w+ly\s+|had\s+|then\s+|thus\s+|again\s+)*")
_CLAUSE = re.compile(r"\b(?:I|and|he|she|they|who|which|as|had|when|of|in)\b")
_PASSIVE = re.compile(r"\bby\s+(?=[A-Z])")


def _answer(text: str, cast: Cast) -> Subject | None:
    """Return who speaks in ``was her answer`` and ``was Mr. Emerson's reply``."""
    lead = _ANSWER.match(text)
    rest = text[lead.end() :] if lead else ""
    owner = re.match(r"(his|her|my)(?!\w)", rest)
    if owner and _ANSWERED.match(rest[owner.end() :]):
        return Subject(True, pronoun={"his": "he", "her": "she", "my": "i"}[owner.group()])
    for mention in cast.find(rest[:40]):
        if mention.start == 0 and _ANSWERED.match(rest[mention.end :].removeprefix("'s").removeprefix("\u2019s")):
            return Subject(True, mention=mention)
    return None


def tag_after(narration: str, cast: Cast) -> Subject | None:
    """Return who speaks by the words after a quotation: ``said his lady``, ``Jane replied``, or ``She smiled``."""
    text = narration.strip()
    if answer := _answer(text, cast):
        return answer
    inverted = _INVERTED.match(text)
    if inverted:
        found = _subject_at(text[inverted.end() :], cast, said=True)
        if found:
            return found
    first = next(iter(sentences(text)), "")
    start = re.sub(r"^[\s,;\u2014-]*(?:and|then|but)?\s+", "", " " + first)
    subject = _subject_at(start, cast, said=False)
    if subject is None:
        return None
    says = _SAYS.search(start[:90])
    direct = first[:1].islower() or subject.pronoun == "i" or (says is not None and says.start() < 40)
    return subject if not (says and direct) else Subject(**{**subject.__dict__, "said": True})


def tag_before(narration: str, cast: Cast) -> Subject | None:
    """Return who speaks by the words before a quotation: ``Mr. Darcy replied with great intrepidity:``."""
    last = (sentences(narration) or [""])[-1]
    said = list(_SAYS.finditer(last))
    leads = last.endswith((",", ":", "\u2014", "--", ";"))
    says = bool(said) and (leads or len(last) - said[-1].end() < 40)
    limit = said[-1].start() if says else len(last)
    passive = list(_PASSIVE.finditer(last)) if leads else []
    if (
        passive
        and (by := _subject_at(last[passive[-1].end() :], cast, said=True))
        and len(last) - passive[-1].end() < 30
    ):
        return by
    if says:
        inverted = _subject_at(last[said[-1].end() :].lstrip(), cast, said=True)
        if inverted and (inverted.pronoun or inverted.mention) and re.search(r"(?:^|then|thus|so)\s*$", last[:limit]):
            return inverted
    letter = _LETTER.search(last) if last.rstrip("-\u2014").endswith((":", ",", ".")) else None
    if letter and (by := _subject_at(last[letter.end() :], cast, said=True)):
        return by
    found: list[tuple[int, Subject]] = []
    for mention in cast.find(last[:limit]):
        if not re.match(r"['\u2019]s?\s", last[mention.end :]):
            found.append((mention.start, Subject(says or leads, mention=mention)))
    for match in _NOMINATIVE.finditer(last[:limit]):
        found.append((match.start(), Subject(says or leads, pronoun=match.group().lower())))
    direct = _DIRECT.search(last[:limit]) if says else None
    if (
        direct
        and not _BOUND.search(last[: direct.start()])
        and not _CLAUSE.search(direct.group())
        and (subject := _noun(direct.group(), said=True))
    ):
        return subject
    opening = _noun(last, says or leads)
    if opening and opening.gender:
        found.append((0, opening))
    for at, subject in found if says else ():
        end = subject.mention.end if subject.mention else at + len(subject.pronoun)
        if _ADVERBS.fullmatch(last[end:limit]) and not _GOVERNED.search(last[:at]):
            return subject
    found.sort(key=lambda entry: entry[0])
    free = [
        subject
        for at, subject in found
        if not _BOUND.search(last[:at]) and (not subject.mention or _OPENS.search(last[:at]))
    ]
    if says:
        return free[-1] if free else found[-1][1] if found else opening
    return free[0] if free else None


def subjects_of(turn: Turn, lead: str, cast: Cast) -> list[Subject]:
    """Return the subjects that stand beside a turn, the strongest tags only."""
    found: list[Subject | None] = [tag_after(gap, cast) for gap in turn.gaps]
    found.append(tag_after(turn.after, cast) if turn.after else None)
    if turn.before:
        found.append(tag_before(turn.before, cast))
    elif lead.rstrip("- ").endswith((":", ",")) or re.search(r"\bbegan (?:his|her|the) (?:tale|story)", lead):
        found.append(tag_before(lead, cast))
    kept = [subject for subject in found if subject]
    said = [subject for subject in kept if subject.said]
    return said[:1] if said else kept
