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
    t = torch.view_as_real(t) if t.is_complex() else t
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
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if case["scaler"] else None
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
            scope=case["scope"],
            rounding=case["rounding"],
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
        if self.scaler is not None:
            state, self.scaler = self.scaler.state_dict(), torch.amp.GradScaler("cpu")
            self.scaler.load_state_dict(state)
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

    def backward(self, micros: range, *, second: bool) -> torch.Tensor:
        """A pass over these micro-batches, with what happens in it."""
        second = second or self.case.one_pass
        reached = [w.passes[self.t][second] for w in self.case.weights]
        scale = (lambda value: value) if self.scaler is None else self.scaler.scale
        loss.backward(self.case, self.t, self.ps, reached, micros, scale)
        self.model.seen += 1
        if self.case.comes("not finite", "second" if second else "first", self.t, micros):
            self.spoil()
        if self.case.comes("exception", "second pass" if second else "first pass", self.t, micros):
            raise Boom
        return torch.ones(())

    def spoil(self) -> None:
        """The first gradient with entries has nan."""
        next(p.grad for p in self.ps if p.grad is not None and p.numel() and not p.grad.is_sparse).fill_(torch.nan)

    def first(self, micros: range) -> None:
        if self.case.one_pass:
            return
        if self.case["clean"] or self.case.apart:
            with self.opt.clean():
                self.backward(micros, second=False)
        else:
            self.backward(micros, second=False)
        if self.scaler is not None and self.case["unscale"] == "first" and not self.case.apart:
            self.scaler.unscale_(self.opt)

    def finish(self) -> None:
        self.look()
        if self.scaler is None:
            self.opt.step()
            return
        if self.case["unscale"] == "second":
            self.scaler.unscale_(self.opt)
        self.scaler.step(self.opt)
        self.scaler.update()

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
    run.clear()
    for micros in run.case.rounds:
        run.first(micros)
        with run.opt.perturbed(run.scaler):
            run.backward(micros, second=True)
    run.finish()


def by_guarded_block(run: Run) -> None:
    run.clear()
    for micros in run.case.rounds:
        run.first(micros)
        if run.opt.needs_second_pass:
            with run.opt.perturbed(run.scaler):
                run.backward(micros, second=True)
    run.finish()


def by_closure(run: Run) -> None:
    def closure() -> torch.Tensor:
        run.clear()
        run.calls += 1
        return run.backward(*run.case.rounds, second=run.calls == 2)

    run.opt.step(closure)


def by_raw_phases(run: Run) -> None:
    run.clear()
    for micros in run.case.rounds:
        run.first(micros)
        run.opt.perturb(run.scaler)
        run.backward(micros, second=True)
        run.opt.restore()
    run.finish()


def by_two_steps(run: Run) -> None:
    run.clear()
    run.first(*run.case.rounds)
    run.opt.first_step(zero_grad=True)
    run.backward(*run.case.rounds, second=True)
    run.opt.second_step()


DOORS: dict[str, Callable[[Run], None]] = {
    **{"block": by_block, "guarded": by_guarded_block, "closure": by_closure, "raw": by_raw_phases},
    "two-step": by_two_steps,
}
