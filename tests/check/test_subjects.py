"""How classes of other people are constructed and driven, and what is said if that cannot be."""

import pytest
import torch
from right_sam import Right, WithModel

from sharpmin._check._subject import of_class, of_factory
from sharpmin._check._suite import run

SGD = torch.optim.SGD
FEW = ["golden-step", "group-rho", "resume"]


class Instance(Right):
    """Takes a base that has been built."""

    def __init__(self, base, rho=0.05):
        super().__init__(None, lambda params: base, rho)


class ParamsAndInstance(Right):
    def __init__(self, params, optim: torch.optim.Optimizer, rho=0.05):
        super().__init__(params, lambda params: optim, rho)


class BaseAndModel(WithModel):
    def __init__(self, base_optimizer, model, rho=0.05):
        super().__init__(None, lambda params: base_optimizer, rho, model)


class OptionsDict(Right):
    def __init__(self, params, optimizer_cls, base_kwargs, rho=0.05):
        super().__init__(params, optimizer_cls, rho, **base_kwargs)


class ModelFirst(WithModel):
    def __init__(self, model, params, base_optimizer, rho=0.05, **kwargs):
        super().__init__(params, base_optimizer, rho, model, **kwargs)


class Needy(Right):
    def __init__(self, params, base_optimizer, total, rho=0.05, flavor="plain", **kwargs):
        if flavor not in ("plain", "mild"):
            raise ValueError(f"flavor {flavor!r}")
        super().__init__(params, base_optimizer, rho, **kwargs)


class AfterBackward(torch.optim.Optimizer):
    """`step(closure)` does the second pass, and there are no two steps."""

    def __init__(self, params, base_optimizer, rho=0.05, **options):
        self.inner = Right(params, base_optimizer, rho, **options)
        super().__init__(self.inner.param_groups, {})
        self.param_groups = self.inner.param_groups

    def step(self, closure):
        self.inner.first_step(zero_grad=True)
        with torch.enable_grad():
            closure()
        self.inner.second_step()


@pytest.mark.parametrize("cls", [Right, Instance, ParamsAndInstance, BaseAndModel, OptionsDict, ModelFirst])
def test_the_common_signatures(cls):
    subject = of_class(cls, cls.__name__)
    assert subject.doors == ("two-step",)
    assert subject.takes_model == issubclass(cls, WithModel)
    assert [outcome.status for outcome in run(subject, FEW)] == ["passed"] * 3
    assert of_class(cls, cls.__name__, door="closure").doors == ("closure",)


def test_more_arguments():
    with pytest.raises(TypeError, match=r"Needy needs total; give --set total=\.\.\., or a factory"):
        of_class(Needy, "Needy")
    with pytest.raises(TypeError, match=r"could not be constructed: raised ValueError: flavor 'hot'"):
        of_class(Needy, "Needy", extra={"total": 1, "flavor": "hot"})
    assert run(of_class(Needy, "Needy", extra={"total": 1, "flavor": "mild"}), FEW).ok
    with pytest.raises(TypeError, match=r"Instance takes no total; it takes base, rho"):
        of_class(Instance, "Instance", extra={"total": 1})


def test_a_factory():
    subject = of_factory(lambda params, base, rho, options: Needy(params, base, 3, rho, **options), "mine")
    assert (subject.takes_model, run(subject, FEW).ok) == (False, True)

    def with_model(params, base, rho, options, model):
        return WithModel(params, base, rho, model, **options)

    subject = of_factory(with_model, "mine", door="closure")
    assert subject.takes_model
    assert run(subject, ["batchnorm-once"]).ok
    with pytest.raises(TypeError, match="a int, no function"):
        of_factory(3, "mine")
    with pytest.raises(TypeError, match="could not be constructed: raised TypeError"):
        of_factory(lambda params: None, "mine")


def test_the_first_backward_may_be_the_callers():
    subject = of_class(AfterBackward, "AfterBackward")
    assert subject.doors == ("closure-after-backward",)
    report = run(subject, ["golden-step", "closure-contract", "same-mask", "restore-exact"])
    assert [outcome.status for outcome in report] == ["passed", "not offered", "not offered", "passed"]


class OneGroup(Right):
    def __init__(self, params, base_optimizer, rho=0.05, **options):
        super().__init__(params, base_optimizer, rho, **options)
        if rho == 0 or len(self.param_groups) > 1:
            raise ValueError("not supported")


def test_what_is_refused_at_construction_is_not_offered():
    report = run(of_class(OneGroup, "OneGroup"), ["golden-step", "one-norm", "rho-zero"])
    assert [outcome.status for outcome in report] == ["passed", "not offered", "not offered"]
    assert list(report)[1].observed == "refuses to be constructed like this: raised ValueError: not supported"


class Plain:
    def __init__(self, base, rho=0.05):
        self.param_groups = base.param_groups

    def step(self):
        pass


REFUSED = [
    (SGD, r"SGD\(params, lr, .*\) takes no base optimizer"),
    (torch.nn.Linear, "takes no base optimizer"),
    (dict, "has no signature that can be read|takes no base optimizer"),
    (3, "is a int, no class"),
    (Plain, r"is no SAM: it has neither first_step\(\) and second_step\(\) nor a step\(\) that takes a closure"),
    (torch.optim.swa_utils.AveragedModel, "takes no base optimizer"),
]


@pytest.mark.parametrize(("target", "message"), REFUSED, ids=str)
def test_what_is_no_sam(target, message):
    with pytest.raises(TypeError, match=message):
        of_class(target, getattr(target, "__name__", "it"))


def test_a_door_that_is_not_there():
    with pytest.raises(ValueError, match="--door window: give closure or two-step"):
        of_class(Right, "Right", door="window")
    with pytest.raises(TypeError, match="has no door 'two-step'"):
        of_class(AfterBackward, "AfterBackward", door="two-step")
