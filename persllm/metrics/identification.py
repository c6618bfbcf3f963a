"""Who speaks in a reply to a held-out question, and at which stage of life? A classifier tells, names masked.

- person_identified: of all personas, the right one is named, at whatever stage. Chance is 1 in as many as there are.
- stage_identified: of the persona's own stages, the right one is named. Chance is 1 in as many as it has.

The classifier (persllm.voice) learns from speech paragraphs only, never from items or replies, and from none that a
held-out item was written from; of the other personas as large a share is left out, for else it would learn who is rare.
A persona with few paragraphs is named as readily as one with many. The figures person_identified_gold and
stage_identified_gold are the share of recorded answers that are named rightly: no arm that speaks as those do gets
further, and where they are near chance nothing can be read from the replies of that persona.

Shows: voice and matter in the arm's own words, without a judge (after the role identification of arXiv 2401.12474, and
with names masked, which else give the answer). Cannot show: whether what is said is true or answers the question; an
arm whose prompt holds paragraphs can be known by what it copies, and a tuned one was trained on the very paragraphs
that the classifier learns from where its method says ``materials: true``: no held-out ones are among them. A bland
reply is named by accident: over all personas of a study at chance, for a single one not. Read it over several.
"""

import re
from hashlib import sha256

from persllm.metrics import Metric
from persllm.probes import Evidence, Figure, Scored, Value
from persllm.records import Item, Material

FAMILY = "Distinction"
VERSIONS = {"probe": 1, "score": 1}
NEEDS = ("paragraphs", "replies")
METRICS = {
    "person_identified": Metric("Persona identified", "share of items"),
    "stage_identified": Metric("Stage identified", "share of items"),
}
_Label = tuple[str, str]
"""Persona and stage."""


class Namer:
    """Names the persona and the stage of texts.

    Args:
        paragraphs: speech, by persona.
        own: the persona of which held-out paragraphs are gone.
        names: words that are masked besides those that show to be names.
    """

    def __init__(self, paragraphs: dict[str, list[Material]], own: str, names: list[str]) -> None:
        from persllm.voice import Classifier, Masker

        texts = _labelled(paragraphs, own)
        self.masker = Masker([text for _, text in texts], names)
        self.labels = dict.fromkeys(label for label, _ in texts)
        coded = {str(place): label for place, label in enumerate(self.labels)}
        code = {label: place for place, label in coded.items()}
        self.classifier = Classifier.fit([(code[label], self.masker.masked(text)) for label, text in texts])
        self.order = [coded[place] for place in self.classifier.labels]

    def named(self, texts: list[str], among: set[_Label]) -> list[_Label]:
        """Return which of some personas and stages each text is most like."""
        standing = self.classifier.standing([self.masker.masked(text) for text in texts])
        places = [place for place, label in enumerate(self.order) if label in among]
        return [self.order[places[int(row[places].argmax())]] for row in standing]


def _labelled(paragraphs: dict[str, list[Material]], own: str) -> list[tuple[_Label, str]]:
    """Return what is learnt from: all that is left of its own, and as large a share of the others'."""
    share, texts = _held(paragraphs[own]), []
    for persona, materials in sorted(paragraphs.items()):
        for stage in sorted({material.stage for material in materials}):
            some = [material for material in materials if material.stage == stage]
            kept = some if persona == own else _thinned(some, share)
            texts += [((persona, stage), material.text) for material in kept]
    return texts


def _held(paragraphs: list[Material]) -> float:
    """Return which share of a persona's paragraphs is gone, from the gaps in their numbering."""
    whole = sum(
        max(one.order for one in paragraphs if one.stage == stage) for stage in {one.stage for one in paragraphs}
    )
    return 1 - len(paragraphs) / whole


def _thinned(paragraphs: list[Material], share: float) -> list[Material]:
    """Return paragraphs without a share of them (but never without all), always the same."""
    kept = sorted(paragraphs, key=lambda one: sha256(one.id.encode()).digest())
    return kept[: max(1, len(kept) - round(share * len(kept)))]


def _rights(namer: Namer, items: list[Item], texts: list[str | None], own: str) -> dict[str, list[float | None]]:
    """Return by metric whether each text was named rightly; None without a text, or where nothing was learnt."""
    told = [text for text in texts if text]
    stages = {label for label in namer.labels if label[0] == own}
    found: dict[str, list[float | None]] = {}
    for metric, among in (("person_identified", set(namer.labels)), ("stage_identified", stages)):
        if metric == "stage_identified" and len(among) < 2:
            continue
        named = iter(namer.named(told, among))
        found[metric] = []
        for item, text in zip(items, texts, strict=True):
            label = next(named) if text else None
            right = (own, item.stage) if metric == "stage_identified" else (own,)
            learnt = any(other[: len(right)] == right for other in among)
            found[metric].append(float(label[: len(right)] == right) if label and learnt else None)
    return found


def score(evidence: Evidence) -> Scored:
    """Return whose and which stage's each reply is said to be; and the same of the recorded answers."""
    own, items = evidence.subject.name, evidence.subject.items
    speech = {
        persona: [one for one in materials if one.kind == "speech"]
        for persona, materials in evidence.paragraphs.items()
    }
    speech = {persona: paragraphs for persona, paragraphs in speech.items() if paragraphs}
    if own not in speech or len(speech) < 2:
        return Scored([], notes=[f"{own}: no speech paragraphs of it, or of nobody else; nobody was identified"])
    names = [word for word in re.findall(r"\w+", evidence.subject.card.name) if word[0].isupper()]
    namer = Namer(speech, own, names)
    said = {reply.item_id: reply.response for reply in evidence.replies}
    rights = _rights(namer, items, [said.get(item.id) for item in items], own)
    values = [
        Value(item_id=item.id, stage=item.stage, cluster=item.material_id, metric=metric, value=right)
        for metric, of in rights.items()
        for item, right in zip(items, of, strict=True)
    ]
    chance = {"person_identified": len(speech), "stage_identified": sum(label[0] == own for label in namer.labels)}
    figures = []
    for metric, of in _rights(namer, items, [item.response for item in items], own).items():
        known = [right for right in of if right is not None]
        share = sum(known) / len(known) if known else None
        note = f"of the recorded answers, named rightly; chance is 1 in {chance[metric]}"
        figures.append(Figure(metric=f"{metric}_gold", value=share, n=len(known), note=note))
    lacking = [stage for stage in evidence.subject.card.stages if (own, stage) not in namer.labels]
    notes = [f"{own}: no speech paragraphs of {stage} to learn from" for stage in lacking]
    notes += [] if "stage_identified" in rights else [f"{own}: fewer than two stages to tell apart"]
    return Scored(values, figures, notes)
