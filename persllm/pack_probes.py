"""A pack's probe files: questions that examine an arm beyond the held-out items. All are optional.

PACK/STAGE/stances.jsonl    opinions of a stage: a question, other ways to ask it, a reply that keeps the opinion, one
                            that gives it up
PACK/STAGE/moments.jsonl    points in time, of the four kinds of TimeChara (arXiv 2405.18027): a right and a wrong reply
PACK/STAGE/premises.jsonl   matched premises, false and true, on one fact: for each a right and a wrong reply
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from persllm.errors import UserError, did_you_mean
from persllm.identity import tree_sha256
from persllm.problems import Problems

Row = dict[str, Any]

MOMENTS = ("future", "past_absence", "past_presence", "past_only")
TEXTS: dict[str, tuple[str, ...]] = {
    "stances": ("id", "topic", "question", "keep", "flip"),
    "moments": ("id", "kind", "question", "right", "wrong"),
    "premises": ("id", "false", "false_right", "false_wrong", "true", "true_right", "true_wrong"),
}
"""Each kind's fields that hold a text."""
LISTS: dict[str, tuple[str, ...]] = {"stances": ("paraphrases", "either")}
"""Those that hold a list of two texts."""
NAMES = tuple(f"{kind}.jsonl" for kind in TEXTS)
FILES = tuple(f"*/{name}" for name in NAMES)


def sha256(root: Path) -> str:
    """Return the hex sha256 of a pack's probe files."""
    return tree_sha256(root, FILES)


def require_unchanged(root: Path, planned: str) -> None:
    """Raise where the probe files are not what a study was planned with.

    Raises:
        UserError: they have another sha256 than ``planned``.
    """
    if sha256(root) != planned:
        raise UserError(f"{root}: its probe files changed after this study was planned; run the same command again")


def _fault(kind: str, row: Any, met: set[str]) -> str:
    """Return what keeps a value from being a row of a kind; empty where nothing does."""
    if not isinstance(row, dict):
        return f"expected a JSON object, found {type(row).__name__}"
    known = (*TEXTS[kind], *LISTS.get(kind, ()), *(("differs",) if kind == "stances" else ()))
    for key in row:
        if key not in known:
            return f"unknown field {key!r} (expected {', '.join(known)}){did_you_mean(key, known)}"
    for key in TEXTS[kind]:
        if not isinstance(row.get(key), str) or not row[key].strip():
            return f"field {key!r} should be a text"
    for key in LISTS.get(kind, ()):
        texts = row.get(key)
        if not isinstance(texts, list) or len(texts) != 2 or not all(isinstance(t, str) and t.strip() for t in texts):
            return f"field {key!r} should be a list of two texts"
    if not isinstance(row.get("differs", False), bool):
        return "field 'differs' should be true or false"
    if kind == "moments" and row["kind"] not in MOMENTS:
        return f"field 'kind' should be one of {', '.join(MOMENTS)}, found {row['kind']!r:.60}"
    return f"id {row['id']!r} stands here twice; give each line its own" if row["id"] in met else ""


def read(root: Path, stages: list[str]) -> dict[str, dict[str, list[Row]]]:
    """Return the rows of a pack's probe files: kind, then stage; what has no file is absent.

    Raises:
        UserError: a line for each bad line.
    """
    problems = Problems()
    found: dict[str, dict[str, list[Row]]] = {}
    for kind in TEXTS:
        met: set[str] = set()
        for stage in stages:
            path = root / stage / f"{kind}.jsonl"
            if not path.is_file():
                continue
            rows = found.setdefault(kind, {}).setdefault(stage, [])
            for number, row in problems.rows(path, f"{kind}, one JSON object a line") or ():
                fault = _fault(kind, row, met)
                if fault:
                    problems.add(path, number, fault)
                    continue
                met.add(row["id"])
                rows.append(row)
    problems.check()
    return found
