"""The review page: a local server on which a person accepts, edits or rejects items one by one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from persllm import packs
from persllm.errors import UserError
from persllm.review.desk import Desk
from persllm.review.drafts import Drafts
from persllm.review.server import PageServer

__all__ = ["Drafts", "require_own", "serve"]


def require_own(sets: Sequence[Drafts]) -> None:
    """Refuse what cannot be reviewed.

    Raises:
        UserError: a persona that is shipped with this package, where a log would be lost with the next installation.
    """
    for one in sets:
        pack = one.pack.resolve()
        if pack.is_relative_to(packs.SHIPPED.resolve()):
            raise UserError(
                f"{pack.name} is shipped with persllm and is not reviewed in place; copy it, cp -r {pack} "
                f"./my_{pack.name}, and name the copy: persona=./my_{pack.name}"
            )


def serve(sets: Sequence[Drafts], port: int = 0) -> int:
    """Serve the page until Ctrl-C; every decision is on disk before the page says so.

    The address is printed and not handed to a browser: it holds the token, and command lines are no secret.

    Args:
        sets: what to review.
        port: of 127.0.0.1; 0 for any that is free.

    Returns:
        The exit code.

    Raises:
        UserError: a folder that cannot be written, a log with a bad line, a port that is taken.
    """
    desk = Desk(sets)
    desk.require_writable()
    with PageServer(desk, port) as server:
        print(f"review: {told(desk.counts())}")
        print(f"open {server.address} in a browser on this machine; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            # A decision that is under way is kept before the count is told.
            with desk.lock:
                print(f"\nreview ended: {told(desk.counts())}")
            for log in (folder / "reviews.jsonl" for folder in desk.folders):
                print(f"  kept in {log}" if log.is_file() else f"  nothing to keep in {log}")
            sys.stdout.flush()
    return 0


def told(counts: dict[str, int]) -> str:
    """Return the counts of ``reviews.apply`` in words."""
    text = f"{counts['accept']} accepted, {counts['edit']} edited, {counts['reject']} rejected, {counts['open']} left"
    text += f", {counts['dropped']} left out with a rejected one" if counts["dropped"] else ""
    return text + (f", {counts['stale']} about texts that are no more" if counts["stale"] else "")
