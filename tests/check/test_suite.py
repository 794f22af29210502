"""The suite has teeth: ours passes, a right SAM passes what its doors allow, and each broken one fails just what it should."""

import random
import warnings

import broken_base
import broken_care
import broken_steps
import pytest
import torch
from right_sam import Right, Several, WithModel

import sharpmin as sm
from sharpmin._check._case import Family, family
from sharpmin._check._report import Report
from sharpmin._check._subject import of_class, our_sam
from sharpmin._check._suite import examine, families, run
from sharpmin.optim.variants import variants

QUICK = [name for name in families() if name != "large-tensor"]
SCALING = "loss-scaling"  # a GradScaler allows one unscaling per optimizer and update: neither closure nor two steps fit
GOLDEN = {
    "golden-step": "second pass at (4.5, 3)",
    "float64": "off by 0.6",
    "clipping": "w' = (2.94113, 0.919168)",
    "step-at-w": "w' = (2.52, -0.21)",
    "maximize": "w' = (2.55, -0.2)",
    "one-norm": "second pass at (4.5, 3)",
    "converges-to-the-cycle": "e-11",
    "closure-contract": "w' = (2.55, -0.2)",
    "no-second-gradient": "a' = 2.55",
    "no-first-gradient": "a' = 2.55",
    "fp16-norm": "||e|| = 149990",
    "tiny-gradients": "||e|| = 0",
    "huge-gradients": "||e|| = 1e+25",
    "mixed-dtypes": "at (3, 3, 3, 3)",
    "inf-first-gradient": "the next step goes to",
    "inf-second-gradient": "the next step goes to",
    "copying": "w' = (2.55, -0.2)",
    "add-param-group": "1, 3, -0.2",
    "group-rho": "second pass at (4.5, 1)",
    "tied-weights": "second pass at (4.5, 3)",
    "sparse-embedding": "rows (0, 3.4, 2.55, 9)",
    "script-two-losses": "w' = (2.1, -0.8)",
}
TWO_STEP = {
    broken_steps.Unnormalized: GOLDEN,
    broken_steps.SingleNorm: {"float64": "off by 2e-09"},
    broken_steps.StepsAtPerturbed: {
        "step-at-w": "w' = (2.637, 0.426)",
        "base-step-error": "w is off by 0.4 after the exception",
        "restore-exact": "bfloat16: a relative drift of 5.1e-07",
    },
    broken_steps.IgnoresMaximize: {"maximize": "w' = (2.73, 0.76)"},
    broken_steps.NormPerTensor: {
        "one-norm": "second pass at (3.5, 1.5)",
        "no-second-gradient": "a' = 2.65",
        "mixed-dtypes": "at (2, 2, 2, 2)",
        "add-param-group": "1, 1.5, 0.4",
    },
    broken_steps.LastMicroBatch: {"accumulation": "x' = 0.42"},
    broken_steps.EveryOther: {"converges-to-the-cycle": "|x| = 0.00497238", "script-two-losses": "w' = (1.872, 0.064)"},
    broken_steps.SilentStep: {"bare-step": "no error; w' = (2.7, 0.6)"},
    broken_steps.LeastRho: {
        "rho-zero": "weights differ",
        "group-rho": "second pass at (3.3, 1.0008)",
        "rest-counts": "rho 0: w' = (0.7998, 0.4)",
    },
    broken_steps.EpsInHalf: {"zero-gradient": "float16: second pass at (nan, nan)", "tiny-gradients": "||e|| = 0"},
    broken_steps.BackWithGradient: {"no-second-gradient": "b' = 4.4"},
    broken_steps.KeyedBySecond: {"no-first-gradient": "raised KeyError"},
    broken_steps.StackOfNorms: dict.fromkeys(
        ["rho-zero", "rest-counts", "no-gradient", "no-backward", "missing-first"], "raised RuntimeError: stack"
    ),
    broken_steps.NeverForgets: {
        "closure-contract": "w' = (2.97, 0.84)",
        "stale-perturbation": "b = 3.2",
        "second-pass-error": "w is off by 0.4 after the next step",
        "restore-exact": "bfloat16: a relative drift of 5.1e-07",
    },
    broken_steps.NormInDtype: {"fp16-norm": "||e|| = 0", "tiny-gradients": "||e|| = 0", "huge-gradients": "||e|| = 0"},
    broken_steps.NormByDtype: {"mixed-dtypes": "at (2, 2, 2, 2)"},
    broken_steps.Unchecked: {"inf-first-gradient": "w' = (2.403, 0.096)"},
    broken_steps.LargestNumber: {"inf-second-gradient": "w' = (-3.40282e+37"},
    broken_care.Stateless: {"resume": "weights differ by 0.061"},
    broken_care.KeepsBackup: {"checkpoint-size": "40.4 kB more"},
    broken_care.TorchState: {"copying": "deepcopy: raised AttributeError"},
    broken_care.OwnGroups: {
        "scheduler-linked": "steps of 0.1, then 0.1",
        "scheduler-after-load": "steps of 0.1, then 0.1",
        "replaced-group": "a step of 0.1",
    },
    broken_care.UnlinkedByLoad: {"scheduler-after-load": "steps of 0.1, then 0.1"},
    broken_care.SkipsStep: {"scheduler-order": "lr_scheduler.step()", "step-hooks": "0 calls before, 0 calls after"},
    broken_care.NoAdd: {"add-param-group": "raised KeyError: 'rho'"},
    broken_care.CopiedList: {"replaced-group": "a step of 0.1"},
    broken_care.OneRho: {"group-rho": "second pass at (3.3, 1.4)", "rho-assigned": 'group["rho"] = 0.25: ||e|| = 0.5'},
    broken_care.Diluted: {"group-rho": "second pass at (3.3, 1)"},
    broken_care.Subtracts: {
        "restore-exact": "bfloat16: a relative drift of 0.00",
        "second-pass-error": "e-16",
    },
    broken_care.SwapsData: {"storage": "data_ptr changes with the step"},
    broken_care.ForgetsSparse: {"sparse-embedding": "rows (0, 3.6, 2.7, 9)"},
    broken_care.Quiet: {"lost-ascent": "nothing is said"},
    broken_base.KeepsFirst: {"rest-counts": "zero first gradient: w' = (1, 1)"},
    broken_base.SumsAtRest: {"rho-zero": "the weights differ", "rest-counts": "rho 0: w' = (0.6, 0.4)"},
    broken_base.DropsSecond: {"missing-first": "cleared: no error and nothing moves"},
    broken_base.Stuck: {"base-step-error": "the next step raised RuntimeError: the last step is not over"},
    broken_base.StepsAfterError: {"base-step-error": "w is off by 0.4 after the exception"},
    broken_base.Forgetful: {"lost-wrapper": "the lost wrapper stays: w = (3.3, 1.4), 0.5 away, after the new one"},
    broken_base.TorchCopies: {
        "copied-attributes": "the copy raised AttributeError: 'Doubling' object has no attribute 'times'"
    },
    broken_base.HidesBase: {"base-methods": "the base has train(), the optimizer around it has not"},
    broken_base.OwnModes: {"base-methods": "train() does not reach the base"},
    broken_base.OwnZero: {"own-store": "w' = (2.37, 0.04)"},
    broken_base.BallEach: {"one-ball": "second pass at (3.5, 1.5), w' = (2.65, 0.94)"},
    broken_base.FixedRho: {"rho-assigned": "opt.rho = 0.25: ||e|| = 0.5"},
    broken_base.FixedGroups: {"rho-assigned": 'group["rho"] = 0.25: ||e|| = 0.5'},
    broken_base.OtherBase: {"script-base-optimizer": "steps of 0.1, then 0.1, then 0.1"},
    broken_base.LeavesGradients: {"script-two-losses": "w' = (1.80168, -0.149309)"},
}
CLOSURE = {
    broken_steps.GradLater: {"closure-contract": "under no_grad: raised RuntimeError"},
    broken_steps.PerturbedLoss: {"closure-contract": "returns 9.365", "same-mask": "other random numbers"},
    broken_care.NoFinally: {"second-pass-error": "w is off by 0.4 after the exception"},
    broken_care.CountsTwice: {
        "tied-weights": "second pass at (3.21213, 1.28284)",
        "add-param-group": "1, 1.66667, 0.333333",
        "group-rho": "second pass at (3.3, 1)",
    },
    broken_care.MomentumTrick: {
        "rho-zero-no-trace": "the buffers differ",
        "batchnorm-once": "1 of 3 buffers are not those of one pass: num_batches_tracked, num_batches_tracked counts 2",
        "batchnorm-cumulative": "mean 3.33333",
        "batchnorm-after-error": "momentum 0.0, mean 0.2",
    },
    broken_care.OtherMask: {"rho-zero-no-trace": "the buffers differ", "same-mask": "other random numbers"},
    broken_base.ClaimsSteps: {"no-backward": "no error, and a step is reported though nothing moves"},
    broken_base.DropsSecond: {"missing-first": "no error and nothing moves"},
    broken_base.Stuck: {"base-step-error": "the next step raised RuntimeError: the last step is not over"},
    broken_base.AddsOutside: {"outside-gradients": "from norm 3 after the first pass to 6.3"},
    broken_base.AnyModel: {"foreign-model": "accepted silently"},
}
OURS = {
    broken_steps.Masking: {"inf-first-gradient": "w' = (2.403, -0.104)", "loss-scaling-overflow": "inf in pass 1"},
    broken_care.Answers: {"guard-checkpoint": "state_dict() did not raise"},
    broken_care.Unwatched: {"guard-other-optimizer": "it stepped"},
    broken_base.Modes: {"base-methods": "train() does not reach the base"},
}
BROKEN = [
    *((cls, "two-step", seen) for cls, seen in TWO_STEP.items()),
    *((cls, "closure", seen) for cls, seen in CLOSURE.items()),
    *((cls, None, seen) for cls, seen in OURS.items()),
]


def failed(report):
    return {outcome.family: outcome.observed for outcome in report.failed}


def test_ours_passes_everything():
    report = run(our_sam())
    assert {outcome.family: outcome.observed for outcome in report if outcome.status != "passed"} == {}
    assert len(report) == len(families())


@pytest.mark.parametrize(
    ("cls", "door"),
    [(Right, "two-step"), (Right, "closure"), (WithModel, "closure"), (Several, "two-step"), (Several, "closure")],
)
def test_a_right_one_passes_all_that_its_doors_allow(cls, door):
    assert set(failed(run(of_class(cls, "Right", door=door)))) == {SCALING}


@pytest.mark.parametrize(("cls", "door", "expected"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_one_fails_just_what_it_should(cls, door, expected):
    seen = failed(run(of_class(cls, "broken", door=door), QUICK))
    assert set(seen) - {SCALING} == set(expected)
    assert all(text in seen[name] for name, text in expected.items()), seen


def test_the_norm_of_a_large_tensor():
    seen = failed(run(of_class(broken_steps.NormInDtype, "broken", door="two-step"), ["large-tensor"]))
    assert seen == {"large-tensor": "||e|| = 1.00783 rho"}


def test_every_family_can_fail():
    caught = {name for _, _, expected in BROKEN for name in expected}
    assert caught | {SCALING, "large-tensor"} == set(families())


def test_families_say_what_is_right_and_how_to_get_there():
    for entry in families().values():
        assert all((entry.title, entry.right, entry.fix, entry.faults)), entry.id
        assert entry.id == entry.id.lower()
        assert len(entry.id) <= 24  # the table has 80 columns


def test_a_run_leaves_no_trace():
    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    before = torch.get_rng_state(), random.getstate(), torch.get_num_threads(), list(warnings.filters)
    with torch.no_grad():
        run(of_class(Right, "Right"), QUICK)
        run(our_sam(), ["same-mask", "guard-checkpoint", "second-pass-error"])
        assert not torch.is_grad_enabled()
    assert torch.get_default_dtype() is torch.float64
    torch.set_default_dtype(torch.float32)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), torch.get_num_threads(), list(warnings.filters))


def test_families_do_not_depend_on_each_other():
    subject = of_class(broken_care.Subtracts, "broken")
    together = {outcome.family: outcome for outcome in run(subject, QUICK)}
    for name in reversed(QUICK[::5]):
        assert list(run(subject, [name])) == [together[name]]


class Endless(Right):
    def both(self, closure):
        while True:
            closure()


def test_an_endless_step_ends():
    (outcome,) = run(of_class(Endless, "Endless", door="closure"), ["golden-step"])
    assert (outcome.status, outcome.observed) == ("failed", "more than 12 gradient evaluations in one step")


def test_one_door_of_ours():
    (outcome,) = run(our_sam(door="block"), ["same-mask"])
    assert outcome.status == "failed"  # without clean() the masks differ
    assert our_sam(door="closure").doors == ("closure",)


def test_an_interrupt_is_not_an_observation():
    def interrupted(trial):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(Family("x", "x", "x", "x", (), interrupted), our_sam())


def test_the_same_id_twice():
    with pytest.raises(ValueError, match="defined twice"):
        family("golden-step", "again", right="", fix="")(lambda trial: "")
    with pytest.raises(ValueError, match=r"no family nothing; there are golden-step"):
        run(our_sam(), ["nothing"])


def test_variants_are_other_algorithms_with_the_same_care():
    """usam and asam make other steps, but restore, resume and keep their storage as SAM does."""
    care = ["restore-exact", "resume", "storage", "scheduler-linked", "second-pass-error", "checkpoint-size"]
    care += ["base-step-error", "lost-wrapper", "own-store", "base-methods", "outside-gradients"]
    for name in ("usam", "asam"):
        assert run(of_class(variants()[name].build, name), care).ok
    assert "golden-step" in failed(run(of_class(variants()["usam"].build, "usam"), ["golden-step"]))


def test_the_report_prints():
    report = run(of_class(Right, "Right"), ["golden-step", "loss-scaling", "batchnorm-once"])
    assert isinstance(report, Report)
    lines = str(report).splitlines()
    assert repr(report) == str(report)
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "3 families: 1 passed, 1 failed, 1 not offered"
    assert "observed: raised RuntimeError: unscale_() has already been called on" in " ".join(str(report).split())
    assert not report.ok
    assert [outcome.status for outcome in report] == ["passed", "failed", "not offered"]
    assert sm.check.__module__ == "sharpmin._check._own_setup"
