"""The study's answer in words, computed from its contrasts. Arm names stand in backticks."""

from __future__ import annotations

from dataclasses import dataclass

from persllm.metrics import has_direction, lower_is_better
from persllm.reporting import direction, interval, p_text, short, title, unit
from persllm.reporting.data import Contrast, Study

FEW = 12
"""So many metrics are named in a sentence, at most."""


@dataclass(frozen=True)
class Outcome:
    """How the best tuned arm fares on one metric against the prompted arm that matters most for the verdict."""

    metric: str
    verdict: str
    """``tuned wins`` (against every prompted arm), ``prompted wins`` (at least one does) or ``not told apart``."""
    duel: Contrast


@dataclass(frozen=True)
class Headline:
    """A lead of two sentences or so, one sentence for each kind of verdict, and the outcomes behind them."""

    lead: str
    points: list[str]
    tuned: str | None
    """The tuned arm with the best primary metric, or None."""
    outcomes: list[Outcome]


def ranked(study: Study, metric: str, kind: str = "") -> list[str]:
    """Return arms from best to worst mean, those without a value left out; ``kind`` keeps one kind."""
    means = {
        arm: study.table[arm, metric]["mean"]
        for arm in study.arms
        if kind in ("", study.arms[arm].kind)
        if study.table[arm, metric]["mean"] is not None
    }
    return sorted(means, key=means.__getitem__, reverse=not lower_is_better(metric))


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _numbers(row: Contrast) -> str:
    size = f"{short(row.difference, True)} {interval(row.low, row.high, True)}"
    return f"{size}, adjusted p\u00a0{p_text(row.p_adjusted)}"


def _duels(study: Study, arm: str, metric: str) -> list[Contrast]:
    """Return one arm's contrasts with every prompted arm, the strongest of them first."""
    rows = [study.find(arm, other, metric) for other in ranked(study, metric, "prompted")]
    return [row for row in rows if row is not None and row.difference is not None]


def _lead(study: Study) -> str:
    metric, everyone = study.primary, ranked(study, study.primary)
    if not everyone:
        return f"No arm has a value of {title(metric)}, the primary metric: nothing can be said."
    row = study.table[everyone[0], metric]
    measure = f"{unit(metric)}, {direction(metric)}" if unit(metric) else direction(metric)
    lead = (
        f"On {title(metric)} ({measure}) the best arm is `{everyone[0]}` with {short(row['mean'])} "
        f"{interval(row['low'], row['high'])}"
    )
    if everyone[1:]:
        lead += f", ahead of `{everyone[1]}` with {short(study.table[everyone[1], metric]['mean'])}"
    lead += "."
    tuned = ranked(study, metric, "tuned")
    if not tuned or not ranked(study, metric, "prompted"):
        return lead + " This study has only one kind of arm, so it cannot tell tuning from prompting."
    return lead + " " + _second(tuned[0], _duels(study, tuned[0], metric))


def _second(best: str, duels: list[Contrast]) -> str:
    if not duels:
        return f"The best tuned arm, `{best}`, shares no scored item with a prompted arm."
    won = [row.baseline for row in duels if row.verdict == "better"]
    lost = [row.baseline for row in duels if row.verdict == "worse"]
    if len(won) == len(duels):
        count = f"all {len(duels)} prompted arms" if len(duels) > 1 else "the one prompted arm"
        return f"The best tuned arm, `{best}`, beats {count}; the closest is `{won[0]}` ({_numbers(duels[0])})."
    parts = [f"beats {_names(won)}"] if won else []
    parts += [f"loses to {_names(lost)}"] if lost else []
    rest = [row.baseline for row in duels if row.verdict == "not told apart"]
    parts += [f"cannot be told apart from {_names(rest)}"] if rest else []
    return f"The best tuned arm, `{best}`, does not beat every prompted arm: it {'; it '.join(parts)}."


def _outcome(study: Study, arm: str, metric: str) -> Outcome | None:
    """Return one metric's outcome, or None where no prompted arm shares a scored item."""
    duels = _duels(study, arm, metric)
    for verdict, words in (("worse", "prompted wins"), ("not told apart", "not told apart"), ("better", "tuned wins")):
        found = [row for row in duels if row.verdict == verdict]
        if found:
            return Outcome(metric, words, found[0])
    return None


def headline(study: Study) -> Headline:
    """Return the study's answer: the primary metric's duel in words, then where each side wins."""
    tuned = next(iter(ranked(study, study.primary, "tuned")), None)
    found = [_outcome(study, tuned, metric) for metric in study.metrics if has_direction(metric)] if tuned else []
    outcomes = [outcome for outcome in found if outcome is not None]
    points = []
    for verdict, words in (
        ("tuned wins", f"`{tuned}` beats every prompted arm on"),
        ("prompted wins", f"A prompted arm beats `{tuned}` on"),
        ("not told apart", f"`{tuned}` and a prompted arm cannot be told apart on"),
    ):
        notes = [
            title(o.metric) + (f" (`{o.duel.baseline}`)" if verdict == "prompted wins" else "")
            for o in outcomes
            if o.verdict == verdict and study.heads(o.metric)
        ]
        if notes and verdict == "not told apart" and len(notes) > FEW:
            count = sum(study.heads(o.metric) for o in outcomes)
            points.append(f"{words} {len(notes)} of {count} metrics; what each would have detected is in the table.")
        elif notes:
            points.append(f"{words} {', '.join(notes)}.")
    points += [point for other in ranked(study, study.primary, "tuned")[1:] for point in _beside(study, other)]
    return Headline(_lead(study), points, tuned, outcomes)


def _beside(study: Study, arm: str) -> list[str]:
    """Return where a tuned arm that is not the best one is told apart from the prompted arms."""
    counted = [metric for metric in study.metrics if has_direction(metric) and study.heads(metric)]
    outcomes = [outcome for metric in counted if (outcome := _outcome(study, arm, metric)) is not None]
    won = [title(o.metric) for o in outcomes if o.verdict == "tuned wins"]
    lost = [f"{title(o.metric)} (`{o.duel.baseline}`)" for o in outcomes if o.verdict == "prompted wins"]
    points = [f"`{arm}` beats every prompted arm on {', '.join(won)}."] if won else []
    return points + ([f"A prompted arm beats `{arm}` on {', '.join(lost)}."] if lost else [])
