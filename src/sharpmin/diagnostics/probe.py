"""What watches a run: a probe takes the two gradients of every step and writes down their statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar
from sharpmin.optim._compare import Pair, pair
from sharpmin.optim.tensors import inner, wide

from ._effective import Base
from ._means import Means
from ._rows import VERSION, Log, Row, Writer
from .sketch import Sketch


class Probe:
    """Watches a run; made by `watch`.

    Attributes:
        log: what has been seen, for `sharpmin.diagnose(probe)`; also written to every writer.
        step: the number of the next step.
    """

    def __init__(
        self,
        parameters: Callable[[], Iterable[Tensor]],
        base: Callable[[], Base],
        setting: Row,
        writers: Sequence[Writer],
        *,
        every: int,
        block: int,
        seed: int,
        start: Callable[[], int],
    ):
        self.log = Log(room=64)
        self._start = start
        self._step: int | None = None
        self._parameters, self._base = parameters, base
        self._writers: list[Writer] = [self.log.add, *writers]
        self._every, self._block, self._sketch = every, block, Sketch(seed)
        self._setting = setting
        self._pending: list[Row] = []
        self._means = Means()
        self._begun: int | None = None
        self._last: tuple[int, Tensor] | None = None
        self._clean: list[tuple[Tensor, Tensor, int]] | None = None
        self._copies = False
        self._loss: Scalar | None = None
        self._write({"kind": "run", "version": VERSION, "time": time.time(), **setting})

    @property
    def step(self) -> int:
        """The number of the next step; before the first, where the optimizer stands, as a checkpoint may still be loaded."""
        return self._start() if self._step is None else self._step

    # the two lines of a foreign loop

    @torch.no_grad()
    def clean(self, loss: Scalar | None = None) -> None:
        """After the first backward pass: the gradients in place are those at w.

        Args:
            loss: the loss at w, for the record.
        """
        grads = [(p, p.grad) for p in self._parameters() if p.grad is not None]
        self._clean = [(p, g.clone() if self._copies else g, g._version) for p, g in grads]
        if loss is not None:
            self.note(loss)

    def note(self, loss: Scalar) -> None:
        """The loss at w of the step in progress; a closure of sharpmin's SAM is noted by itself."""
        self._loss = loss.detach() if isinstance(loss, Tensor) else float(loss)

    @torch.no_grad()
    def perturbed(self, rho: float | None = None) -> None:
        """After the second backward pass, before the step: the gradients in place are those at w + e.

        Args:
            rho: the radius of this step, if it is not the one given to `watch`.

        Raises:
            RuntimeError: if `clean()` did not come first.
        """
        if self._clean is None:
            raise RuntimeError("Probe.perturbed() came without clean(); call probe.clean() after the first backward pass")
        kept, self._clean = self._clean, None
        if not self._copies and any(g._version != version or p.grad is g for p, g, version in kept):
            self._copies = True  # the loop writes into its gradients: from the next step on they are copied
            self.log.remarks.append(
                f"step {self.step} is left out: the gradients were overwritten in place between the passes "
                "(zero_grad(set_to_none=False), or no zero_grad); they are copied from now on"
            )
            return
        first = {id(p): g for p, g, _ in kept}
        parameters = [p for p in self._parameters() if p.grad is not None]
        second = [p.grad for p in parameters if p.grad is not None]
        clean = [first[id(p)] if id(p) in first else torch.zeros_like(g) for p, g in zip(parameters, second, strict=True)]
        self.observe(pair(parameters, clean, second), {"rho": self._setting["rho"] if rho is None else rho})

    # what both doors lead to

    @torch.no_grad()
    def observe(self, both: Pair, record: Row) -> None:
        """Take the two gradients of one step."""
        base, step = self._base(), self.step
        self._begun = step if self._begun is None else self._begun
        adds = step % self._every == 0
        follows = self._last is not None and self._last[0] == step - 1 and (step - 1) % self._every == 0
        lag = self._sketched(both, base, adds=adds) if adds or follows else {}  # before its products, which it finds too
        row: Row = {"kind": "step", "step": step, "lr": base.lr(), **record, **both.products}
        if self._loss is not None:
            row["loss"], self._loss = self._loss, None
        row |= lag
        self._pending.append(row)
        self._step = step + 1
        if not any(isinstance(v, Tensor) and v.device.type != "cpu" for v in row.values()):
            self.flush()
        if self._step - self._begun >= self._block:
            self._close_block()

    def _sketched(self, both: Pair, base: Base, *, adds: bool) -> Row:
        """Sketch both; the cosine of g with the one before, if that was sketched. It `adds` to the block, or only follows."""
        of_g, of_d, products = self._sketch.compare(both.clean, both.perturbed)
        both.take(products)
        g = of_g / both.scale
        before, self._last = self._last, (self.step, g)
        if adds:
            self._means.sketched(self._found(both, base, g, of_d / both.scale))
        if before is None or before[0] != self.step - 1:
            return {}
        return {"lag": (before[1] @ g) / (before[1].norm() * g.norm())}

    def _found(self, both: Pair, base: Base, g: Tensor, difference: Tensor) -> dict[str, Tensor]:
        """What a block adds up on a sketched step."""
        found = {"g": g + self._sketch(base.decayed(both.parameters)) if base.decay() else g, "d": difference}
        if base.adaptive():
            found["pd"] = self._sketch(base.preconditioned(both.parameters, both.differences())) / both.scale
            scaled = base.preconditioned(both.parameters, both.clean)
            found["pg"] = self._sketch(scaled) / both.scale
            found["gpg"] = torch.as_tensor(inner(both.clean, scaled), dtype=torch.float64).reshape(1) / both.scale**2
        if self._setting.get("mu"):
            weights = [wide(p.detach()) for p in both.parameters]
            found["x"] = self._sketch(weights)
            found["gx"] = torch.as_tensor(inner(both.clean, weights), dtype=torch.float64).reshape(1) / both.scale
        return found

    def _close_block(self) -> None:
        self.flush()
        row = self._means.row()
        if row is not None:
            self._write({"kind": "block", "first": self._begun, "last": self.step - 1, **row})
        self._means, self._begun = Means(), None

    def flush(self) -> None:
        """Write what is pending; on an accelerator this waits for the device, and happens once a block."""
        rows, self._pending = self._pending, []
        for row in rows:
            plain = {k: float(v) if isinstance(v, Tensor) else v for k, v in row.items()}
            self._means.step(plain)
            self._write(plain)

    def _write(self, row: Row) -> None:
        for writer in self._writers:
            writer(row)

    def close(self) -> None:
        """Write the block that is open, and close the writers that can be closed."""
        self._close_block()
        for writer in self._writers:
            close = getattr(writer, "close", None)
            if callable(close):
                close()
