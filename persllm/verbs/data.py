"""``persllm data check``: say what is wrong or noteworthy in packs and data sets. Writes nothing."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from persllm import verbs
from persllm.errors import UserError

if TYPE_CHECKING:
    from persllm.checks.reading import Data
    from persllm.schema import Config

EXAMPLES = """  persllm data check scrooge                    a shipped pack
  persllm data check mine/heathcliff            a folder with persona.yaml
  persllm data check mine/heathcliff annotate=local  the items a model wrote
  persllm data check scrooge ottoline           are their voices told apart?
  persllm data check chats.parquet              general data
  persllm data check outputs/split/scrooge-1a2b3c4d    a finished split"""
GROUPS = ("model", "annotate", "split", "general")
"""What a check looks at; see persllm.groups."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's words and flags."""
    parser.add_argument("work", choices=["check"], metavar="check", help="what to do with the data")
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a pack's name or folder, items.jsonl, general data, or a split's folder",
    )
    verbs.json_flag(parser)


def _part(words: list[str]) -> tuple[list[str], list[str]]:
    """Part paths from overrides: an override has an equals sign and is no file."""
    overrides = [word for word in words if re.match(r"[~+]?[\w.]+=", word) and not Path(word).exists()]
    return [word for word in words if word not in overrides], overrides


def main(args: argparse.Namespace) -> int:
    """Check every path; exit code 2 where one cannot be used as it is."""
    paths, overrides = _part([*args.paths, *args.overrides])
    if not paths:
        raise UserError("persllm data check: which data? give a pack's name or folder, or a file; see --help")
    from persllm import compose
    from persllm.checks import reading
    from persllm.schema import AnnotatorKind

    config = compose.resolve(overrides).config
    found, faults = [], []
    # Faults of all paths are told before any slow look at one of them.
    for path in dict.fromkeys(paths):
        try:
            data = reading.read(path, config.general.scan)
        except UserError as error:
            faults.append(str(error))
            continue
        if data.kind == "pack" and not data.items and config.annotate.annotator is not AnnotatorKind.recorded:
            _add_annotated(data, [f"persona={path}", *overrides])
        if any(other.name == data.name for other in found):
            data.name = path
        found.append(data)
    if faults:
        raise UserError("\n".join(faults))
    return _look(args, found, config)


def _add_annotated(data: Data, words: list[str]) -> None:
    """Add the items that a model wrote for a pack.

    Raises:
        UserError: it has not written them yet.
    """
    from persllm import compose, plan
    from persllm.checks import reading

    resolved = compose.resolve(words)
    directory = plan.annotate_steps(resolved)[0].directory(Path(resolved.config.outputs))
    if not directory.is_done():
        raise UserError(f"{data.name} is not annotated yet; run: {verbs.command('annotate', words)}")
    reading.add_items(data, directory.artifacts)


def _look(args: argparse.Namespace, found: list[Data], config: Config) -> int:
    from persllm.checks import showing
    from persllm.checks.counting import names
    from persllm.checks.voice import speakers

    console = verbs.console()
    reports = []
    for data in found:
        reports.append(showing.look(data, config))
        if not args.json:
            showing.show(console, reports[-1], config)
    packs = [data for data in found if data.kind == "pack"]
    several = speakers(packs, [name for data in packs for name in names(data)]) if len(packs) > 1 else None
    if args.json:
        verbs.print_json(showing.as_json(reports, several))
        return 0
    if several:
        showing.show_speakers(console, several)
    elif len(packs) > 1:
        console.print("voice of the personas: not tried; fewer than two have speech paragraphs and responses\n")
    count = sum(len(report.warnings) for report in reports)
    console.print(f"no faults, {verbs.many(count, 'warning')}")
    return 0
