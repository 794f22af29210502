"""`sharpmin certify` and the noise of `sharpmin plan` by --residual: the library's numbers, and one line for every error."""

import json
from fractions import Fraction

import pytest

from sharpmin.cli import _certify, main
from sharpmin.theory import certify, plan

GD = ["certify", "gd", "--steps", "2", "--lr", "1/2", "--kappa", "10/3", "--delta", "2"]
LIBRARY = {"steps": 2, "lr": Fraction(1, 2), "kappa": Fraction(10, 3), "delta": Fraction(2)}


def test_json_is_what_the_library_says(capsys):
    assert main([*GD, "--json"]) == 0
    out, err = capsys.readouterr()
    record, own = json.loads(out), certify("gd", **LIBRARY)
    assert err == ""
    assert (record["attained"], record["certified"], record["bound"]) == (own.attained, own.certified, str(own.bound))
    assert (record["lr"], record["kappa"], record["x0"]) == (0.5, 10 / 3, own.x0.tolist())
    assert record["attained"] <= 2 * (1 - 0.5 * 0.3) ** 4 * (1 + 1e-12) <= record["certified"] * (1 + 1e-12)
    assert record["reached"] is True


def test_the_bracket_in_words(capsys):
    assert main(GD) == 0
    text, own = capsys.readouterr().out, certify("gd", **LIBRARY)
    assert text.splitlines()[0] == "gd, 2 steps, lr 0.5, kappa 3.33333, beta 1, delta 2"
    assert f"at least  {own.attained:.7g}, attained by a function of {own.x0.size} variable" in text
    assert f"at most   {own.certified:.7g}, proved in rational arithmetic" in text
    assert "; the tolerance is not reached" not in text


def test_what_is_not_proved_is_said_to_be(capsys):
    arguments = ["certify", "sam", "--steps", "2", "--lr", "0.9", "--rho", "2", "--kappa", "10", "--cells", "1"]
    assert main(arguments) == 0
    assert "; the tolerance is not reached" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["reached"] is False
    assert record["certified"] is None or record["certified"] > record["attained"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adam", "--steps", "1", "--lr", "1", "--kappa", "3"], "method='adam' must be one of gd, usam, sam"),
        (["sam", "--steps", "4", "--lr", "1", "--kappa", "3", "--rho", "1"], "--steps 4; for sam at most 3"),
        (["sam", "--steps", "1", "--lr", "1", "--kappa", "3"], "sam needs rho"),
        (["gd", "--steps", "1", "--lr", "a", "--kappa", "3"], "--lr 'a' must be a number; for example: --lr 0.9, or --lr 10/3"),
        (["gd", "--steps", "1", "--lr", "1", "--kappa", "1/0"], "--kappa '1/0' must be a number"),
        (["gd", "--steps", "1", "--lr", "3", "--kappa", "3"], "--lr 3 must be below 2/beta=2"),
        (["gd", "--steps", "1"], "--lr is missing; needed: METHOD, --steps, --lr, --kappa"),
    ],
)
def test_bad_use_is_one_line(arguments, message, capsys):
    assert main(["certify", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("sharpmin: certify: ")
    assert message in err
    assert "; for example: " in err


def test_the_methods_are_those_of_the_library():
    from sharpmin.theory._certify.certify import LIMITS

    assert list(_certify.METHODS) == list(LIMITS)


PLAN = ["plan", "--beta", "1", "--mu", "0.1", "--rho", "0.05", "--steps", "1000", "--delta", "1", "--json"]


def test_the_noise_by_its_residual(capsys):
    assert main([*PLAN, "--residual", "0.5,1,0.01", "--radius", "unnormalized"]) == 0
    own = plan(
        setting="strongly-convex", oracle="m-sam", radius="unnormalized", beta=1.0, mu=0.1, rho=0.05, steps=1000, delta=1.0,
        residual=(0.5, 1.0, 0.01),
    )  # fmt: skip
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(own.record()))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--residual", "1,2"], "--residual '1,2' must be 3 numbers with commas; for example: --residual 0,1,0.01"),
        (["--residual", "a,b,c"], "--residual 'a,b,c' must be 3 numbers"),
        (["--residual", "0,1,1", "--sigma", "1"], "--sigma 1 and --residual (0.0, 1.0, 1.0) both say"),
    ],
)
def test_a_residual_that_is_none(more, message, capsys):
    assert main([*PLAN, *more]) == 2
    assert message in capsys.readouterr().err
