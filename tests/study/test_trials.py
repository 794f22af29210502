"""Fair by rule: equal trials for all, seeds and samples of their own, the best on validation, then the same seeds for all."""

import pytest

from sharpmin.study import CLEAN, METHODS, NOISY, SETTINGS, chosen, judged, setting, table, trials
from sharpmin.study._trials import TUNING

from .conftest import made_up


@pytest.mark.parametrize("data", SETTINGS)
def test_every_method_has_the_same_number_of_trials(data):
    wanted = trials(data)
    assert len(set(wanted)) == len(wanted)
    counts = {}
    for cell in wanted:
        counts.setdefault((cell.method, cell.noise, cell.seed), set()).add((cell.lr, cell.rho))
    names = [name for name, m in METHODS.items() if m.available(setting(data))]
    assert set(counts) == {(name, noise, seed) for name in names for noise in setting(data).noises for seed in TUNING}
    assert {len(found) for found in counts.values()} == {12}
    assert all((cell.rho == 0) == (METHODS[cell.method].scale == 0) for cell in wanted)


def test_the_learning_rates_of_the_base_reach_beyond_those_of_sam():
    lrs = {name: {c.lr for c in trials("digits") if c.method == name} for name in METHODS}
    assert min(lrs["base"]) < min(lrs["sam"]) < max(lrs["sam"]) < max(lrs["base"])
    assert {frozenset(v) for name, v in lrs.items() if METHODS[name].scale and v} == {frozenset(lrs["sam"])}


@pytest.mark.parametrize("best", [0, 5, 11])
def test_the_best_on_validation_is_chosen_and_judged_by_all_seeds(best):
    rows = made_up(4, best=best)
    s = setting("digits")
    for noise in (CLEAN, NOISY):
        for name in METHODS.keys() - {"norms"}:
            assert chosen(rows, name, noise) == list(METHODS[name].trials(s))[best]
    final = judged(rows, "digits", 4)
    assert [cell.seed for cell in final] == sorted(cell.seed for cell in final)
    assert {c.seed for c in final} == {0, 1, 2, 3}
    assert not {c.seed for c in final} & set(TUNING)
    assert {(c.lr, c.rho) for c in final if c.method == "sam"} == {list(METHODS["sam"].trials(s))[best]}
    assert len(final) == len({(line.method, line.noise) for line in table(rows)}) * 4


def test_the_test_samples_have_no_say():
    """Validation decides, however good another trial is on the samples that judge."""
    best = {"validation": [0.5] * 11 + [0.6], "accuracy": [1.0] * 11 + [0.1]}
    rows = made_up(**{"sam 0.0 trials": best})
    assert chosen(rows, "sam", CLEAN) == list(METHODS["sam"].trials(setting("digits")))[11]


def test_it_is_the_mean_over_the_seeds_of_the_trials_that_counts_and_of_equals_the_smaller_rho():
    rows = made_up(**{"sam 0.0 trials": {"validation": 0.5}})
    assert chosen(rows, "sam", CLEAN) == min(METHODS["sam"].trials(setting("digits")), key=lambda k: (k[1], k[0]))
    grid = list(METHODS["sam"].trials(setting("digits")))
    scores = {(TUNING[0], grid[3]): 0.9, (TUNING[1], grid[3]): 0.5, (TUNING[0], grid[7]): 0.75, (TUNING[1], grid[7]): 0.75}
    for cell in [c for c in rows if c.method == "sam" and c.noise == CLEAN and c.seed in TUNING]:
        rows[cell] = rows[cell] | {"validation": scores.get((cell.seed, (cell.lr, cell.rho)), 0.5)}
    assert chosen(rows, "sam", CLEAN) == grid[7]
