"""Which units meet in which step, and the learning rate of each."""

import collections
import itertools
import random

import pytest

from persllm.geometry import Geometry, cut
from persllm.training.module import learning_rate_factor
from persllm.training.schedule import Loader, make_schedule

LENGTHS = [random.Random(7).randrange(5, 90) for _ in range(45)]


def counts(schedule):
    return collections.Counter(unit for step in schedule.steps for micro in step for unit in micro)


def test_a_pure_function_of_its_seed():
    one = make_schedule(LENGTHS, 8, 4, 3, seed=1)
    assert one == make_schedule(LENGTHS, 8, 4, 3, seed=1)
    assert one != make_schedule(LENGTHS, 8, 4, 3, seed=2)


@pytest.mark.parametrize(("epochs", "batch_size", "units"), [(1, 8, 45), (3, 8, 45), (2, 15, 45), (1, 16, 5)])
def test_every_unit_once_an_epoch_and_the_repeated_counted(epochs, batch_size, units):
    schedule = make_schedule(LENGTHS[:units], batch_size, 4, epochs, seed=0)
    found = counts(schedule)
    assert set(found) == set(range(units))
    assert min(found.values()) >= epochs
    assert sum(n - epochs for n in found.values()) == schedule.repeated == -(units * epochs) % batch_size
    assert sum(found.values()) == len(schedule.steps) * batch_size


def test_a_long_run_repeats_no_unit_twice():
    assert max(counts(make_schedule(LENGTHS, 8, 4, 3, seed=0)).values()) == 4


@pytest.mark.parametrize(("batch_size", "micro", "accumulation"), [(8, 2, 4), (8, 8, 1), (6, 3, 2)])
def test_micro_batches_are_equal_and_fill_a_step(batch_size, micro, accumulation):
    schedule = make_schedule(LENGTHS, batch_size, micro, 2, seed=0)
    assert {len(found) for step in schedule.steps for found in step} == {micro}
    assert {len(step) for step in schedule.steps} == {accumulation}


def test_micro_batch_does_not_change_which_units_a_step_holds():
    """So that memory can be saved without another result."""
    whole, parts = (make_schedule(LENGTHS, 8, micro, 2, seed=0) for micro in (8, 2))
    assert [step[0] for step in whole.steps] == [list(itertools.chain(*step)) for step in parts.steps]


def test_a_step_is_sorted_by_length():
    for step in make_schedule(LENGTHS, 8, 2, 2, seed=0).steps:
        lengths = [LENGTHS[unit] for micro in step for unit in micro]
        assert lengths == sorted(lengths)


@pytest.mark.parametrize("first", [0, 1, 5])
def test_loader_goes_on_from_a_step(first):
    schedule = make_schedule(LENGTHS, 8, 4, 1, seed=0)

    def loader(step):
        return Loader(schedule, lambda units, step: (units, step), first_step=step)

    whole = list(loader(0))
    assert [units for units, _ in whole] == [micro for step in schedule.steps for micro in step]
    assert all(units in step for units, step in whole)
    assert list(loader(first)) == whole[2 * first :]
    assert len(loader(first)) == len(whole) - 2 * first


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_a_step_and_meet_like_lengths(ranks):
    schedule = make_schedule(LENGTHS, 8, 1, 1, seed=0)
    shares = [list(Loader(schedule, lambda units, step: units, rank, ranks)) for rank in range(ranks)]
    assert {len(share) for share in shares} == {len(schedule.steps) * 8 // ranks}
    dealt = list(itertools.chain(*zip(*shares, strict=True)))
    assert dealt == [micro for step in schedule.steps for micro in step]


def test_a_batch_that_cannot_be_cut_says_what_could():
    strategy = {"devices": 2, "nodes": 2, "micro_batch": 8}
    assert cut(strategy, 16, "sft") == Geometry(4, 4, 1)
    assert cut(strategy | {"micro_batch": 2}, 16, "sft") == Geometry(4, 2, 2)
    assert cut(strategy | {"micro_batch": 4}, 16, "dpo") == Geometry(4, 2, 2)
    with pytest.raises(ValueError, match="a multiple of 4, the ranks"):
        cut(strategy, 18, "sft")
    with pytest.raises(ValueError, match=r"a multiple of 32, as strategy.micro_batch is 8 on each of 4 ranks"):
        cut(strategy, 48, "sft")


def test_learning_rate_warms_up_and_falls_to_a_tenth():
    rates = [learning_rate_factor(step, 40, 0.1) for step in range(40)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert learning_rate_factor(40, 40, 0.1) == pytest.approx(0.1)
    assert learning_rate_factor(0, 1, 0.0) == 1.0
