"""The published distinction table, computed again: averages and exact sign-flip p-values over the six characters.

BLEU on a scale of 100 (PersLLM, arXiv 2407.12393, supplementary table 2): two samples of one character and stage
(intra), of two stages (stage), and against the other five characters (inter); * with automatic preference tuning.
"""

from __future__ import annotations

import numpy as np
import pytest

from persllm import statistics

COLUMNS = ("intra", "intra*", "stage", "stage*", "inter", "inter*")
TABLE = {
    "Harry": (4.05, 4.44, 3.52, 4.36, 0.60, 0.60),
    "Hermione": (3.10, 4.36, 3.92, 3.46, 0.44, 0.44),
    "Ron": (4.71, 4.60, 4.20, 4.33, 0.52, 0.41),
    "Dumbledore": (4.59, 5.00, 4.33, 4.35, 0.26, 0.24),
    "Voldemort": (3.08, 3.54, 3.17, 2.92, 0.22, 0.17),
    "Petunia": (1.63, 1.20, 1.65, 1.58, 0.21, 0.07),
}
AVERAGES = (3.53, 3.86, 3.46, 3.50, 0.38, 0.33)
BLEU = dict(zip(COLUMNS, np.array(list(TABLE.values())).T, strict=True))
CHARACTERS = np.arange(len(TABLE))


def flip(first: str, second: str) -> tuple[float, float]:
    differences = BLEU[first] - BLEU[second]
    return float(differences.mean()), statistics.sign_flip_p(differences, CHARACTERS, 1, 0)


def test_averages_are_those_of_the_rows_as_far_as_rounding_tells():
    """Entries and averages are rounded by up to 0.005 each. Inter* is printed 0.33 where the rows give 0.32."""
    for column, printed in zip(COLUMNS, AVERAGES, strict=True):
        assert abs(float(BLEU[column].mean()) - printed) <= 0.01 + 1e-9, column
    assert round(float(BLEU["inter*"].mean()), 2) == 0.32


@pytest.mark.parametrize(
    ("column", "difference", "p"), [("inter", -0.053, 0.125), ("intra", 0.33, 0.28125), ("stage", 0.035, 0.84375)]
)
def test_what_preference_tuning_changed(column, difference, p):
    """Each character's difference with and without; all 64 patterns of signs."""
    assert flip(f"{column}*", column) == (pytest.approx(difference, abs=5e-4), pytest.approx(p))


def test_stages_against_two_samples_of_one_stage():
    """Ratios of the averages; the p of 0.16 is that of stage* - intra* (10 of 64 patterns), not of the two ratios."""
    assert BLEU["stage"].mean() / BLEU["intra"].mean() == pytest.approx(0.98, abs=0.005)
    assert BLEU["stage*"].mean() / BLEU["intra*"].mean() == pytest.approx(0.91, abs=0.005)
    assert flip("stage*", "intra*") == (pytest.approx(-0.357, abs=5e-4), pytest.approx(10 / 64))
    assert flip("stage", "intra") == (pytest.approx(-0.062, abs=5e-4), pytest.approx(56 / 64))


def test_that_tuning_moved_the_ratio_of_averages_is_unproven():
    """From 0.98 to 0.91 by swapping labels within characters: 32 of 64 patterns move it as far."""
    arms = [np.array([BLEU[f"stage{mark}"], BLEU[f"intra{mark}"]]) for mark in ("*", "")]
    p = statistics.label_swap_p(*arms, CHARACTERS, lambda means, counts: means[0] / means[1], 1, 0)
    assert p == pytest.approx(0.5)


def test_six_characters_cannot_go_below_p_0_03():
    assert statistics.sign_flip_p(np.ones(6), CHARACTERS, 1, 0) == pytest.approx(2 / 64)
