"""The persona's card: what persona.yaml holds, read with the line of everything that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from persllm.errors import did_you_mean
from persllm.problems import Problems

BIG_FIVE = ("openness", "conscientiousness", "extraversion", "agreeableness", "neuroticism")
LEVELS = ("high", "low", "none")
FORMS = ("novel", "prose", "interview", "chat")
NARRATED = ("novel", "prose")
"""The forms in which a narrator may be the persona."""
_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class Trait:
    """What a questionnaire should find of one of the Big Five: ``high``, ``low`` or ``none`` (no expectation)."""

    level: str
    reason: str


@dataclass(frozen=True)
class Stage:
    """A period of the persona's life."""

    label: str
    """The temporal label, e.g. ``Christmas Eve 1843, before the spirits came``."""
    summary: str
    timeline: list[str] = field(default_factory=list)
    """Dated events in order: of the first stage all up to it, of a later one what happened since the former."""
    big_five: dict[str, Trait] = field(default_factory=dict)
    """All five of ``BIG_FIVE`` by name, or none."""
    begins: str = ""
    """Where this stage begins in the pack's one long text; empty for the first stage and for packs without one."""


@dataclass(frozen=True)
class Source:
    """The one long text that a pack is made from, in place of knowledge.txt and speech.txt."""

    file: str
    """A file in the pack's folder."""
    form: str
    """One of ``FORMS``."""
    speaker: list[str]
    """The names by which the text calls the persona."""
    narrator: bool = False
    """Whether the text's first person is the persona."""


@dataclass(frozen=True)
class Card:
    """The persona: name, one-line identity, character card, stages in order of life.

    Identity and profile are told at every stage: what belongs to one stage, or to later ones, goes into the stages.
    """

    name: str
    identity: str
    profile: str
    stages: dict[str, Stage]
    source: Source | None = None


def from_row(row: dict[str, Any]) -> Card:
    """Return the card that ``dataclasses.asdict`` made a mapping of."""
    stages = {}
    for name, stage in row["stages"].items():
        traits = {trait: Trait(**told) for trait, told in stage.get("big_five", {}).items()}
        stages[name] = Stage(**{**stage, "big_five": traits})
    source = Source(**row["source"]) if row.get("source") else None
    return Card(**{**row, "stages": stages, "source": source})


def read(path: Path, problems: Problems) -> Card | None:
    """Read persona.yaml, noting every problem.

    Returns:
        The card, with empty texts where something is missing; None where the file gives no stages at all.
    """
    text = problems.text(path, "name, identity, profile and a mapping of stages")
    if text is None:
        return None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problems.add(path, mark.line + 1 if mark else None, f"not valid YAML ({getattr(error, 'problem', error)})")
        return None
    return _Reader(path, problems).card(node)


class _Reader:
    """Turns the nodes of a YAML file into a card."""

    def __init__(self, path: Path, problems: Problems) -> None:
        self.path = path
        self.problems = problems

    def add(self, line: int, key: str, text: str) -> None:
        self.problems.add(self.path, line, f"{key}: {text}" if key else text)

    def mapping(
        self, node: yaml.Node | None, line: int, key: str, known: Sequence[str] | None, expected: str
    ) -> dict[str, tuple[int, yaml.Node]]:
        """Return a mapping's values and the lines of their keys; of doubled keys the first."""
        if not isinstance(node, yaml.MappingNode) or not node.value:
            self.add(line, key, f"expected {expected}")
            return {}
        found: dict[str, tuple[int, yaml.Node]] = {}
        for name_node, value in node.value:
            name, at = str(name_node.value), name_node.start_mark.line + 1
            if known is not None and name not in known:
                close = did_you_mean(name, known)
                self.add(at, key, f"unknown key {name!r}{close or '; expected one of ' + ', '.join(known)}")
                # The key that was meant is not missing as well.
                found |= {other: (at, value) for other in known if close and repr(other) in close}
            elif name in found:
                self.add(at, key, f"{name!r} stands already at line {found[name][0]}; remove one of the two")
            else:
                found[name] = at, value
        return found

    def text(self, found: dict[str, tuple[int, yaml.Node]], name: str, line: int, key: str) -> str:
        """Return a text that must be there; the empty text where it is not."""
        at, node = found.get(name, (line, None))
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str" and node.value.strip():
            return node.value.strip()
        if node is None or (isinstance(node, yaml.ScalarNode) and node.value.strip() in ("", "~", "null")):
            self.add(at, key, f"{name!r} is missing or empty; expected a text")
        elif isinstance(node, yaml.ScalarNode):
            self.add(at, key, f"{name!r} is {node.value}, which YAML takes for no text; put it in quotes")
        else:
            self.add(at, key, f"{name!r} should be a text; put it in quotes or after >-")
        return ""

    def texts(self, found: dict[str, tuple[int, yaml.Node]], name: str, key: str) -> list[str]:
        """Return a list of texts."""
        at, node = found[name]
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.add(at, key, f"{name!r} should be a list of texts, one a line after `- `")
            return []
        listed = [(f"{name}[{i}]", entry) for i, entry in enumerate(node.value)]
        return [self.text({n: (e.start_mark.line + 1, e)}, n, at, key) for n, e in listed]

    def card(self, node: yaml.Node | None) -> Card | None:
        """Return the card."""
        keys = ("name", "identity", "profile", "stages", "source")
        found = self.mapping(node, 1, "", keys, "name, identity, profile and a mapping of stages")
        if not found:
            return None
        texts = {name: self.text(found, name, 1, "") for name in keys[:3]}
        source = self.source(*found["source"]) if "source" in found else None
        expected = "a mapping of stages, each with label and summary"
        at, value = found.get("stages", (1, None))
        stages = {
            name: self.stage(name, place, line, index, "source" in found)
            for index, (name, (line, place)) in enumerate(self.mapping(value, at, "stages", None, expected).items())
        }
        # A stage with a wrong name has no folder of that name: that is no second problem.
        stages = {name: stage for name, stage in stages.items() if _NAME.fullmatch(name)}
        return Card(**texts, stages=stages, source=source) if stages else None

    def stage(self, name: str, node: yaml.Node, line: int, index: int, sourced: bool) -> Stage:
        """Return one stage, the ``index``-th of the pack."""
        key = f"stages.{name}"
        if not _NAME.fullmatch(name):
            self.add(line, key, "a stage's name is lower case letters, digits and _")
        keys = ("label", "summary", "timeline", "big_five", "begins")
        found = self.mapping(node, line, key, keys, "a mapping with label and summary")
        if not found:
            return Stage("", "")
        begins = ""
        if sourced and (index or "begins" in found):
            begins = self.text(found, "begins", line, key)
        elif "begins" in found:
            self.add(found["begins"][0], key, "'begins' is for packs with a source; remove it")
        return Stage(
            label=self.text(found, "label", line, key),
            summary=self.text(found, "summary", line, key),
            timeline=self.texts(found, "timeline", key) if "timeline" in found else [],
            big_five=self.traits(*found["big_five"], f"{key}.big_five") if "big_five" in found else {},
            begins=begins,
        )

    def traits(self, line: int, node: yaml.Node, key: str) -> dict[str, Trait]:
        """Return the five traits."""
        found = self.mapping(node, line, key, BIG_FIVE, f"a mapping of {', '.join(BIG_FIVE)}")
        made = {}
        for name in BIG_FIVE if found else ():
            if name not in found:
                self.add(line, key, f"{name!r} is missing; give all five or none")
                continue
            at, value = found[name]
            told = self.mapping(value, at, f"{key}.{name}", ("level", "reason"), "a mapping with level and reason")
            texts = {part: self.text(told, part, at, f"{key}.{name}") for part in ("level", "reason") if told}
            if texts.get("level", "high") not in ("", *LEVELS):
                self.add(told["level"][0], f"{key}.{name}", f"level {texts['level']!r} is none of {', '.join(LEVELS)}")
            made[name] = Trait(texts.get("level", ""), texts.get("reason", ""))
        return made

    def source(self, line: int, node: yaml.Node) -> Source | None:
        """Return where the pack's one long text is."""
        keys, key = ("file", "form", "speaker", "narrator"), "source"
        found = self.mapping(node, line, key, keys, "a mapping with file, form and speaker")
        if not found:
            return None
        file, form = self.text(found, "file", line, key), self.text(found, "form", line, key)
        if file and (Path(file).name != file or Path(file).suffix not in (".txt", ".jsonl")):
            self.add(found["file"][0], key, f"file {file!r} should be a .txt or .jsonl file in the pack's own folder")
        if form and form not in FORMS:
            self.add(found["form"][0], key, f"form {form!r} is none of {', '.join(FORMS)}{did_you_mean(form, FORMS)}")
        speaker: list[str] = []
        if "speaker" in found:
            speaker = self.texts(found, "speaker", key)
        else:
            self.add(line, key, "'speaker' is missing; expected the names by which the text calls the persona")
        return Source(file, form, speaker, "narrator" in found and self.narrator(*found["narrator"], form))

    def narrator(self, line: int, node: yaml.Node, form: str) -> bool:
        """Return whether the persona narrates."""
        if node.tag != "tag:yaml.org,2002:bool":
            self.add(line, "source", "'narrator' should be true or false")
            return False
        narrates = str(node.value).lower() in ("true", "yes", "on")
        if narrates and form in set(FORMS) - set(NARRATED):
            self.add(line, "source", f"'narrator' is for {' and '.join(NARRATED)}; remove it")
        return narrates
