"""A case by `sharpmin.SAM`: the model, its optimizer, and the doors through a step."""

import copy
import io
from collections.abc import Callable

import torch
from torch import nn

import sharpmin as sm

from . import by_hand as hand
from . import loss
from .draw import Case
from .parts import ASCENTS, DESCENTS, GEOMETRIES, rho


class Boom(BaseException):
    """What a second pass raises."""


def bits(t: torch.Tensor) -> bytes:
    return bytes(t.detach().contiguous().reshape(-1).view(torch.uint8).numpy()) if t.numel() else b""


class Model(nn.Module):
    """The parameters, and a count of forward passes as a buffer."""

    def __init__(self, ps: list[nn.Parameter]):
        super().__init__()
        self.ps = nn.ParameterList(ps)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))


class Run:
    """The model and its SAM, and the step that is on."""

    def __init__(self, case: Case):
        self.case, self.t, self.calls = case, 0, 0
        self.was: list[bytes] = []
        self.returned = True
        self.build()

    def build(self) -> None:
        """Everything fresh."""
        case, arrays = self.case, iter(loss.start(self.case))
        self.model = Model([loss.parameter(w, next(arrays)) for w in case.weights])
        ps, groups = iter(self.model.ps), []
        for g in case.groups:
            own = {"rho": rho(g.rho, g.size), "lr": g.lr, "maximize": g.maximize}
            groups.append({"params": [next(ps) for _ in g.weights], **own})
        options = hand.options(case["base"], case["dtype"])
        base = getattr(torch.optim, hand.BASES[case["base"]][0])(groups, foreach=case["foreach"], **options)
        self.opt = sm.SAM(
            base,
            rho=0.1,
            model=self.model if case["model"] else None,
            geometry=GEOMETRIES[case["geometry"]],
            ascent=ASCENTS[case["ascent"]],
            descent=DESCENTS[case["descent"]],
            telemetry=case["seen"] == "telemetry",
        )
        self.attach()

    def attach(self) -> None:
        """What is around the optimizer, and is not copied with it."""
        if self.case["seen"] == "watcher":
            self.opt.watchers.append(lambda _: None)
        elif self.case["seen"] == "watch":
            self.probe = sm.watch(self.opt, every=2)
        self.opt.base.register_step_pre_hook(lambda *_: self.look())
        rate = torch.optim.lr_scheduler.ExponentialLR
        self.scheduler = rate(self.opt, gamma=0.9) if self.case["scheduler"] else None

    @property
    def ps(self) -> list[torch.Tensor]:
        return list(self.model.ps)

    def look(self) -> None:
        """Before the base steps, the weights must be w again, bit for bit."""
        self.returned = self.returned and [bits(p) for p in self.ps] == self.was

    def restart(self) -> None:
        """Go on with a copy, or with fresh objects that have loaded a checkpoint."""
        scheduled = None if self.scheduler is None else self.scheduler.state_dict()
        if self.case["restart"] == "deepcopy":
            self.model, self.opt = copy.deepcopy((self.model, self.opt))
            self.attach()
        else:
            file = io.BytesIO()
            torch.save((self.model.state_dict(), self.opt.state_dict()), file)
            file.seek(0)
            states = torch.load(file, weights_only=True)
            self.build()
            self.model.load_state_dict(states[0])
            self.opt.load_state_dict(states[1])
        for p, weight in zip(self.ps, self.case.weights, strict=True):
            p.requires_grad_(self.t >= weight.thaws)
        if scheduled is not None:
            self.scheduler.load_state_dict(scheduled)
            for group, lr in zip(self.opt.param_groups, scheduled["_last_lr"], strict=True):
                group["lr"] = lr

    def clear(self) -> None:
        to_none = self.case["clear"].startswith("none")
        if self.case["clear"].endswith("by hand"):
            self.model.zero_grad(set_to_none=to_none)
        else:
            self.opt.zero_grad(set_to_none=to_none)

    def backward(self) -> torch.Tensor:
        """A pass over all micro-batches, with what happens in it."""
        second = self.case.one_pass or self.calls == 1
        self.calls += 1
        reached = [w.passes[self.t][second] for w in self.case.weights]
        loss.backward(self.case, self.t, self.ps, reached)
        self.model.seen += 1
        if self.comes("not finite", "second" if second else "first"):
            next(p.grad for p in self.ps if p.grad is not None and p.numel()).fill_(torch.nan)
        if second and self.comes("exception", "second pass"):
            raise Boom
        return torch.ones(())

    def comes(self, name: str, value: str) -> bool:
        return self.case[name] == value and self.case.at[name] == self.t

    def first(self) -> None:
        self.clear()
        if self.case.one_pass:
            return
        if self.case["clean"]:
            with self.opt.clean():
                self.backward()
        else:
            self.backward()

    def step(self) -> bool:
        """One step by the door; whether it came to its end."""
        self.calls, self.was, self.returned = 0, [bits(p) for p in self.ps], True
        torch.manual_seed(loss.noise_seed(self.case, self.t))
        for p, weight in zip(self.ps, self.case.weights, strict=True):
            if self.t == weight.thaws:
                p.requires_grad_()
        try:
            DOORS[self.case["door"]](self)
        except Boom:
            if self.case["door"] in ("raw", "two-step"):
                self.opt.abort()
            return False
        return True


def by_block(run: Run) -> None:
    run.first()
    with run.opt.perturbed():
        run.backward()
    run.look()
    run.opt.step()


def by_guarded_block(run: Run) -> None:
    run.first()
    if run.opt.needs_second_pass:
        with run.opt.perturbed():
            run.backward()
    run.look()
    run.opt.step()


def by_closure(run: Run) -> None:
    def closure() -> torch.Tensor:
        run.clear()
        return run.backward()

    run.opt.step(closure)


def by_raw_phases(run: Run) -> None:
    run.first()
    run.opt.perturb()
    run.backward()
    run.opt.restore()
    run.look()
    run.opt.step()


def by_two_steps(run: Run) -> None:
    run.first()
    run.opt.first_step(zero_grad=True)
    run.backward()
    run.opt.second_step()


DOORS: dict[str, Callable[[Run], None]] = {
    **{"block": by_block, "guarded": by_guarded_block, "closure": by_closure, "raw": by_raw_phases},
    "two-step": by_two_steps,
}
