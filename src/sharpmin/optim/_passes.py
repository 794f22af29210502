"""What lies between the first gradient and the step of the base: perturb, restore, abort, descend.

```
perturb  first gradients -> Perturbation (groups, norm, radii) -> Outcome -> Trip -> the weights move
restore  the weights come back -> the gradient to descend along
descend  the base steps -> remember
```
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from sharpmin.core.errors import PhaseError

from . import _checkpoint as checkpoint
from . import _messages as messages
from ._bases import load
from ._effects import guard
from ._effects.buffers import Buffers
from ._effects.others import Others
from ._effects.rng import RandomState, seeded
from ._gradients import Pairs, accumulate, all_zero, gradients_of, have_graph, kept, poison_with_nan
from ._groups import Active, Groups
from ._numeric.rounding import StochasticRounding
from ._numeric.shards import aligned
from ._numeric.tensors import all_finite, on_host
from ._perturbation import Perturbation, perturbed_groups
from ._protocols import Context
from ._scaling import Scaling, enabled, refuse_scaler_step
from ._scope import require_shard_gradients
from ._second_pass import Watcher, descent_gradient, moves_of, one_pass_gradient
from ._settings import Settings
from ._state import Outcome, State, Trip, outcome_of


@dataclass
class Plan:
    """What is decided between the passes: how far the weights will move, what it comes to, and the first gradients."""

    perturbation: Perturbation
    outcome: Outcome
    first: Pairs

    @property
    def needs_second(self) -> bool:
        """Whether the step is not complete without another pass."""
        return self.outcome not in (Outcome.REST, Outcome.SKIP)


class Passes:
    """The passes of a SAM's steps. All that it changes is in `state`; the optimizer around it has the doors."""

    def __init__(self, groups: Groups, settings: Settings):
        self.groups, self.settings = groups, settings
        self.state = State()
        self.watchers: list[Watcher] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "watchers": []}  # whoever watches this one does not watch a copy

    def context(self) -> Context:
        """What the parts may know of this step."""
        first = next(iter(self.groups), {})
        return Context(self.groups.count(), first, self.groups.base.state, self.state.step.climbs)

    def require_unperturbed(self, call: str) -> None:
        """Raise `PhaseError` if the weights are perturbed."""
        _require_unperturbed(self.state, call)

    def state_dict(self) -> dict[str, Any]:
        """The base's, with what SAM adds to it."""
        memory = self.state.memory
        remembered = {"ascent": memory.ascent, "descent": memory.descent}
        saved: dict[str, Any] = checkpoint.saved(
            self.groups.base.state_dict(), self.settings.scope, remembered, list(self.groups)
        )
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a checkpoint, after it has been checked as a whole."""
        state, settings, live = self.state, self.settings, self.groups.radii()
        base = self.groups.base
        checkpoint.check(state_dict, list(self.groups), has_groups=lambda: "param_groups" in base.state_dict())
        load(base, {k: v for k, v in state_dict.items() if k != checkpoint.KEY})
        state.forget_step()  # gradients from before the load are no step
        for name, part in (("ascent", settings.ascent), ("descent", settings.descent)):
            memory = checkpoint.memory_of(state_dict, name, list(self.groups.parameters())) if part.stateful else part.init()
            setattr(state.memory, name, memory)
        found = self.groups.take_over(checkpoint.groups_of(state_dict, list(self.groups)), live)
        checkpoint.warn_of_scope(found, settings.scope)

    def change(self, name: str, value: Any) -> None:
        """Set one of the settings anew; what another ascent or descent remembers means nothing to the next one."""
        self.require_unperturbed(f"opt.{name} = ...")
        self.settings = self.settings.changed(name, value, self.groups.parameters())
        if name in ("ascent", "descent"):
            self.settings.ascent.check(self.groups)
            setattr(self.state.memory, name, getattr(self.settings, name).init())

    @property
    def keeps(self) -> bool:
        """Whether somebody needs the first gradient beside the second."""
        return self.settings.descent.needs_clean or self.settings.telemetry or bool(self.watchers)

    def remember_random(self, *, again: bool = False) -> None:
        """Note the random state of a first pass that begins, for the second to start from."""
        if again or self.state.first.random is None:
            self.state.first.random = RandomState(self.groups.parameters())

    def would_climb(self) -> bool:
        """Whether the gradients at hand would move the weights, so that a second pass is missing."""
        groups, _ = self._perturbed_groups(self.groups.active())
        return bool(any(group.metric.measure() != 0 for group in groups))

    def _perturbed_groups(self, active: Active) -> Any:
        settings, step = self.settings, self.state.step
        remembered = self.state.memory.ascent if step.ascent is None else step.ascent
        return perturbed_groups(active, settings.geometry, settings.ascent, remembered, self.context(), step.scaling)

    def require_gradients(self, pairs: Pairs) -> None:
        """After a first pass: missing is not zero.

        Raises:
            PhaseError: if no parameter has a gradient, or they have a graph, which moving the weights would break.
        """
        if have_graph(pairs):
            raise PhaseError(messages.graph(self.groups.base, "first"))
        if not pairs:
            require_shard_gradients(self.groups, pairs, "first")
            raise PhaseError(messages.missing(any(p.requires_grad for p in self.groups.parameters())))

    def plan(self, scaler: Any, key: Optimizer) -> Plan:
        """Decide what the first gradients come to; nothing moves yet. `key` is under what a scaler knows the optimizer."""
        self.require_unperturbed("perturb()")
        state, settings, scope = self.state, self.settings, self.settings.in_scope
        guard.require_free(self.groups.parameters(), "perturb()", but=state)
        scope.require_comparable(keeps=self.keeps)
        active, first, needs_clean = self.groups.active(), self.groups.gradients(), settings.ascent.needs_clean
        accumulated = state.step.accumulated
        if active and needs_clean:
            scope.require_first(accumulated)
            self.require_gradients(first)
            messages.tell_unstepped(state, settings, scaler)
        step = state.begin(more=bool(accumulated) and not all_zero(accumulated))  # the last second pass counts no more
        if state.first.end_no_sync is not None:  # the second pass may come inside the closure
            state.first.end_no_sync()
        try:
            self._unscale(scaler, key, active)
            groups, step.ascent = self._perturbed_groups(active)
            perturbation = Perturbation.of(groups, settings.geometry, settings.ascent, self.groups.count())
        except BaseException:
            if step.scaling is not None:  # else the gradients are what they were, and can be tried again
                self.give_up()
            raise
        norm, joins = perturbation.norm, bool(groups) and scope.joins
        finite = not needs_clean or isinstance(norm, Tensor) or (math.isfinite(norm) and self._others_finite(perturbation))
        outcome = outcome_of(needs_clean=needs_clean, finite=finite, moves=perturbation.may_move, joins=joins)
        step.norms = step.norms + norm if isinstance(norm, Tensor) and not joins else 0.0
        step.nonfinite = step.nonfinite or outcome is Outcome.SKIP
        state.record |= perturbation.asked
        return Plan(perturbation, outcome, self.groups.gradients())

    def _others_finite(self, perturbation: Perturbation) -> bool:
        """Whether the gradients of the groups that do not climb are finite, as far as that costs no wait."""
        climbing = {id(group.group) for group in perturbation.groups}
        resting = [g for _, g in gradients_of(group for group in self.groups if id(group) not in climbing)]
        return not on_host(resting) or all_finite(resting)

    def _unscale(self, scaler: Any, key: Optimizer, active: Active) -> None:
        """Note the scaler, and unscale the first gradients in the scope that lets a scaler do it: once an update."""
        if not enabled(scaler) or not self.settings.ascent.needs_clean:
            return
        scope, step = self.settings.in_scope, self.state.step
        step.scaling = scaling = Scaling.of(scaler, key, self.groups.base, once=scope.scaler_once)
        if active:  # else the base sees these gradients, which scaler.step(opt) will unscale
            scaling.first()
            step.overflow = scope.agree_on_overflow(scaler, key if scaling.swapped else self.groups.base)

    def depart(self, plan: Plan) -> None:
        """Move the weights to w + e, and set aside what the second pass must not change."""
        state, scope, outcome, first = self.state, self.settings.in_scope, plan.outcome, plan.first
        step, before = state.step, state.first.before
        accumulated = step.accumulated if before is None else before
        keeps = outcome in (Outcome.REST, Outcome.SKIP) or (outcome is Outcome.CLIMB and self.keeps)
        trip = Trip(outcome, kept(first) if keeps else None)
        trip.in_place = scope.in_place and (not keeps or before is not None)
        try:
            state.trip = trip  # before a weight moves: whoever interrupts from here on finds the way back
            guard.mark_perturbed(state, self.groups.base)
            self._set_aside(trip)
            if outcome in (Outcome.CLIMB, Outcome.ONLY_PASS) and plan.perturbation.may_move:
                self._climb(plan.perturbation, trip)
            if trip.in_place and (outcome is Outcome.SPOIL or self._tells_by_nan(plan)):
                accumulated = step.accumulated = accumulate(accumulated, poison_with_nan(first, plan.perturbation.norm))
            self.groups.put((accumulated or []) if trip.in_place else [])
            if outcome is not Outcome.SKIP:
                self.groups.clear_store_of_base()
            trip.start = [(g, g._version) for _, g in self.groups.gradients()]
        except BaseException:
            self._turn_back(first, accumulated)
            raise

    def _turn_back(self, first: Pairs, accumulated: Pairs | None) -> None:
        """Leave a way up that failed: the first gradients can be tried again, unless a scaler has unscaled them."""
        unscaled = self.state.step.scaling is not None
        self.abort()
        if not unscaled:
            self.groups.put(first)
            self.state.step.accumulated = accumulated

    def stay(self, plan: Plan) -> None:
        """Let the first gradients count, without a second pass."""
        step = self.state.step
        self.groups.put(accumulate(step.accumulated, plan.first))
        step.accumulated, step.ready = None, True

    def _tells_by_nan(self, plan: Plan) -> bool:
        """Whether only the device knows if a rank's own norm is finite, and the step will ask it."""
        asks = self.settings.skip_nonfinite or self.state.step.scaling is not None
        return (
            asks
            and bool(plan.perturbation.groups)
            and self.settings.in_scope.joins
            and isinstance(plan.perturbation.norm, Tensor)
        )

    def _set_aside(self, trip: Trip) -> None:
        """Note what puts back buffers, random states and the gradients of others; the only pass of a step moves all of them."""
        state, model = self.state, self.settings.model
        start, state.first.random = state.first.random, None
        if trip.outcome is not Outcome.ONLY_PASS:
            if start is not None or trip.outcome is Outcome.SKIP:
                trip.undo.append(RandomState(self.groups.parameters()).put_back)
            if model is not None:
                trip.undo.append(Buffers(model, self.settings.buffers).put_back)
                self._set_others_aside(model, trip)
        if model is not None:
            trip.undo.extend(guard.refuse_while(model, lambda call: _require_unperturbed(state, call)))
        if start is not None and trip.outcome is not Outcome.ONLY_PASS:
            start.put_back()

    def _set_others_aside(self, model: nn.Module, trip: Trip) -> None:
        """The gradients of the model's other parameters, which the second pass must leave as the first one left them."""
        others = Others(model, self.groups.parameters())
        trip.undo.append(others.put_back)
        if others.gradients and self.settings.in_scope.joins and trip.outcome is not Outcome.REST:
            raise ValueError(messages.OTHERS)

    def _climb(self, perturbation: Perturbation, trip: Trip) -> None:
        state, step = self.state, self.state.step
        trip.back_up(perturbation.weights, self.groups.parameters(), state.memory.backup)
        seed = (self.groups.count() << 16) + step.climbs
        stochastic = self.settings.rounding == "stochastic" and perturbation.low
        with nullcontext() if perturbation.plain else seeded(perturbation.weights, seed):
            perturbation.move(StochasticRounding(seed) if stochastic else None)
        step.climbs += 1
        trip.is_multiple_of_gradient = perturbation.is_multiple_of_gradient
        state.record |= perturbation.report([was for _, was in trip.weights])
        gain = state.record["gain"]
        if not isinstance(gain, Tensor):
            messages.tell_of_rounding(state, gain, self.settings.rounding)

    def restore(self) -> None:
        """Bring the weights back to w, bit for bit, and leave the descent gradient in place."""
        state, trip = self.state, self.state.trip
        if trip is None:
            raise PhaseError(
                f"restore() needs perturbed weights, but the step is in phase {state.phase.value!r}; call perturb() first"
            )
        compares = trip.outcome is Outcome.CLIMB and trip.first is not None
        moves = None if trip.is_multiple_of_gradient or not compares else moves_of(trip.weights)
        moved = bool(trip.weights)
        state.come_back()
        try:
            second = self.groups.gradients()
            if moved and have_graph(second):
                raise PhaseError(messages.graph(self.groups.base, "second"))
            self._take_second(trip, second, moves, compares=compares)
        except BaseException:
            self.abort()
            raise
        state.first.before = state.step.accumulated = None
        state.step.ready, state.trip = True, None

    def _take_second(self, trip: Trip, second: Pairs, moves: Pairs | None, *, compares: bool) -> None:
        """Put the gradient to step with in place, from those of both passes."""
        state, settings, scope, step = self.state, self.settings, self.settings.in_scope, self.state.step
        ran = trip.second_ran(second)
        if trip.outcome is Outcome.SKIP or (trip.outcome is Outcome.REST and not ran):
            self.groups.put(accumulate(step.accumulated, trip.first or []))
        else:
            scope.require_second()
            require_shard_gradients(self.groups, second, "second")
            step.second, step.missing = True, not ran
            state.record["passes"] = 2 if settings.ascent.needs_clean else 1
            if step.scaling is not None:
                step.scaling.second()
                step.scaling.mark_overflow(step.norms, second)
            if compares and trip.first is not None:
                second = descent_gradient(state, settings, self.watchers, self.context(), trip.first, second, moves)
            if compares or (step.accumulated and not trip.in_place):
                self.groups.put(accumulate(step.accumulated, second))
            state.memory.unstepped += 1

    def abort(self) -> None:
        """Leave a step that failed half way: weights back, half-made gradients dropped; without effect at `w`."""
        if self.state.trip is not None:
            self.state.rescue()
            self.groups.put([])

    def give_up(self) -> None:
        """Leave a step that failed at w: its gradients are dropped."""
        self.state.give_up()
        self.groups.put([])

    def require_ready(self) -> None:
        """Before a step with the gradients that `restore` has left.

        Raises:
            PhaseError: if the second pass has left none, or they are not reduced over the ranks, or still scaled.
        """
        step, settings = self.state.step, self.settings
        if step.missing:
            raise PhaseError(messages.NO_SECOND)
        if step.second:
            settings.in_scope.require_reduced(second=True)
        if step.scaling is None and step.second and settings.ascent.needs_clean:
            refuse_scaler_step("after perturbed() without it", "give it to the block: `with opt.perturbed(scaler):`")
        elif step.scaling is not None and not step.nonfinite:
            step.scaling.require_step_by_scaler()

    def take_only_pass(self) -> bool:
        """A step without a second pass, right where nothing would climb; False if it will not move anything either.

        Raises:
            PhaseError: if a second pass is missing, or the first gradients are.
        """
        state, scope = self.state, self.settings.in_scope
        accumulated = state.step.accumulated
        if self.groups.active():
            if not accumulated:
                self.require_gradients(self.groups.gradients())
            if self.would_climb():
                raise PhaseError(messages.RECIPES if self.settings.ascent.needs_clean else messages.ONE_PASS)
        if not accumulated and self.groups.rest():
            return False
        if not all_zero(accumulated):
            scope.require_reduced(second=False)
        self.groups.put(accumulate(accumulated, self.groups.gradients()))
        state.begin(more=False)
        return True

    def descend(self) -> None:
        """Let the base step, unless something is not finite; the step is over then."""
        state, step = self.state, self.state.step
        try:
            if step.nonfinite or any(map(bool, step.overflow)) or not self._gradients_are_finite():
                state.record["stepped"] = False
                messages.tell_skipped(state, self.groups.count())
            else:
                if self.settings.descent.stateful and not step.second:
                    self.groups.put(one_pass_gradient(state, self.settings, self.context(), self.groups.gradients()))
                self._step_base()
        except BaseException:
            self.give_up()
            raise
        state.forget_step()
        state.memory.unstepped = 0

    def _step_base(self) -> None:
        state, step = self.state, self.state.step
        self.groups.base.step()
        self.groups.take_step()
        own = set(self.groups.parameters()) if step.ascent or step.descent else set()
        for name in ("ascent", "descent"):
            if (proposed := getattr(step, name)) is not None:  # but what belongs to parameters that are gone
                setattr(state.memory, name, {p: t for p, t in proposed.items() if p in own})
        state.record["stepped"] = True

    def _gradients_are_finite(self) -> bool:
        step, pairs = self.state.step, self.groups.gradients()
        grads = aligned([grad for _, grad in pairs], [p for p, _ in pairs])
        known = step.finite
        if len(known) == len(grads) and all(g is own and g._version == v for g, (own, v) in zip(grads, known, strict=True)):
            return True  # their products were, and nobody has written to them since
        if not self.settings.skip_nonfinite and step.scaling is None and not on_host(grads):
            return True  # under a scaler the one read comes after the scaler's own
        return all_finite(grads, step.norms)  # a tensor where only the device knows it: one read for both passes


def _require_unperturbed(state: State, call: str) -> None:
    if state.trip is not None:
        raise PhaseError(
            f"{call} came while the weights are perturbed (w + e); leave the perturbed() block, or call restore(), first; "
            "after an exception, abort()"
        )
