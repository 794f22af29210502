"""The probe of `watch`: it takes the two gradients of every step and records their statistics."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from sharpmin._version import __version__
from sharpmin.core.rho import Scalar, finite
from sharpmin.core.text import block
from sharpmin.core.warn import warn
from sharpmin.optim._compare import GradientPair, pair
from sharpmin.optim._numeric.kinds import at_least_float32, dense
from sharpmin.optim._numeric.sums import inner

from .ahead import Ahead
from .base_view import BaseView
from .edge import edge_of_stability
from .first_pass import FirstGradients
from .log import Log
from .means import Means
from .rows import VERSION, Row, Writer
from .sketch import Sketch, places

ROOM = 64
"""The newest rows of each kind that a probe keeps in memory."""


class Probe:
    """Records statistics of the two gradients of a run; made by `watch`.

    Args:
        parameters: gives the parameters whose gradients are compared.
        base: gives the base optimizer's settings at a step.
        setting: what the first row of the log says of the run.
        writers: take every row.
        every, block, start: as for `watch`.
        seed: of the sketches.
        count: gives the number of steps that the optimizer has taken; None where there is no such optimizer.

    Attributes:
        log: the newest rows, for `sharpmin.diagnose(probe)`; every row also goes to every writer.
        ahead: the future learning rates, if the scheduler was given.
    """

    def __init__(
        self,
        parameters: Callable[[], Iterable[Tensor]],
        base: Callable[[], BaseView],
        setting: Row,
        writers: Sequence[Writer],
        *,
        every: int,
        block: int,
        seed: int,
        start: int,
        count: Callable[[], int] | None = None,
    ):
        self.log = Log(room=ROOM)
        self._parameters, self._base = parameters, base
        self._writers: list[Writer] = [self.log.add, *writers]
        self._every, self._block, self._sketch = every, block, Sketch(seed)
        self._setting = setting
        self._start, self._count = start, count
        self._seen = 0
        self.ahead: Ahead | None = None
        self._pending: list[Row] = []
        self._means = Means()
        self._numbers: list[int] = []
        self._last: tuple[int, Tensor] | None = None
        self._first: FirstGradients | None = None
        self._copies: bool | None = None
        self._loss: Scalar | None = None
        self._let_go: Callable[[], None] | None = None
        self._id, self._stuck, self._told = secrets.token_hex(6), set[int](), False
        versions = {"version": VERSION, "sharpmin": __version__, "torch": str(torch.__version__)}
        self._write({"kind": "run", **versions, "time": time.time(), **setting})

    def __str__(self) -> str:
        rows = [
            ("base", self._setting.get("base")),
            ("seen", self._seen, f"SAM steps; the next step is {self.step}"),
            ("blocks", len(self.log.blocks), f"in memory, of {self._block} steps each"),
            ("sketches", f"every {self._every}", "SAM steps"),
            ("writers", len(self._writers) - 1 or None, ", ".join(map(repr, self._writers[1:]))),
        ]
        return block("probe of a run", rows, self.log.remarks)

    @property
    def step(self) -> int:
        """The number of the next step: the step count of a sharpmin.SAM, else `start` plus the steps seen."""
        return self._start + self._seen if self._count is None else self._count()

    # the two calls in a loop with another SAM

    @torch.no_grad()
    def clean(self, loss: Scalar | None = None) -> None:
        """Call this after the first backward pass, while gradients and weights are those at w.

        Args:
            loss: the loss at w, for the record.
        """
        grads = [(p, p.grad) for p in self._parameters() if p.grad is not None]
        at_w = {}
        if self._adds:
            parameters = [p for p, _ in grads]
            at_w = self._of_weights(parameters, [dense(g) for _, g in grads], self._base(), self._places(parameters))
        self._first = FirstGradients(grads, at_w, copies=self._copies is not False)
        if loss is not None:
            self.note(loss)

    def note(self, loss: Scalar) -> None:
        """Record the loss at w of this step; with sharpmin's SAM and a closure that is automatic."""
        self._loss = loss.detach() if isinstance(loss, Tensor) else float(loss)

    @torch.no_grad()
    def perturbed(self, rho: float | None = None) -> None:
        """Call this after the second backward pass and before the step, while the gradients are those at w + e.

        Args:
            rho: the radius of this step, if it is not the one given to `watch`.

        Raises:
            RuntimeError: if `clean()` did not come first.
            ValueError: if rho is negative or not finite.
        """
        if self._first is None:
            raise RuntimeError("Probe.perturbed() came without clean(); call probe.clean() after the first backward pass")
        radius = self._setting["rho"] if rho is None else finite(rho, "rho", "Probe.perturbed", low=0)
        first, self._first = self._first, None
        overwritten = first.overwritten()
        if self._copies is None:
            self._copies = overwritten
        elif overwritten and not self._copies:
            self._copies = True
            remark = f"step {self.step} is left out: its first gradients were overwritten; they are copied from now on"
            self.log.note("overwritten", remark)
            return
        parameters = [p for p in self._parameters() if p.grad is not None]
        second = [p.grad for p in parameters if p.grad is not None]
        self.observe(pair(parameters, first.of(parameters, second), second), {"rho": radius}, first.at_w)

    # common to sharpmin's SAM and other SAMs

    @torch.no_grad()
    def observe(self, both: GradientPair, record: Row, at_w: dict[str, Tensor] | None = None) -> None:
        """Record the two gradients of one step; `at_w` has the sketches of the weights at w, if the weights have moved."""
        base, number = self._base(), self.step
        adds, follows = self._adds, self._last is not None and (self._seen - 1) % self._every == 0
        lag = self._sketched(both, base, at_w) if adds or follows else {}  # first, since it computes the products, too
        row: Row = {"kind": "step", "step": number, "lr": base.lr(), "momentum": base.momentum(), **record, **both.products}
        if self._loss is not None:
            row["loss"], self._loss = self._loss, None
        row |= lag
        self._pending.append(row)
        self._numbers.append(number)
        self._seen += 1
        if not any(isinstance(v, Tensor) and v.device.type != "cpu" for v in row.values()):
            self.flush()
        if len(self._numbers) >= self._block:
            self._close_block()

    @property
    def _adds(self) -> bool:
        """Whether the next step is one of those whose sketches are averaged over the block."""
        return self._seen % self._every == 0

    def _sketched(self, both: GradientPair, base: BaseView, at_w: dict[str, Tensor] | None) -> Row:
        """Sketch both gradients, and return the cosine of g and the previous step's g if that was sketched."""
        at = self._places(both.parameters)
        of_g, of_d, products = self._sketch.compare(both.clean, both.perturbed, starts=at)
        both.take(products)
        g, number = of_g / both.scale, self.step
        before, self._last = self._last, (number, g)
        if self._adds:
            found = self._of_weights(both.parameters, both.clean, base, at, both.scale) if at_w is None else dict(at_w)
            found |= {"g": g + found.pop("decay", 0.0), "d": of_d / both.scale}
            self._means.sketched(found | self._scaled(both, base, at))
        if before is None or before[0] != number - 1:
            return {}
        return {"lag": (before[1] @ g) / (before[1].norm() * g.norm())}

    def _places(self, parameters: Sequence[Tensor]) -> list[int]:
        """The starts of parameters in the line of all entries, whichever of them have a gradient in this step."""
        whole = list(self._parameters())
        at = dict(zip(map(id, whole), places(whole), strict=True))
        return [at[id(p)] for p in parameters]

    def _of_weights(
        self, parameters: Sequence[Tensor], clean: Sequence[Tensor], base: BaseView, at: Sequence[int], scale: Scalar = 1.0
    ) -> dict[str, Tensor]:
        """Sketches that depend on the weights at w: the gradient of weight decay, and the weights if mu was given."""
        found = {}
        if base.decay():
            found["decay"] = self._sketch(base.decayed(parameters), starts=at)
        if self._setting.get("mu"):
            weights = [at_least_float32(p.detach()) for p in parameters]
            found["x"] = self._sketch(weights, starts=at)
            found["gx"] = _one(inner(clean, weights)) / scale
        return found

    def _scaled(self, both: GradientPair, base: BaseView, at: Sequence[int]) -> dict[str, Tensor]:
        """Sketches of D and g scaled as in the base's step, and <g, scaled g>; empty if the base steps along the gradient."""
        if not base.scales():
            return {}
        scaled = base.preconditioned(both.parameters, both.clean)
        return {
            "pd": self._sketch(base.preconditioned(both.parameters, both.differences()), starts=at) / both.scale,
            "pg": self._sketch(scaled, starts=at) / both.scale,
            "gpg": _one(inner(both.clean, scaled)) / both.scale**2,
        }

    def _close_block(self) -> None:
        self.flush()
        row = self._means.row()
        if row is not None:
            if self.ahead is not None:
                row["ahead"] = self.ahead.sums(self._block, self._seen)
            self._write({"kind": "block", "first": self._numbers[0], "last": self._numbers[-1], **row})
            self._tell_of_loss(row)
        self._means, self._numbers = Means(), []

    def _tell_of_loss(self, row: Row) -> None:
        """Warn, once after the first block, if no loss is recorded, since the verdict then stays undecided."""
        if not self._told and "loss" not in row and self._setting.get("mu") is None:
            warn(
                "watch: the first block has no loss, so no fall will be called large or small: step by a closure, or give the "
                "loss at w of every step, by probe.note(loss) before opt.step() or by probe.clean(loss)"
            )
        self._told = True

    def flush(self) -> None:
        """Write the pending rows; on an accelerator this waits for the device, so it is done once a block."""
        rows, self._pending = self._pending, []
        for row in rows:
            plain = {k: float(v) if isinstance(v, Tensor) else v for k, v in row.items()}
            if self._setting.get("base") == "SGD" and plain["lr"] > 0 and 0 <= plain["gg"] < math.inf:
                plain["edge"] = edge_of_stability(math.sqrt(plain["gg"]), plain["rho"], plain["lr"], plain["momentum"])
            self._means.step(plain)
            self._write(plain)

    def _write(self, row: Row) -> None:
        row = {**row, "id": self._id}
        for writer in self._writers:
            try:
                writer(row)
                self._stuck.discard(id(writer))
            except OSError as error:  # a full disk must not end a training run
                if id(writer) not in self._stuck:
                    self._stuck.add(id(writer))
                    where = getattr(writer, "path", repr(writer))
                    warn(f"watch: a row could not be written to {where}: {error}; the next one tries again")

    def close(self) -> None:
        """Stop watching: write the unfinished block and close the writers."""
        if self._let_go is not None:
            self._let_go()
            self._let_go = None
        self._close_block()
        for writer in self._writers[1:]:
            close = getattr(writer, "close", None)
            if callable(close):
                close()
        del self._writers[1:]


def _one(value: Scalar) -> Tensor:
    """A number as a float64 tensor of shape (1,) on its device."""
    number = value if isinstance(value, Tensor) else torch.tensor(value, device="cpu")
    return number.to(torch.float64).reshape(1)
