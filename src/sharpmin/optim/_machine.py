"""The two phases of a step and what lies between: perturb, restore, abort, descend."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from sharpmin.core.errors import PhaseError
from sharpmin.core.rho import Scalar

from ._ascending import Ascending, accumulated
from ._ascent import Gradient
from ._compare import Pair, pair, ratios
from ._cycle import Pairs, Phase
from ._descent import Descent
from ._effects.buffers import BufferFilter
from ._effects.guard import claim, demand_free
from ._effects.rng import RandomState
from ._geometry import L2
from ._numeric.rounding import Dither
from ._numeric.shards import aligned, like, local
from ._numeric.tensors import all_finite, inner, largest, on_host, sum_of_squares
from ._perturbation import Ascension
from ._ranks import (
    agree_on_overflow,
    demand_first,
    demand_gradients,
    demand_second,
    demand_unkept,
    joins,
    place,
    reduces,
    spoilt,
)
from ._scaling import Scaling, enabled, factor, scaled
from ._wrapper import COUNT

LEAST_GAIN = 0.9
_NO_CLEAN = """scope="microbatch" needs the first pass of every micro-batch in a block of its own, to tell its gradient from
what has accumulated:
    with opt.clean():
        loss_fn(model(x), y).backward()
    with opt.perturbed():
        loss_fn(model(x), y).backward()
and, after the last micro-batch, opt.step()"""


class Machine(Ascending):
    """CLEAN -> PERTURBED -> READY -> CLEAN; `SAM` adds the doors that lead through it."""

    descent: Descent
    rounding: str
    skip_nonfinite: bool
    buffers: BufferFilter | None
    telemetry: bool
    watchers: list[Callable[[Pair], None]]

    @_disable_dynamo
    @torch.no_grad()
    def perturb(self, scaler: Any = None) -> None:
        """Move the weights to `w + e` and set the first gradients aside; `scaler` as in `perturbed`.

        Raises:
            PhaseError: if the weights are already perturbed, or the first pass was not reduced over the ranks as it must be.
            ValueError: if a schedule returns a negative or non-finite radius; the weights have not moved then.
        """
        self._demand_unperturbed("perturb()")
        cycle = self._cycle
        demand_free(self._parameters(), "perturb()", but=cycle)
        compares = self.telemetry or bool(self.watchers)
        demand_unkept(self.model, self.scope, keeps=compares or self.descent.needs_clean)
        earlier = cycle.earlier
        cycle.begin(more=bool(earlier) and not self._blank(earlier))  # from here on the last second pass counts no more
        if self._active():
            if earlier is None and self.scope == "microbatch":
                raise PhaseError(_NO_CLEAN)
            demand_first(self.model, self.scope)
        if cycle.reduce_again is not None:  # the second pass may come inside the closure
            cycle.reduce_again()
        self._unscale(scaler)
        ascension = Ascension.of(self._climbers(), self.geometry, self._count())
        climbers, norm = ascension.climbers, ascension.norm
        together = bool(climbers) and joins(self.model, self.scope)
        cycle.norms = cycle.norms + norm if isinstance(norm, Tensor) and not together else 0.0
        if climbers:
            cycle.record |= {"dual_norm": norm, "rho": largest([climber.radius for climber in climbers])}
        climbs = ascension.may_move
        only_pass = not self.ascent.needs_clean
        bad = False
        if not isinstance(norm, Tensor) and not only_pass:
            resting = self._gradients_at_rest(climbers)
            bad = not math.isfinite(norm) or (on_host(resting) and not all_finite(resting))
            cycle.nonfinite = cycle.nonfinite or (bad and not together)  # no rank may skip by itself
            climbs = climbs and not bad
        first = self._gradients()
        if climbers and not only_pass:
            demand_gradients(self._parameters, "first")
        cycle.kept = None if climbs or only_pass or together else first
        cycle.clean = first if climbs and not only_pass and (self.descent.needs_clean or compares) else None
        try:
            cycle.phase = Phase.PERTURBED  # before a weight moves: whoever interrupts from here on finds the way back
            claim(cycle, self)
            refuse = partial(self._demand_unperturbed, "model.state_dict()")
            cycle.set_aside(self._parameters(), self.model, self.buffers, refuse, only_pass=only_pass)
            if climbs:
                self._climb(ascension)
            cycle.onto = reduces(self.model) and cycle.kept is None and cycle.clean is None
            if together and cycle.onto and (bad or self._reads(norm)):
                cycle.earlier = accumulated(earlier, spoilt(first, norm))
            self._put_gradients((cycle.earlier or []) if cycle.onto else [])
        except BaseException:
            self.abort()
            self._put_gradients(first)
            cycle.earlier = earlier
            raise

    @_disable_dynamo
    @torch.no_grad()
    def restore(self) -> None:
        """Bring the weights back to `w`, bit for bit, and leave the descent gradient in place.

        Raises:
            PhaseError: if the weights are not perturbed, or the second pass was not reduced over the ranks as it must be.
        """
        cycle = self._cycle
        if cycle.phase is not Phase.PERTURBED:
            raise PhaseError(
                f"restore() needs perturbed weights, but the step is in phase {cycle.phase.value!r}; call perturb() first"
            )
        compares = (self.telemetry or self.watchers) and cycle.clean is not None
        moves = self._moves() if compares and not cycle.plain else None
        cycle.come_back()
        if cycle.kept is None:
            demand_second(self.model, self.scope)
            demand_gradients(self._parameters, "second")
            cycle.record["passes"] = 2 if self.ascent.needs_clean else 1
            if cycle.scaling is not None:
                cycle.scaling.second()
            self._mark_overflow()
            if cycle.clean is not None:
                self._put_gradients(accumulated(cycle.earlier, self._combined(cycle.clean, moves)))
            elif cycle.earlier and not cycle.onto:
                self._put_gradients(accumulated(cycle.earlier, self._gradients()))
        else:
            self._put_gradients(accumulated(cycle.earlier, cycle.kept))
        cycle.kept = cycle.clean = cycle.earlier = None
        cycle.phase = Phase.READY

    def abort(self) -> None:
        """Leave a step that failed half way: weights back, half-made gradients dropped; without effect at `w`."""
        cycle = self._cycle
        if cycle.phase is not Phase.PERTURBED:
            return
        try:
            cycle.come_back()
        except BaseException:  # a second interrupt
            cycle.come_back()
            raise
        cycle.begin()
        cycle.clean_random = cycle.earlier = None
        self._put_gradients([])

    def _unscale(self, scaler: Any) -> None:
        """Note the scaler, and unscale the first gradients in the scope that lets a scaler do it: once an update."""
        if not enabled(scaler) or not self.ascent.needs_clean:
            return
        self._cycle.scaling = Scaling(scaler, self, self.base, once=self.scope != "microbatch")
        if self._active():  # else the base sees these gradients, which scaler.step(opt) will unscale
            self._cycle.scaling.first()
            if self.scope == "rank":
                key = self if self._cycle.scaling.swapped else self.base
                self._cycle.overflow = agree_on_overflow(scaler, key, self.model)

    def _climb(self, ascension: Ascension) -> None:
        cycle, weights = self._cycle, ascension.weights
        cycle.back_up(weights, self._parameters())
        dither = None
        if self.rounding == "stochastic" and ascension.low:
            dither = Dither((self._count() << 16) + cycle.climbs)
        ascension.move(dither)
        cycle.climbs += 1
        cycle.plain = isinstance(self.geometry, L2) and isinstance(self.ascent, Gradient) and ascension.exact
        cycle.record |= ascension.report([was for _, was in cycle.backup])
        gain = cycle.record["gain"]
        if not isinstance(gain, Tensor):
            self._warn_of_rounding(gain)

    def _warn_of_rounding(self, gain: float | None) -> None:
        """Say once that the format of the weights swallows the ascent."""
        if gain is None or not gain < LEAST_GAIN or self._cycle.warned or self.rounding == "stochastic":
            return
        self._cycle.warned = True
        warnings.warn(
            f"SAM: only {gain:.0%} of the ascent survives the rounding of float16 or bfloat16 weights (opt.last.gain); keep "
            'the weights in float32 under autocast, or use rounding="stochastic"',
            UserWarning,
            stacklevel=4,
        )

    def _combined(self, clean: Pairs, moves: Pairs | None) -> Pairs:
        """The descent gradient of every parameter that has a second one; the two are compared on the way, if anybody asks."""
        first, scaling, now = {id(p): g for p, g in clean}, self._cycle.scaling, self._gradients()
        parameters = [p for p, _ in now]
        before = aligned([first[id(p)] if id(p) in first else torch.zeros_like(big) for p, big in now], parameters)
        second = aligned([big for _, big in now], parameters)
        scale: Scalar = 1.0
        if scaling is not None and not (scaling.once and scaling.swapped):
            scale = factor(scaling.scaler, second)
            before = scaled(before, scaling.scaler) if scaling.once else before
        descent = self.descent.combine(before, second)
        if self.telemetry or self.watchers:
            self._compare(pair(parameters, before, second, scale), descent, moves)
        return list(zip(parameters, descent, strict=True))

    def _compare(self, both: Pair, descent: Sequence[Tensor], moves: Pairs | None) -> None:
        """Telemetry is about g and G; watchers see g and what descends, since that moves the run."""
        cycle, same = self._cycle, all(map(is_, descent, both.perturbed))
        told = same and cycle.plain  # by the products of what a watcher sees
        if self.telemetry or not told:
            found = ratios(both.products, *self._along(both, moves))
            cycle.record |= found if self.telemetry else {}
            cycle.curved = {} if told else {"along": found["curvature"], "steep": found["smoothness"]}
        for watcher in self.watchers:
            watcher(both if same else pair(both.parameters, both.clean, descent, both.scale))
        alone = place()[1] == 1  # an all_reduce is no write that torch counts
        if same and alone and cycle.scaling is None and not isinstance(cycle.norms, Tensor) and both.finite:
            cycle.finite = [(big, big._version) for big in both.perturbed]

    def _moves(self) -> Pairs:
        """e, as the weights have it."""
        return [(w, like(local(w.detach()) - was, w)) for w, was in self._cycle.backup]

    def _along(self, both: Pair, moves: Pairs | None) -> tuple[Scalar, Scalar]:
        """<D, e> and ||e||^2; without `moves` e is radius / ||g|| times g."""
        record = self._cycle.record
        if moves is None:
            return record["radius"] / record["dual_norm"] * both.products["dg"], record["radius"] ** 2
        by = dict(moves)
        climbed = [(d, by[p]) for p, d in zip(both.parameters, both.differences(), strict=True) if p in by]
        inner_e = inner([d for d, _ in climbed], [e for _, e in climbed]) / both.scale
        return inner_e, sum_of_squares([e for _, e in moves])

    def _descend(self) -> None:
        cycle = self._cycle
        if cycle.nonfinite or any(map(bool, cycle.overflow)) or not self._gradients_are_finite():
            cycle.record["stepped"] = False
        else:
            count = self._count() + 1
            self.base.step()
            cycle.steps = count
            for group in self.param_groups:
                group[COUNT] = count
            self._keep_ascent()
            cycle.record["stepped"] = True
        self._forget()

    def _forget(self) -> None:
        """The step is over; its record stays."""
        cycle = self._cycle
        cycle.forget()
        cycle.phase, cycle.clean_random, cycle.earlier, cycle.scaling = Phase.CLEAN, None, None, None

    def _reads(self, norm: Scalar) -> bool:
        """Whether only the device knows the norm, and the step will ask it whether all was finite."""
        return isinstance(norm, Tensor) and (self.skip_nonfinite or self._cycle.scaling is not None)

    def _gradients_are_finite(self) -> bool:
        pairs = self._gradients()
        grads = aligned([grad for _, grad in pairs], [p for p, _ in pairs])
        known = self._cycle.finite
        if len(known) == len(grads) and all(g is own and g._version == v for g, (own, v) in zip(grads, known, strict=True)):
            return True  # their products were, and nobody has written to them since
        if not self.skip_nonfinite and self._cycle.scaling is None and not on_host(grads):
            return True  # under a scaler the one read comes after the scaler's own
        return all_finite(grads, self._cycle.norms)  # a tensor where only the device knows it: one read for both passes

    def _remember_random(self, *, again: bool = False) -> None:
        if again or self._cycle.clean_random is None:
            self._cycle.clean_random = RandomState(self._parameters())
