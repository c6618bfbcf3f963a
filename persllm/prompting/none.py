"""Recipe none: no persona at all, the generic answer."""

from persllm.prompting import GENERIC, Message, Source


def build(source: Source, stage: str, question: str) -> list[Message]:
    """Return a neutral system message (templates add their own where there is none) and the question."""
    return [{"role": "system", "content": GENERIC}, {"role": "user", "content": question}]
