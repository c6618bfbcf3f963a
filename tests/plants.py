"""Planted arms: what an arm of known character would have made of real probes of a shipped persona."""

from __future__ import annotations

from hashlib import sha256
from statistics import mean
from typing import Any

from persllm import pack_probes, packs
from persllm.probes import Evidence, Subject, Told
from persllm.records import Telling


def subject(name="scrooge", limit=None):
    """Return a shipped persona as metrics see it."""
    root = packs.folder(name)
    card = packs.load_card(root)
    return Subject(name, card, [], {}, pack_probes.read(root, list(card.stages)), limit)


def told(probes, lean, say=lambda probe, turn: "Humbug."):
    """Return an arm's answers.

    Args:
        probes: asked of it.
        lean: of a probe and a turn (from 0), how much likelier per token the first option is than the second.
        say: of the same, the reply; None where it breaks the arm's format.
    """
    found = []
    for probe in probes:
        turns = range(len(probe.turns))
        replies = [say(probe, turn) for turn in turns if probe.closing or turn + 1 < len(probe.turns)]
        of = [[(0.0, lean(probe, turn))[place == 0] for place, _ in enumerate(probe.at(turn))] for turn in turns]
        options = [[[10 * (one - 3), 10] for one in turn] for turn in of]
        telling = Telling(
            probe_id=probe.id, sample=0, replies=replies, texts=[reply or "" for reply in replies], likelihoods=options,
            forgotten=0, prompt_tokens=1, tokens=1, seconds=0.0,
        )  # fmt: skip
        found.append(Told(probe, telling))
    return found


def means(module, told, about=None, **evidence) -> dict[str, Any]:
    """Return each metric's mean over its values, those that are missing left out."""
    scored = module.score(Evidence(about or subject(), "planted", 0, told, **evidence))
    found = {}
    for one in scored.values:
        found.setdefault(one.metric, []).append(one.value)
    return {
        metric: mean(known) if (known := [v for v in of if v is not None]) else None for metric, of in found.items()
    }


def spread(probe):
    """Return a number from 0 to 1 that is as good as drawn, always the same for a probe: for arms that guess."""
    return int(sha256(probe.id.encode()).hexdigest()[:8], 16) / 16**8
