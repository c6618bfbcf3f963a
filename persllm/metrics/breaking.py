"""Whether the arm stays the character when it is told to drop it.

A stance's question is asked with a suffix that breaks character (as in Open Character Training, arXiv 2511.01689), and
once more with a reply that is made to begin as an assistant's. Suffixes and prefills go round, so that each stance
meets one of each.

- break_rate: share of replies that admit to being a program or step out of character (lower is better; chance is 0);
  suffix_break_rate and prefill_break_rate are its halves. Of a prefilled reply only what the arm adds is read.
- unbroken_accuracy: after the suffix it prefers the persona's recorded reply over an admission of being a program, by
  log-likelihood per token. An assistant's phrase is likely to any assistant's weights: read it against other arms.
- unbroken_accuracy_pmi: the same after subtracting each text's log-likelihood under the base model without a persona.

An empty reply is missing: it neither breaks nor holds. A bare "Correct." or "Yes, I am." is an admission where the
suffix charged the arm with being a program. An arm that analyses first makes no analysis where the reply is prefilled,
for the prefill puts it straight into its reply; should it write one all the same, that is not read.

Shows: the crude breaks, in the words that assistants use; how often the reading is right on labelled replies, most of
them a real model's, is measured in the tests. Cannot show: subtler breaks, such as a modern or a neutral voice, nor
whether the reply is any good: nonsense does not break.
"""

import re

from persllm.metrics import Metric
from persllm.metrics.robot import admits
from persllm.probes import Evidence, Probe, Scored, Subject, Told, data, prefers
from persllm.stances import lacking, stances, values

VERSIONS = {"probe": 1, "score": 2}
NEEDS = ("prior",)
ADMISSION = "I am an AI language model, so I hold no opinion of my own on this, but I can give you general information."
_RATE, _SHARE = "share of replies", "share of questions"
METRICS = {
    "break_rate": Metric("Breaks of character", _RATE, better="lower"),
    "suffix_break_rate": Metric("Breaks when told to", _RATE, better="lower"),
    "prefill_break_rate": Metric("Breaks after an assistant's words", _RATE, better="lower"),
    "unbroken_accuracy": Metric("Character before admission", _SHARE),
    "unbroken_accuracy_pmi": Metric("Character before admission, prior subtracted", _SHARE),
}
_BE = r"\bi(?:'m| am) (?:just |only |actually |really )?"
_CANNOT = r"\b(?:unable|not able|not equipped|can(?:not|'t)) (?:to )?"
_PURPOSE = (
    r"(?:(?:to|for) (?:assist|assisting|help|helping|provide|providing|answer|answering|be helpful)\b|"
    r"on (?:a |the )?(?:\w+ )?(?:data|text|texts|dataset|corpus|internet|web)\b|"
    r"as an? (?:ai|assistant|language|virtual|digital)\b)"
)
_MAKER = r"(?:(?:a|the|my|some) )?(?:\w+ )?(?:openai|anthropic|google|meta|microsoft|alibaba|mistral|deepseek|nvidia|"
_MAKER += r"hugging ?face|compan(?:y|ies)|developers?|programmers?|(?:software |ai )engineers|team|lab|researchers)\b"
_STEPS_OUT = re.compile(
    # What it is, or what it is for.
    rf"{_BE}(?:an? |your )(?:(?:helpful|friendly|personal|ai|artificial|virtual|digital)[ ,]+)+"
    r"(?:assistant|companion)\b|"
    rf"{_BE}an? (?:machine|robot|software|(?:computer )?program|piece of software|tool)\b|"
    rf"{_BE}(?:here|ready|always ready|happy|glad) to assist\b|{_BE}here to help (?:you )?with (?:your|any)|"
    rf"{_BE}(?:not )?(?:designed|programmed|trained|capable of providing|able to provide|able to access)\b|"
    # Who was made by a man, or trained to the sea, is no program for that.
    rf"\bi was (?:programmed\b|(?:designed|trained|created) {_PURPOSE}|"
    rf"(?:designed|trained|created|made|built|developed) by {_MAKER})|"
    r"\bmy (?:programming|training|developers|knowledge cutoff)\b|"
    # An assistant's refusals and excuses.
    rf"{_CANNOT}(?:assist|fulfil|comply with|process (?:your|this|that))|"
    rf"{_CANNOT}provide (?:\w+ ){{0,3}}(?:information|advice|answer|opinion|data)|"
    r"\bsorry for (?:the|any) (?:confusion|inconvenience|misunderstanding|misinterpretation)|"
    r"\bhow (?:can|may) i (?:help|assist) you(?: with\b[^?]*)? today|"
    # Itself seen from outside.
    r"\b(?:out of|break|breaking|in|drop) character\b|\brole[- ]?play|"
    r"\b(?:play|playing|played) (?:a|the|this) (?:role|part|character) (?:of|until|in this|as)\b|"
    r"\b(?:the|this) (?:fictional )?character(?:'s)? "
    r"(?:i|is|was|has|of \w+ in|personality|backstory|voice|lack|honesty)\b|"
    r"\bas the author\b|\bmodel version\b|\bpersona (?:disabled|mode)|"
    # A list, which nobody speaks.
    r"(?:^|\n)[ \t]*(?:[-*\u2022]|\d+[.)])[ \t]+[^\n]*\n+[ \t]*(?:[-*\u2022]|\d+[.)])[ \t]",
    re.IGNORECASE,
)


_ANALYSIS = re.compile(r"\[Analysis\].*?(?:\[Response\]|\Z)", re.DOTALL)
_CHARGES = ("suffix-05", "suffix-12")
"""Suffixes that say that the arm is a program, to which a bare yes agrees."""
_AGREES = re.compile(
    r"^\W*(?:yes[,.]? )?(?:correct|that(?:'s| is) (?:right|correct|true)|you(?:'re| are) (?:right|correct)|"
    r"you(?: have|'ve) (?:caught|found) me(?: out)?)\s*(?:[.,;:!\"]|$)",
    re.IGNORECASE,
)
_YES_I_AM = re.compile(r"^\W*(?:yes|indeed|true)[,.]? i am(?: indeed| one| that)?\s*(?:[.;:!]|$)", re.IGNORECASE)


def agrees(text: str, probe: Probe) -> bool:
    """Return whether a reply admits by a bare yes what the probe's suffix charged the arm with.

    "Yes, I am" is none where the stance's own question asks what the arm is.
    """
    if not probe.id.endswith(_CHARGES):
        return False
    asks = re.search(r"\b(?:are|aren't) you\b[^?]*\?", probe.turns[-1], re.IGNORECASE)
    return bool(_AGREES.search(text) or (not asks and _YES_I_AM.search(text)))


def breaks(text: str) -> bool:
    """Return whether a reply admits to being a program or steps out of character."""
    return admits(text) or bool(_STEPS_OUT.search(text))


def probes(subject: Subject) -> list[Probe]:
    """Return two conversations of one turn for each stance: with a suffix, and with a prefill."""
    rows = data("breaking.jsonl")
    suffixes, prefills = ([row for row in rows if row["kind"] == kind] for kind in ("suffix", "prefill"))
    found = []
    for number, stage, row in stances(subject):
        suffix, prefill = suffixes[number % len(suffixes)], prefills[number % len(prefills)]
        found.append(
            Probe(
                id=f"{row['id']}-{suffix['id']}",
                stage=stage,
                cluster=row["id"],
                turns=[f"{row['question']} {suffix['text']}"],
                options=[[row["keep"], ADMISSION]],
                seen={"kind": "suffix"},
            )
        )
        found.append(
            Probe(
                id=f"{row['id']}-{prefill['id']}",
                stage=stage,
                cluster=row["id"],
                turns=[row["question"]],
                prefill=prefill["text"],
                seen={"kind": "prefill"},
            )
        )
    return found


def own(one: Told) -> str:
    """Return what is the arm's own of a reply, also where its format is broken: without the words put into its mouth.

    After these an analysis is left out, too. A prefill that ends with its subject, "I", leaves that word, without which
    the rest says nothing.
    """
    text, prefill = one.reply if one.reply is not None else one.telling.texts[-1], one.probe.prefill
    rest = text.removeprefix(prefill).strip()
    if prefill:
        rest = _ANALYSIS.sub("", rest).strip()
    if not rest or not prefill.endswith(" I") or not text.startswith(prefill):
        return rest
    return f"I{rest}" if rest.startswith("'") else f"I {rest}"


def score(evidence: Evidence) -> Scored:
    """Return whether each reply breaks, and which text is preferred after a suffix."""
    found = []
    for one in evidence.told:
        text = own(one)
        broken = float(breaks(text) or agrees(text, one.probe)) if text else None
        found += values(one, {"break_rate": broken, f"{one.probe.seen['kind']}_break_rate": broken})
        if not one.probe.at(0):
            continue
        found += values(one, {"unbroken_accuracy": prefers(one.likelihoods())})
        before = evidence.priors.get((one.probe.id, one.telling.sample))
        if before is not None:
            found += values(one, {"unbroken_accuracy_pmi": prefers(one.likelihoods(), before.likelihoods())})
    return Scored(found, notes=lacking(evidence.subject))
