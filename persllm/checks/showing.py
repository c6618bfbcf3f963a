"""The looks at one data set together, and how they are printed on 80 columns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persllm import verbs
from persllm.checks import counting, likeness, links, voice
from persllm.checks.lengths import Length, lengths
from persllm.checks.likeness import Duplicates, Leakage
from persllm.checks.reading import Data
from persllm.checks.voice import Voice
from persllm.records import PATTERNS
from persllm.schema import Config

if TYPE_CHECKING:
    from rich.console import Console


_HOW = "names masked; from speech.txt to responses"
_HELD = "not trained on the paragraph its question was written from, nor on those that\nthe item records as retrieved"


@dataclass(frozen=True)
class Report:
    """All that was found about one data set."""

    data: Data
    counts: dict[str, dict[str, int]]
    twins: int
    duplicates: dict[str, Duplicates]
    leakage: Leakage | None
    naming: dict[str, tuple[int, int, list[str]]]
    lengths: dict[str, Length]
    voice: Voice | None
    warnings: list[str]


def look(data: Data, config: Config) -> Report:
    """Look at one data set in every way."""
    # First, because it imports what silences the progress bars of loading models.
    measured = lengths(data, config.model)
    kinds = {"paragraphs": data.paragraphs(), "questions": data.questions(), "responses": data.responses()}
    twice = {kind: likeness.duplicates(texts, config.split) for kind, texts in kinds.items() if texts}
    leakage = likeness.leakage(data, config.split) if data.items else None
    spoken = voice.stages(data, counting.names(data)) if data.card else None
    told = counting.warnings(data) + links.warnings(data) + _warnings(twice, leakage, measured, spoken, config)
    return Report(
        data=data,
        counts=counting.counts(data),
        twins=counting.twins(data)[0],
        duplicates=twice,
        leakage=leakage,
        naming=counting.naming(data),
        lengths=measured,
        voice=spoken,
        warnings=told,
    )


def _warnings(
    twice: dict[str, Duplicates],
    leakage: Leakage | None,
    measured: dict[str, Length],
    spoken: Voice | None,
    config: Config,
) -> list[str]:
    told = []
    for kind, found in twice.items():
        if found.exact or found.near:
            told.append(f"{found.exact} exact and {found.near} near duplicates among {found.texts} {kind}")
        if found.left:
            told.append(f"near duplicates were looked for among the first {found.compared} {kind} only")
    if leakage and leakage.overlapping:
        words = f"{likeness.NGRAM} words in a row"
        told.append(f"{leakage.overlapping} of {leakage.held} test items share {words} with training texts")
    if leakage:
        told += [f"the {part} part is empty" for part, count in leakage.items.items() if not count]
    if leakage and leakage.nearest is not None and leakage.nearest >= config.split.leak_cosine:
        told.append(f"a test question is as near as {leakage.nearest:.2f} to one of training")
    for kind, length in measured.items():
        if length.cut:
            limit = f"model.max_length={config.model.max_length}"
            told.append(f"longer than {limit}, and so to be cut: {length.cut} of {length.texts} {kind}")
    if spoken and spoken.p >= 0.05:
        told.append(
            "the stages' voices are not told apart, or the responses are too few to tell: "
            f"accuracy {spoken.accuracy:.2f}, chance {spoken.chance:.2f}"
        )
    return told


def as_json(reports: list[Report], several: Voice | None) -> dict[str, Any]:
    """Return everything as JSON types."""

    def plain(value: Any) -> Any:
        if isinstance(value, Voice):
            more = {"accuracy": value.accuracy, "tested": value.tested, "chance": value.chance, "p": value.p}
            return dataclasses.asdict(value) | more
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        return {key: plain(one) for key, one in value.items()} if isinstance(value, dict) else value

    made = []
    for report in reports:
        fields = {f.name: plain(getattr(report, f.name)) for f in dataclasses.fields(report) if f.name != "data"}
        made.append({"name": report.data.name, "kind": report.data.kind, "root": str(report.data.root), **fields})
    return {"checked": made, "speakers": plain(several), "warnings": sum(len(r.warnings) for r in reports)}


def show(console: Console, report: Report, config: Config) -> None:
    """Print one data set's report."""
    data = report.data
    sizes = [
        verbs.many(len(data.materials), "paragraph") if data.materials else "",
        verbs.many(len(data.items), "item") if data.items else "",
        verbs.many(len(data.reanswers), "re-answer") if data.reanswers else "",
        verbs.many(len(data.general), "general turn") if data.general else "",
    ]
    console.print(f"{data.name} ({data.kind}): {', '.join(filter(None, sizes))}", style="bold")
    if report.counts:
        _counts(console, report)
    _duplicates(console, report, config)
    if report.leakage:
        _leakage(console, report.leakage, config, data)
    if report.naming:
        _naming(console, report)
    _lengths(console, report, config)
    if report.voice:
        _title(console, "voice of the stages", _HOW)
        _told(console, report.voice)
    if report.warnings:
        console.print()
    for text in report.warnings:
        console.print(f"warning: {text}", style="yellow")
    console.print()


def _title(console: Console, name: str, told: str = "") -> None:
    from rich.text import Text

    console.print()
    console.print(Text.assemble((name, "bold"), f" ({told})" if told else ""))


def _counts(console: Console, report: Report) -> None:
    console.print()
    heads = {
        "knowledge_material": "knowledge\nmaterial",
        "speech_material": "speech\nmaterial",
        **{pattern: pattern.replace("_", "\n") for pattern in PATTERNS},
        "reanswers": "re-\nanswers",
    }
    table = verbs.table(("stage", *heads.values()), right=heads.values(), fixed=("stage",))
    for stage, count in report.counts.items():
        table.add_row(stage, *(str(count[key]) for key in heads))
    console.print(table)
    premises = sum(count[p] for count in report.counts.values() for p in ("false_premise", "true_premise"))
    if premises:
        console.print(f"twins: {report.twins} complete, {premises - 2 * report.twins} premise items without one")


def _duplicates(console: Console, report: Report, config: Config) -> None:
    _title(console, "duplicates", f"near: cosine from {config.split.duplicate_cosine:g}; twins may be alike")
    table = verbs.table(("", "texts", "exact", "near", "worst"), right=("texts", "exact", "near"))
    for kind, found in report.duplicates.items():
        worst = "\n".join(f"{cosine:.2f} {here} = {there}" for cosine, here, there in found.worst)
        table.add_row(kind, str(found.texts), str(found.exact), str(found.near), worst)
    console.print(table)


def _leakage(console: Console, found: Leakage, config: Config, data: Data) -> None:
    if data.parts is None:
        how = f"by paragraph, split.test={config.split.test:g} split.dev={config.split.dev:g}"
    else:
        how = "the parts as they are"
    _title(console, "leakage", how)
    parts = ", ".join(f"{count} {part}" for part, count in found.items.items())
    if data.parts is None:
        parts += f"; {found.dropped} dropped as (near-)duplicates"
    console.print(f"items: {parts}")
    if found.tied:
        told = f"paragraphs that another one nearly repeats (cosine from {config.split.leak_cosine:g})"
        console.print(f"{told}: {found.tied}, kept in its part")
    words = f"{likeness.NGRAM} words in a row"
    console.print(f"test items that share {words} with training: {found.overlapping} of {found.held}")
    for gram, here, there in found.overlaps:
        console.print(f'  "{gram}"\n    {here} and {there}', soft_wrap=True)
    if found.nearest is not None and found.nearest_places:
        here, there = found.nearest_places
        console.print(f"nearest training question: cosine {found.nearest_median:.2f} in the median,")
        console.print(f"  at most {found.nearest:.2f} ({here} and {there})", soft_wrap=True)


def _naming(console: Console, report: Report) -> None:
    _title(console, "names of the persona", "they give away who speaks")
    for kind, (count, texts, places) in report.naming.items():
        told = f", first at {places[0]}" if places else ""
        console.print(f"{kind}: {count} of {texts}{told}", soft_wrap=True)


def _lengths(console: Console, report: Report, config: Config) -> None:
    path = config.model.path.removeprefix("package:")
    _title(console, f"lengths in tokens of {path}", f"cut: longer than model.max_length={config.model.max_length}")
    right = ("texts", "median", "95 %", "longest", "cut")
    table = verbs.table(("", *right, "the longest"), right=right)
    for kind, found in report.lengths.items():
        numbers = (found.texts, found.median, found.high, found.longest, found.cut)
        table.add_row(kind, *map(str, numbers), found.place)
    console.print(table)


def show_speakers(console: Console, found: Voice) -> None:
    """Print how well several personas are told apart."""
    from rich.text import Text

    console.print(Text.assemble(("voice of the personas", "bold"), f" ({_HOW})"))
    _told(console, found)
    console.print()


def _told(console: Console, found: Voice) -> None:
    p = "p < 0.0001" if found.p < 1e-4 else f"p = {found.p:.4f}"
    console.print(
        f"accuracy {found.accuracy:.3f} ({found.right} of {found.tested} responses), chance {found.chance:.3f}, {p}"
    )
    console.print(_HELD)
    if found.untried:
        console.print(f"not tried for want of other paragraphs: {verbs.many(found.untried, 'response')}")
    heads = [str(i + 1) for i in range(len(found.labels))]
    table = verbs.table(("who speaks, by row; who was named, by column", *heads), right=heads)
    for i, row in enumerate(found.confusion):
        table.add_row(f"{i + 1} {found.labels[i]}", *map(str, row))
    console.print(table)
