"""Recipe self_refine: the profile; then the model criticises its own draft and answers anew (arXiv 2303.17651).

One round and no worked examples, where the paper has up to four rounds with examples: what a small model can read. The
question is repeated last, as a small model else answers the criticism.
"""

from persllm.prompting import Message, Source, profile


def build(source: Source, stage: str, question: str) -> list[Message]:
    """Return the system message and the question: what the draft answers."""
    return profile.build(source, stage, question)


def further(source: Source, stage: str, question: str) -> list[str]:
    """Return the request for a criticism of the draft, and the one for a new answer."""
    name, label = source.card.name, source.card.stages[stage].label
    return [
        f"Judge that answer like a strict reader who knows {name} well. Would {name} say this, in these words? Is it "
        f"true to {label}, with no word of what comes later? Does the question take something for granted that is not "
        "so, and does the answer go along with it? Say in one or two sentences what must be mended.",
        f"Mend that. Answer once more as {name}, in two to four spoken sentences, with nothing before or after them: "
        f"{question}",
    ]
