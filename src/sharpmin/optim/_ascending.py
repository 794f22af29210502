"""Who climbs, and along what: the gradients of a step, or of one micro-batch of it, through the ascent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import compress, repeat
from operator import is_not
from typing import Any

from torch import Tensor, nn

from sharpmin.core.errors import PhaseError

from ._cycle import Pairs, Phase
from ._geometry import Geometry
from ._numeric.shards import aligned
from ._numeric.tensors import on_host, sum_of_squares
from ._perturbation import Climber
from ._ranks import strangers
from ._scaling import unscaled
from ._wrapper import Wrapper

_NO_PERTURBED = """clean() came again, but the last micro-batch has had no second pass; after each clean() block,
    with opt.perturbed():
        loss_fn(model(x), y).backward()"""


class Ascending(Wrapper):
    """The part of `SAM` that finds the vectors to climb along; `Machine` climbs."""

    geometry: Geometry
    model: nn.Module | None

    def _climbers(self) -> list[Climber]:
        """The groups that climb, with the vectors that the ascent makes of their gradients."""
        cycle, out, needs_clean = self._cycle, [], self.ascent.needs_clean
        state = cycle.ascent if cycle.proposed is None else cycle.proposed
        for group, schedule in self._active():
            weights = distinct(group["params"])
            grads = [p.grad for p in weights]
            here = map(is_not, grads, repeat(None)) if needs_clean else [p.requires_grad for p in weights]
            if not all(here := list(here)):
                weights, grads = list(compress(weights, here)), list(compress(grads, here))
            grads = list(aligned(grads, weights))
            if group.get("maximize"):
                grads = [None if g is None else -g for g in grads]
            if cycle.scaling is not None and not cycle.scaling.once:
                grads = unscaled(grads, cycle.scaling.scaler)
            vectors, state = self.ascent.update(weights, grads, state, self.base.state)
            moving = [a for a in vectors if a is not None]
            if len(moving) < len(weights):
                weights = [w for w, a in zip(weights, vectors, strict=True) if a is not None]
            out.append(Climber(group, schedule, weights, moving))
        cycle.proposed = state
        return out

    def _would_climb(self) -> bool:
        """Whether the gradients at hand would move the weights, so that a second pass is missing."""
        proposed = self._cycle.proposed
        climbers, self._cycle.proposed = self._climbers(), proposed
        return bool(any(self.geometry.measure(c.weights, c.vectors) != 0 for c in climbers))

    def _idles(self) -> bool:
        """Whether a step would move nothing, every lr and every gradient being zero: it only makes the base's state, and
        is not counted. torch.distributed.checkpoint takes such steps before it saves and loads."""
        rates = [group.get("lr", 1.0) for group in self.param_groups]
        if any((not on_host([lr]) or lr.item()) if isinstance(lr, Tensor) else lr for lr in rates):
            return False
        return not self._cycle.earlier and sum_of_squares([g for _, g in self._gradients()]) == 0

    def _keep_ascent(self) -> None:
        """Take what the ascent proposed, without what belongs to parameters that the optimizer no longer has."""
        proposed = self._cycle.proposed
        if proposed is not None:
            own = set(self._parameters()) if proposed else set()
            self._cycle.ascent = {p: a for p, a in proposed.items() if p in own}

    @contextmanager
    def _first_pass(self, apart: AbstractContextManager[Any] | None = None) -> Iterator[None]:
        """Inside the first pass; `apart` is held over it, but not over a second one that comes before its end."""
        cycle = self._cycle
        looked, cycle.inside, cycle.looked = cycle.looked, True, True
        try:
            with ExitStack() as stack:
                if not looked:
                    stack.enter_context(strangers(self.model, self.scope, self._parameters()))
                if apart is not None:
                    inner = stack.enter_context(ExitStack())
                    inner.enter_context(apart)
                    cycle.reduce_again = inner.close
                yield
        finally:
            cycle.inside, cycle.reduce_again = False, None

    def _open_microbatch(self) -> None:
        """Set aside what has accumulated, for the two passes of one micro-batch."""
        cycle = self._cycle
        if cycle.earlier is not None:  # the last one had no second pass, and needs none if its gradient is zero
            if self._would_climb():
                raise PhaseError(_NO_PERTURBED)
            self._put_gradients(accumulated(cycle.earlier, self._gradients()))
        cycle.phase, cycle.earlier = Phase.CLEAN, self._gradients()
        self._put_gradients([])

    @staticmethod
    def _blank(grads: Pairs | None) -> bool:
        """Whether accumulated gradients are all zero, as they are at the start of a step that zeroed them in place."""
        own = [g for _, g in grads or []]
        return on_host(own) and sum_of_squares(own) == 0

    def _mark_overflow(self) -> None:
        """Let the scaler of micro-batches see a first gradient that only the device knows to be infinite: inf * 0 is nan."""
        scaling, norms = self._cycle.scaling, self._cycle.norms
        if scaling is not None and not scaling.once and isinstance(norms, Tensor):
            for _, grad in self._gradients()[:1]:
                grad.add_((norms * 0).to(grad))


def distinct(parameters: Sequence[Tensor]) -> Sequence[Tensor]:
    """Each parameter once."""
    return parameters if len(set(map(id, parameters))) == len(parameters) else list(dict.fromkeys(parameters))


def accumulated(earlier: Pairs | None, new: Pairs) -> Pairs:
    """The accumulated gradients with those of one more micro-batch."""
    if not earlier:
        return new
    total = dict(earlier)
    for p, g in new:
        total[p] = total[p].add_(g) if p in total and not total[p].is_sparse else total[p] + g if p in total else g
    return list(total.items())
