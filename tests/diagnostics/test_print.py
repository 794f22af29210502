"""What `print` shows: one readable block, without what is not known, never wider than 100 columns."""

import dataclasses
import importlib
import inspect

import pytest
import torch

import sharpmin as sm
from sharpmin.diagnostics import Diagnosis, JsonLines, Log, Numbers, RhoRange, State, Window
from sharpmin.diagnostics._rho.point import RhoPoint
from sharpmin.diagnostics._rho.rules import Claims
from sharpmin.diagnostics._run.explain import words
from sharpmin.diagnostics._run.stretch import Block
from sharpmin.diagnostics._run.verdict import decide

PARTS = [Block(50.0, 6.0, 100.0, 0.1, {"loss": loss, "norm_g": 2.0}, {"g": torch.zeros(256)}) for loss in (0.5, 0.25)]
WINDOW = Window({"base": "SGD"}, PARTS, 100, 299, 0.1, 0.01, start=2.0, remarks=["the last 2 of 3 blocks are used"])
NUMBERS = Numbers(
    0.04, 0.25, (0.125, 0.375), 0.01, (0.005, 0.015), 0.008, 0.012, 0.002, 0.001, 0.011, (0.006, 0.016), 38, 0.5, 0.75, None,
    3.0, 4.0, None, None, 0.25, 2.0,
)  # fmt: skip
SAID = ("word " * 30 + "end.", "Do this.")


def test_window():
    assert str(WINDOW) == (
        "window of 2 blocks: steps 100 to 299\n"
        "  base        SGD\n"
        "  rho         0.1\n"
        "  lr          0.01\n"
        "  SAM steps   50%    of the steps\n"
        "  loss        0.375  mean at w\n"
        "  first loss  2      mean of the first block of the run\n"
        "  ||g||       2      mean norm of the gradient at w\n"
        "  horizon     38     steps that predictions reach\n"
        "  Note: the last 2 of 3 blocks are used."
    )
    assert "tensor" not in repr(WINDOW)


def test_diagnosis():
    found = Diagnosis(State.HOLDS, SAID, NUMBERS, WINDOW, None, ["nothing is claimed of accuracy"])
    assert str(found) == (
        "rho holds the loss up, a clear effect.\n"
        + " ".join(["word"] * 20)
        + "\n"
        + " ".join(["word"] * 10)
        + " end.\n"
        + "Do this.\n"
        + "Numbers:\n"
        + "  window     steps 100 to 299  in 2 blocks; rho 0.1, lr 0.01\n"
        + "  loss       0.25              mean of the newest block\n"
        + "  fall       0.011             predicted within 38 steps of rho = 0; negative: a rise\n"
        + "  cancelled  25.0%             of the mean gradient, by SAM\n"
        + "  Note: nothing is claimed of accuracy."
    )


@pytest.mark.parametrize(("loss", "start", "said"), [(2.3, 2.31, True), (2.0, 2.31, False), (2.3, None, False)])
def test_an_undecided_run_whose_loss_has_not_fallen_is_told_so(loss, start, said):
    n = dataclasses.replace(NUMBERS, loss=loss, start=start, cancelled=None, cancelled_interval=None, fall=-0.01)
    assert decide(n) is State.UNDECIDED
    first, second = words(State.UNDECIDED, n, None)
    hint = (
        "The loss stays where it began (2.3 now, 2.31 in the first block), so the model learns almost nothing; a rho that is "
        "far too large can be the cause, or the learning rate. "
    )
    assert first.removeprefix(hint * said).startswith("The window does not decide it: the predicted fall")
    assert second.startswith("Run the toggle")


def test_numbers_leave_out_what_is_not_determined():
    lines = str(NUMBERS).splitlines()
    assert lines[:3] == [
        "numbers of a window",
        "  p_value        0.04   of the mean of D, by sign flips",
        "  cancelled      0.25   share of the mean gradient that SAM cancels; 95 %: 0.125 to 0.375",
    ]
    assert [line.split()[0] for line in lines[3:]] == [
        "drop", "lower", "upper", "amplified", "relief", "fall", "horizon", "amplification", "bounce", "curvature",
        "smoothness", "loss", "start",
    ]  # fmt: skip


def test_probe(tmp_path):
    w = torch.nn.Parameter(torch.ones(2))
    opt = sm.SAM(torch.optim.SGD([w], lr=0.1), rho=0.05)
    probe = sm.watch(opt, to=tmp_path / "run.jsonl", block=20)
    assert str(probe) == (
        "probe of a run\n"
        "  base      SGD\n"
        "  seen      0        SAM steps; the next step is 0\n"
        "  blocks    0        in memory, of 20 steps each\n"
        "  sketches  every 8  SAM steps\n"
        f"  writers   1        {JsonLines(tmp_path / 'run.jsonl')!r}"
    )


def test_a_log_with_a_remark():
    log = Log()
    log.add({"kind": "step", "step": 0})
    log.note("here", "a row was left out")
    assert str(log).splitlines()[-1] == "  Note: a row was left out."


def test_a_range_wraps_its_sentences_and_keeps_its_table():
    claims = Claims(0.01, 0.02, 0.05, "the usual one; " + "why " * 40, True, ())
    found = RhoRange((RhoPoint(0.01, (0.5, 0.5)), RhoPoint(0.02, (0.5, 0.75))), (0.5,), 60, claims, 10)
    whole, lines = found.explain().splitlines(), str(found).splitlines()
    assert lines[:4] == whole[:4]
    assert " ".join(lines[4:]) == " ".join(whole[4:])
    assert max(map(len, lines)) <= 100 < max(map(len, whole))


def test_a_report_before_the_first_step_and_of_a_step_that_was_not_taken():
    assert str(sm.StepReport()) == "SAM: no step has been taken"
    skipped = sm.StepReport(rho=0.1, radius=0.1, passes=1, clean_loss=float("nan"), steps=3, climbed=3, total_passes=7)
    assert str(skipped) == (
        "SAM after 3 steps: the base did not step\n"
        "  rho           0.1\n"
        "  radius        0.1  as asked for, not measured\n"
        "  passes        1\n"
        "  clean_loss    nan\n"
        "  climbed       3    of 3 steps\n"
        "  total_passes  7"
    )


@pytest.mark.parametrize(
    "cls",
    sorted(
        {
            found
            for name in (
                "sharpmin",
                "sharpmin.optim",
                "sharpmin.diagnostics",
                "sharpmin.runs",
                "sharpmin.rho",
                "sharpmin.study",
            )
            for found in vars(importlib.import_module(name)).values()
            if inspect.isclass(found) and found.__module__.startswith("sharpmin") and not inspect.isabstract(found)
        },
        key=lambda cls: cls.__qualname__,
    ),
    ids=lambda cls: cls.__name__,
)
def test_no_public_object_prints_as_an_address(cls):
    assert (cls.__str__, cls.__repr__) != (object.__str__, object.__repr__)
