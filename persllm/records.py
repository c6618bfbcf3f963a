"""The records that steps exchange, one JSON object a line, validated on read."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from persllm.errors import UserError, did_you_mean

PATTERNS = ("knowledge", "opinion", "false_premise", "true_premise")
KINDS = ("knowledge", "speech")
PAIR_KINDS = ("cross_persona", "cross_stage")


@dataclass(frozen=True, kw_only=True)
class Material:
    """One paragraph about (``knowledge``) or by (``speech``) the persona at one stage."""

    id: str
    persona: str
    stage: str
    kind: str
    order: int
    text: str
    source: str


PREMISES = ("false_premise", "true_premise")
"""The patterns of the matched twins."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One annotated turn: a question, an analysis and a response in character.

    ``premise_pair`` is the id of the matched item whose premise has the opposite truth, or None. ``retrieved`` are the
    ids of the materials that the annotator was shown, in their order; empty where nobody recorded it.
    """

    id: str
    persona: str
    stage: str
    pattern: str
    material_id: str
    premise_pair: str | None
    question: str
    analysis: str
    response: str
    annotator: str
    retrieved: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Reanswer:
    """The answer that ``stage`` gives to an item that was asked of the other stage.

    ``retrieved`` is as in ``Item``.
    """

    item_id: str
    persona: str
    stage: str
    analysis: str
    response: str
    annotator: str
    retrieved: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class GeneralItem:
    """One turn of general instruction data, answered out of character."""

    id: str
    question: str
    response: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A preference: ``chosen`` is the stage asked for, ``rejected`` somebody else's answer to mislead.

    ``chosen`` and ``rejected`` hold ``[analysis, response]``.
    """

    id: str
    persona: str
    stage: str
    kind: str
    pattern: str
    prompt: str
    chosen: list[str]
    rejected: list[str]
    rejected_from: str


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One reply of one arm. ``response`` is None when the reply broke the format: missing, and counted."""

    item_id: str
    arm: str
    seed: int
    persona: str
    stage: str
    prompt_tokens: int
    text: str
    analysis: str | None
    response: str | None
    finish_reason: str
    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number for one item of one arm. ``value`` None is missing; ``cluster`` is the item's material."""

    item_id: str
    arm: str
    seed: int
    persona: str
    stage: str
    cluster: str
    metric: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Telling:
    """What an arm made of one probe in one sample (see ``persllm.probes``).

    ``replies`` are its responses by turn, None where a reply broke the format; ``texts`` the same as they were
    generated, analyses included. ``likelihoods`` are by turn and option: total in nats, and tokens. ``forgotten`` is
    how many of the oldest turns no longer fitted before the last reply.
    """

    probe_id: str
    sample: int
    replies: list[str | None]
    texts: list[str]
    likelihoods: list[list[list[float]]]
    forgotten: int
    prompt_tokens: int
    tokens: int
    seconds: float


T = TypeVar("T")


def _fits(value: Any, annotation: Any) -> bool:
    if isinstance(annotation, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(annotation))
    if annotation is type(None):
        return value is None
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if typing.get_origin(annotation) is list:
        (inner,) = typing.get_args(annotation)
        return isinstance(value, list) and all(_fits(v, inner) for v in value)
    return isinstance(value, annotation)


_ENUMS: dict[tuple[type, str], tuple[str, ...]] = {
    (Material, "kind"): KINDS,
    (Item, "pattern"): PATTERNS,
    (Pair, "kind"): PAIR_KINDS,
}


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


@functools.lru_cache
def _fields(cls: type[Any]) -> tuple[dict[str, Any], set[str]]:
    """Return a record's types by field, and the fields that have no default."""
    needed = {f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING}
    return typing.get_type_hints(cls), needed


def faults(cls: type[Any], row: Any) -> list[str]:
    """Return what keeps a mapping from being a record: unknown, missing (unless it has a default), mistyped fields."""
    if not isinstance(row, dict):
        return [f"expected a JSON object, found {type(row).__name__}"]
    hints, needed = _fields(cls)
    found, meant, missing = [], set[str](), list[str]()
    for key in row:
        if key not in hints:
            close = did_you_mean(key, hints)
            found.append(f"unknown field {key!r}{close}")
            meant |= {name for name in hints if repr(name) in close}
    for key, annotation in hints.items():
        allowed = _ENUMS.get((cls, key))
        if key not in row:
            missing += [key] if key in needed - meant else []
        elif not _fits(row[key], annotation):
            found.append(f"field {key!r} should be {_name(annotation)}, found {row[key]!r:.60}")
        elif allowed and row[key] not in allowed:
            close = did_you_mean(row[key], allowed)
            found.append(f"field {key!r} is {row[key]!r}, expected one of {', '.join(allowed)}{close}")
    if len(missing) == 1:
        found.append(f"field {missing[0]!r} is missing (a {_name(hints[missing[0]])})")
    elif missing:
        found.append(f"fields {', '.join(map(repr, missing))} are missing")
    return found


def parse(cls: type[T], row: Any, where: str) -> T:
    """Build a record from a mapping, or say which fields of which line are wrong.

    Raises:
        UserError: unknown, missing or mistyped fields, a line each; ``where`` names the file and line.
    """
    found = faults(cls, row)
    if found:
        raise UserError("\n".join(f"{where}: {text}" for text in found))
    return cls(**row)


def decode(line: str) -> Any:
    """Return the value of a line of JSON.

    Raises:
        UserError: it is none.
    """
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"not valid JSON ({error.msg} at column {error.colno}); mend or remove the line") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{unreadable(error)}; mend or remove the line") from error


def unreadable(error: ValueError | RecursionError) -> str:
    """Return what is wrong with JSON that is well-formed, but that Python refuses to read."""
    if isinstance(error, RecursionError):
        return "JSON nested too deeply"
    return f"a number of more than {sys.get_int_max_str_digits()} digits"


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield ``("file:line", value)`` for each non-empty line.

    Raises:
        UserError: the file is missing, is no UTF-8 text, or a line is no JSON.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected JSON Lines, one record a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = decode(line)
        except UserError as error:
            raise UserError(f"{path}:{number}: {error}") from error
        yield f"{path}:{number}", value


def read(cls: type[T], path: Path) -> list[T]:
    """Read and validate every record of a JSON Lines file."""
    return [parse(cls, row, where) for where, row in read_json_lines(path)]


def to_line(record: Any) -> str:
    """Return a record as one line of JSON, keys in declared order."""
    row = dataclasses.asdict(record) if dataclasses.is_dataclass(record) and not isinstance(record, type) else record
    return json.dumps(row, ensure_ascii=False) + "\n"


def write(path: Path, records: Iterable[Any]) -> None:
    """Write records as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(to_line(record) for record in records)
