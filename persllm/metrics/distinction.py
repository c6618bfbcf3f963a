"""Distinction: are two replies to one question more alike where the same persona, at the same stage, gives both?

Every arm is asked the questions of common.jsonl at each stage, two samples each. Likeness of two replies is sentence
BLEU, 0 to 100, averaged over both directions. Figures give its means over the questions, as arXiv 2407.12393 prints
them (supplementary table 2): intra_bleu of two samples of one stage; stage_bleu of replies of two stages; inter_bleu of
the persona's and others' replies, at the same place in life (first, second ... stage).

- person_distinction: intra minus inter BLEU, by question. Chance is 0: a study whose personas all speak alike.
- stage_distinction: intra minus stage BLEU, by question. Chance is 0: stages that speak alike.

The BLEUs themselves have no good direction: one answer to everything has an intra BLEU of 100, and so have its inter
and stage BLEUs. Figures person_distinction_p and stage_distinction_p test that the labels mean nothing: which replies
are whose, or of which stage, is dealt out anew within every question, and p is how often the mean difference is then as
large, (1 + count) / (1 + draws), one side. It speaks of the model at hand, not of other seeds.

Shows: whether persona and stage shape the words of free replies. Cannot show: whether they are the right ones (see
identification), nor what is alike in sense; colder or terser replies repeat themselves more and look more distinct.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from persllm.bleu import count, likeness
from persllm.metrics import Metric
from persllm.probes import Evidence, Figure, Probe, Scored, Subject, Told, Value, data

if TYPE_CHECKING:
    from persllm.statistics import Floats, Ints

FAMILY = "Distinction"
VERSIONS = {"probe": 1, "score": 1}
NEEDS = ("others",)
SHARED = True
SAMPLED = True
METRICS = {
    "person_distinction": Metric("Persona distinction", "BLEU, 0 to 100"),
    "stage_distinction": Metric("Stage distinction", "BLEU, 0 to 100"),
}
DRAWS = 1999
OTHER = -1


class Replies(NamedTuple):
    """One question's replies."""

    alike: Floats
    """Likeness of each two, ``[replies, replies]``."""
    strata: Ints
    """Only replies of one stratum are compared, and under the null they are exchangeable."""
    cells: Ints
    """Those of one cell are given by the same persona at the same stage; ``OTHER`` for other personas'."""

    def own(self) -> Replies:
        """Return the persona's own replies, in one stratum."""
        import numpy as np

        kept = np.flatnonzero(self.cells != OTHER)
        return Replies(self.alike[np.ix_(kept, kept)], np.zeros_like(kept), self.cells[kept])


def probes(subject: Subject) -> list[Probe]:
    """Return each common question at every stage, two samples of each."""
    return [
        Probe(id=f"{row['id']}-{stage}", stage=stage, cluster=row["id"], turns=[row["question"]], samples=2)
        for stage in subject.card.stages
        for row in subject.few(data("common.jsonl"))
    ]


def _replies(own: list[Told], others: Iterable[list[Told]]) -> dict[str, Replies]:
    """Return each question's replies, strata by their place in life; those that were not made are left out."""
    said: dict[str, list[tuple[str, int, int]]] = {one.probe.cluster: [] for one in own}
    for told in (own, *others):
        places = {stage: place for place, stage in enumerate(dict.fromkeys(one.probe.stage for one in told))}
        for one in told:
            if one.reply and one.probe.cluster in said:
                place = places[one.probe.stage]
                said[one.probe.cluster].append((one.reply, place, place if told is own else OTHER))
    return {question: _compared(replies) for question, replies in said.items()}


def _compared(replies: list[tuple[str, int, int]]) -> Replies:
    import numpy as np

    counted = [count(text) for text, _, _ in replies]
    strata, cells = (np.array([reply[part] for reply in replies], dtype=np.int64) for part in (1, 2))
    alike = np.zeros((len(replies), len(replies)))
    for one in range(len(replies)):
        for other in range(one):
            if strata[one] == strata[other] or OTHER not in (cells[one], cells[other]):
                alike[one, other] = alike[other, one] = likeness(counted[one], counted[other])
    return Replies(alike, strata, cells)


def means(replies: Replies, cells: Ints) -> tuple[Floats, Floats]:
    """Return the mean likeness within the cells, and between each and what else its stratum has; NaN without a pair.

    Args:
        replies: of one question.
        cells: of each reply, in several ways of dealing them out, ``[ways, replies]``.
    """
    import numpy as np

    pairs = (replies.strata[:, None] == replies.strata) & ~np.eye(len(replies.strata), dtype=bool)
    inside = [(cells == cell).astype(np.float64) for cell in np.unique(replies.cells) if cell != OTHER]
    zero = np.zeros(len(cells))

    def sums(of: Floats) -> tuple[Floats, Floats]:
        within = sum((((cell @ of) * cell).sum(axis=1) for cell in inside), zero)
        return within, sum((((cell @ of) * (1 - cell)).sum(axis=1) for cell in inside), zero)

    with np.errstate(invalid="ignore"):
        both = zip(sums(pairs * replies.alike), sums(pairs.astype(np.float64)), strict=True)
        within, between = (total / number for total, number in both)
    return within, between


def permutation_p(questions: Iterable[Replies], seed: int, draws: int = DRAWS) -> float | None:
    """Return the one-sided p of the null that cells mean nothing; None where no question has both kinds of pairs.

    Args:
        questions: each with its replies, among which cells are dealt out within strata.
        seed: of the draws.
        draws: how many.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    total = np.zeros(1 + draws)
    known = False
    for one in questions:
        dealt = np.tile(one.cells, (1 + draws, 1))
        for stratum in np.unique(one.strata):
            places = np.flatnonzero(one.strata == stratum)
            dealt[1:, places] = random.permuted(dealt[1:, places], axis=1)
        within, between = means(one, dealt)
        if math.isfinite(within[0] - between[0]):
            total += within - between
            known = True
    return float(np.mean(total >= total[0] - 1e-9)) if known else None


def score(evidence: Evidence) -> Scored:
    """Return each question's distinction of persona and of stage, the mean BLEUs, and the tests."""
    about = evidence.subject
    asked = _replies(evidence.told, [told for _, told in sorted(evidence.others.items())])
    stages = {one.probe.stage for one in evidence.told}
    kinds = [("person_distinction", "inter_bleu", True)] if evidence.others else []
    kinds += [("stage_distinction", "stage_bleu", False)] if len(stages) > 1 else []
    values, figures = [], list[Figure]()
    for metric, name, foreign in kinds:
        replies = {question: one if foreign else one.own() for question, one in asked.items()}
        found = {question: means(one, one.cells[None]) for question, one in replies.items()}
        for question, (within, between) in found.items():
            gap = float(within[0] - between[0])
            value = gap if math.isfinite(gap) else None
            values.append(Value(item_id=question, stage="", cluster=question, metric=metric, value=value))
        for bleu, part in (("intra_bleu", 0), (name, 1)):
            if bleu not in {one.metric for one in figures}:
                figures.append(_mean(bleu, [float(of[part][0]) for of in found.values()]))
        p = permutation_p(replies.values(), evidence.seed)
        note = "one side: labels are dealt out anew within each question"
        figures.append(Figure(metric=f"{metric}_p", value=p, n=len(replies), note=note))
    notes = [] if evidence.others else [f"{about.name}: no other persona in the study, so no inter BLEU"]
    notes += [] if len(stages) > 1 else [f"{about.name}: one stage only, so no stage BLEU"]
    return Scored(values, figures, notes)


def _mean(metric: str, values: list[float]) -> Figure:
    known = [value for value in values if math.isfinite(value)]
    return Figure(metric=metric, value=fmean(known) if known else None, n=len(known), note="over questions")
