"""The study's answer in words, computed from its contrasts. Arm names stand in backticks."""

from __future__ import annotations

from dataclasses import dataclass

from persllm.reporting import direction, interval, p_text, short, title, unit
from persllm.reporting.data import Contrast, Study
from persllm.steps.compare import lower_is_better


@dataclass(frozen=True)
class Headline:
    """A lead of one or two sentences, then what is behind it."""

    lead: str
    points: list[str]


def ranked(study: Study, metric: str, tuned: bool | None = None) -> list[str]:
    """Return arms from best to worst mean, those without a value left out; ``tuned`` keeps one kind."""
    means = {
        arm: study.table[arm, metric]["mean"]
        for arm in study.arms
        if tuned is None or study.arms[arm].tuned == tuned
        if study.table[arm, metric]["mean"] is not None
    }
    return sorted(means, key=means.__getitem__, reverse=not lower_is_better(metric))


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _numbers(row: Contrast) -> str:
    return f"{short(row.difference, True)} {interval(row.low, row.high, True)}, adjusted p {p_text(row.p_adjusted)}"


def _undecided(row: Contrast, power: float) -> str:
    """Say what a contrast without a verdict means: what it saw, and what it could have seen."""
    text = f"{_numbers(row)}; smallest difference detectable at {power:.0%} power: {short(row.detectable)}"
    return text + f", {row.n_items} items"


def _duels(study: Study, arm: str, metric: str) -> list[Contrast]:
    """Return one arm's contrasts with every prompted arm, the strongest of them first."""
    rows = [study.find(arm, other, metric) for other in ranked(study, metric, tuned=False)]
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
    lead += f", ahead of `{everyone[1]}` with {short(study.table[everyone[1], metric]['mean'])}." if everyone[1:] else "."
    tuned = ranked(study, metric, tuned=True)
    if not tuned or not ranked(study, metric, tuned=False):
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


def headline(study: Study) -> Headline:
    """Return the lead and its points: the primary metric's duels, then every other metric's outcome."""
    points: list[str] = []
    power = float(study.settings["power"])
    tuned = ranked(study, study.primary, tuned=True)
    for row in _duels(study, tuned[0], study.primary) if tuned else []:
        text = _undecided(row, power) if row.verdict == "not told apart" else _numbers(row)
        points.append(f"{title(study.primary)}, `{row.arm}` against `{row.baseline}`: {row.verdict} ({text}).")
    if not tuned:
        return Headline(_lead(study), points)
    wins, losses, open_ = [], [], []
    for metric in study.metrics:
        duels = _duels(study, tuned[0], metric) if metric != study.primary else []
        if not duels:
            continue
        worst = [row for row in duels if row.verdict == "worse"]
        undecided = [row for row in duels if row.verdict == "not told apart"]
        if worst:
            losses.append(f"{title(metric)} (`{worst[0].baseline}`: {_numbers(worst[0].flipped())})")
        elif undecided:
            open_.append(f"{title(metric)} (against `{undecided[0].baseline}`: {_undecided(undecided[0], power)})")
        else:
            wins.append(f"{title(metric)} (closest `{duels[0].baseline}`: {_numbers(duels[0])})")
    for words, found in (
        (f"`{tuned[0]}` also beats every prompted arm on", wins),
        (f"A prompted arm beats `{tuned[0]}` on", losses),
        (f"`{tuned[0]}` and its strongest prompted rivals cannot be told apart on", open_),
    ):
        if found:
            points.append(f"{words} {len(found)} other metric{'s' if len(found) > 1 else ''}: {'; '.join(found)}.")
    return Headline(_lead(study), points)
