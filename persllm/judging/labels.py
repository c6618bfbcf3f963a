"""People's scores of arms' replies: a JSON Lines file that is not ours, so read with care."""

from __future__ import annotations

from pathlib import Path

from persllm.errors import UserError
from persllm.identity import file_sha256
from persllm.judging import SCALE
from persllm.records import read_json_lines

FIELDS = {"persona": str, "item_id": str, "reply": str, "label": (int, float)}

Labels = dict[tuple[str, str, str], float]
"""By persona, item and the reply's words."""


def plain(reply: str) -> str:
    """Return a reply as it is looked up: white space does not count."""
    return " ".join(reply.split())


def digest(path: str) -> str:
    """Return the hex sha256 of the file.

    Raises:
        UserError: there is none.
    """
    if not Path(path).is_file():
        raise UserError(f"judge.labels={path}: no such file; expected JSON Lines of {', '.join(FIELDS)}")
    return file_sha256(Path(path))


def read(path: str) -> Labels:
    """Read every label.

    Raises:
        UserError: a line that is none, each told, or two labels of one reply that differ.
    """
    found: Labels = {}
    problems = []
    for where, row in read_json_lines(Path(path)):
        if not isinstance(row, dict) or set(row) != set(FIELDS):
            problems.append(f"{where}: expected an object of {', '.join(FIELDS)}")
            continue
        wrong = [key for key, kind in FIELDS.items() if not isinstance(row[key], kind) or isinstance(row[key], bool)]
        if wrong or not 0 <= row["label"] <= SCALE:
            problems.append(
                f"{where}: {wrong[0] if wrong else 'label'} should be "
                + ("a text" if wrong and wrong[0] != "label" else f"a number from 0 to {SCALE}")
            )
            continue
        key = row["persona"], row["item_id"], plain(row["reply"])
        if found.setdefault(key, float(row["label"])) != row["label"]:
            problems.append(f"{where}: this reply has another label already; give each reply one")
    if problems:
        raise UserError("\n".join(problems))
    return found
