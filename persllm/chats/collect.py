"""From the sources of general data to items, with a count of everything that was left out. Imports no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from persllm.chats import files, hub
from persllm.chats.draw import Draw, quotas
from persllm.chats.turns import EXPECTED, Skip, first_turn
from persllm.errors import UserError
from persllm.records import GeneralItem
from persllm.schema import General


def is_own(general: General) -> bool:
    """Return whether the base model answers our own prompts."""
    return general.source == "self" and not general.mix


def meaning(general: General) -> dict[str, Any]:
    """Return what decides which items come out: files count by their content, hub ids by their revision.

    Raises:
        UserError: a source is neither a file, a folder with data files, nor a hub id; or ``general.revision`` stands
            beside several hub ids, or beside one that names its commit.
    """
    if is_own(general):
        return {key: getattr(general, key) for key in ("source", "limit", "max_new_tokens")}
    key = "general.mix" if general.mix else "general.source"
    sources, hub_ids = [], []
    for source, weight in (general.mix or {general.source: 1.0}).items():
        path = files.local(key, source)
        if path:
            # One file is one source, however it is written; its name stays, for it stands in the items.
            name = os.path.normpath(path)
            sources.append({"source": name, "weight": weight, "sha256": files.content(path)})
            continue
        name, _, commit = source.partition("@")
        hub_ids.append(source)
        pinned = {"split": general.split, "revision": commit or general.revision}
        sources.append({"source": name, "weight": weight} | pinned)
    if general.revision is not None and (len(hub_ids) > 1 or any("@" in source for source in hub_ids)):
        raise UserError(
            f"general.revision={general.revision} cannot stand for {', '.join(hub_ids)}; leave it out and name each "
            f"with its own commit in {key}, like ORG/NAME@COMMIT"
        )
    return {"sources": sources} | {key: getattr(general, key) for key in ("limit", "scan", "seed")}


def notes(meant: dict[str, Any]) -> list[str]:
    """Return what a plan should say of a meaning: which hub ids are not pinned."""
    open_ids = [one["source"] for one in meant.get("sources", ()) if one.get("revision", "") is None]
    return [f"general data {name} is not pinned: write {name}@COMMIT, or it may change" for name in open_ids]


def collect(meant: dict[str, Any], stop: Callable[[], None]) -> tuple[list[GeneralItem], list[dict[str, Any]]]:
    """Draw the items of all sources.

    Args:
        meant: see ``meaning``.
        stop: called now and then; raises where reading should end.

    Returns:
        The items, source by source, and for each source what was asked of it, read, drawn and left out.

    Raises:
        UserError: a source cannot be read, or none of its rows can be used.
    """
    items, told = [], []
    taken: frozenset[int] = frozenset()
    for one, quota in zip(
        meant["sources"], quotas([s["weight"] for s in meant["sources"]], meant["limit"]), strict=True
    ):
        rows, count = _open(one)
        draw = Draw(quota, meant["seed"], taken)
        count |= _read(one["source"], islice(rows, meant["scan"]) if quota else iter(()), draw, stop)
        stopped = count["rows"] == meant["scan"] and goes_on(rows)
        drawn = draw.drawn()
        taken |= {own for own, _, _ in drawn}
        items += [
            GeneralItem(id=f"general-{own:032x}"[:24], question=turn.question, response=turn.answer, source=place)
            for own, turn, place in drawn
        ]
        count |= {
            "asked": quota,
            "items": len(drawn),
            "duplicates": draw.duplicates,
            "stopped_by_scan": stopped,
            "system_messages_left_out": sum(turn.system for _, turn, _ in drawn),
            "later_turns_left_out": sum(turn.later for _, turn, _ in drawn),
        }
        told.append({"source": one["source"]} | count)
    return items, told


def _open(one: dict[str, Any]) -> tuple[Iterator[tuple[str, Any]], dict[str, Any]]:
    """Return a source's rows, and what is known of them beforehand."""
    if "sha256" not in one:
        commit = hub.commit(one["source"], one["revision"])
        return hub.rows(one["source"], commit, one["split"]), {"commit": commit}
    path = Path(one["source"])
    if not path.exists() or files.content(path) != one["sha256"]:
        raise UserError(f"{path} changed after this study was planned; run the same command again")
    return files.rows(path), {}


def goes_on(rows: Iterator[Any]) -> bool:
    """Return whether there is another row, be it a broken one."""
    try:
        return next(rows, None) is not None
    except UserError:
        return True


def _read(source: str, rows: Iterator[tuple[str, Any]], draw: Draw, stop: Callable[[], None]) -> dict[str, Any]:
    skipped: Counter[str] = Counter()
    count, columns = 0, set[str]()
    for place, row in rows:
        count += 1
        if count % 1000 == 0:
            stop()
        made = first_turn(row)
        if isinstance(made, Skip):
            skipped[made.value] += 1
            if made is Skip.unknown_columns and len(columns) < 20:
                columns |= set(row)
        else:
            draw.add(made, place)
    if draw.limit and skipped.total() == count:
        raise UserError(_unusable(source, count, skipped, columns))
    return {"rows": count, "skipped": dict(sorted(skipped.items()))}


def _unusable(source: str, rows: int, skipped: Counter[str], columns: set[str]) -> str:
    found = f"; found the columns {', '.join(sorted(columns))}" if columns else ""
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(skipped.items()))
    return f"{source}: none of its {rows} rows can be used{f' ({why})' if why else ''}{found}; expected {EXPECTED}"


def sentence(told: dict[str, Any]) -> str:
    """Return one source's counts in words."""
    skipped = ", ".join(f"{reason} {count}" for reason, count in told["skipped"].items())
    short = f", where {told['asked']} were asked for" if told["items"] < told["asked"] else ""
    parts = [
        f"{told['source']}: {told['items']} items drawn from {told['rows']} rows{short}",
        f"{told['duplicates']} repeat a drawn item",
        f"skipped: {skipped or 'none'}",
        f"left out beside what was drawn: {told['system_messages_left_out']} system messages, the later turns of "
        f"{told['later_turns_left_out']}",
    ]
    return "; ".join(parts + (["reading ended at general.scan"] if told["stopped_by_scan"] else []))
