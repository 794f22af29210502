"""Data sets: the same for every seed but for the labels drawn anew; names that do not exist; the optimum where it is known."""

import pytest
import torch

from sharpmin.core.errors import MissingExtraError
from sharpmin.core.extras import optional
from sharpmin.study import SETTINGS, _data, cells, setting
from sharpmin.study._optimum import optimum


@pytest.mark.parametrize(("name", "sizes"), [("digits", (1347, 450)), ("mnist1d", (4000, 1000)), ("breast-cancer", (426, 143))])
def test_samples_and_label_noise(name, sizes):
    s = setting(name)
    x, y, x_test, y_test = s.samples(0.0, 0)
    assert (len(x), len(y), len(x_test), len(y_test)) == (sizes[0], *sizes[:1], *sizes[1:], *sizes[1:])
    assert s.model()(x[:3]).shape == (3, int(y.max()) + 1)
    noisy, again, other = (s.samples(0.3, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(noisy, again)
    assert not torch.equal(noisy, other)
    classes = int(y.max()) + 1
    wrong = 0.3 * (1 - 1 / classes)
    assert float((noisy != y).double().mean()) == pytest.approx(wrong, abs=4 * (wrong * (1 - wrong) / len(y)) ** 0.5)
    assert torch.equal(s.samples(0.3, 0)[3], y_test)


def test_the_budget_is_even_and_its_parts_are_whole():
    for name in SETTINGS:
        budget = cells(name, 1)[0].budget
        assert budget % 2 == 0
        assert budget == 2 * setting(name).epochs * (len(setting(name).split()[0]) // setting(name).batch)


def test_an_unknown_study_names_the_nearest():
    with pytest.raises(ValueError, match=r"no study 'digit'; did you mean digits\?"):
        setting("digit")
    with pytest.raises(ValueError, match="no study 'x'; there are digits, mnist1d, breast-cancer"):
        cells("x", 1)


def test_a_missing_package_gives_the_pip_line(monkeypatch):
    monkeypatch.setattr(_data, "mnist1d", optional("no_such_mnist1d.data", extra="study"))
    _data._mnist1d.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'sharpmin\[study\]'"):
        cells("mnist1d", 1)


def test_the_optimum_of_the_penalised_loss():
    s = setting("breast-cancer")
    x, y, *_ = s.samples(0.3, 2)
    least = optimum("breast-cancer", 0.3, 2)

    def value(w):
        return torch.nn.functional.cross_entropy(x @ w.view(2, 31).T, y) + s.l2 / 2 * (w**2).sum()

    w = torch.zeros(62, dtype=torch.float64)
    for _ in range(12):  # Newton's method, an oracle of its own
        gradient, hessian = torch.autograd.functional.jacobian(value, w), torch.autograd.functional.hessian(value, w)
        w = w - torch.linalg.solve(hessian, gradient)
    assert gradient.norm() < 1e-12
    assert least == pytest.approx(float(value(w)), abs=1e-12)
    assert optimum("digits", 0.0, 0) == 0.0
