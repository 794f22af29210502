"""After the second pass: the descent gradient d, and the comparison of g and G for telemetry and watchers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_

import torch
from torch import Tensor

from sharpmin.core.rho import Scalar

from ._compare import GradientPair, pair, ratios
from ._gradients import Pairs
from ._numeric.shards import aligned
from ._numeric.sums import inner, sum_of_squares
from ._numeric.tensors import combine
from ._perturbation import moved_by
from ._protocols import Context
from ._scaling import factor, scaled
from ._scope import rank_and_world
from ._settings import Settings
from ._state import SAMState

Watcher = Callable[[GradientPair], None]


def moves_of(weights: Sequence[Tensor], before: Sequence[Tensor]) -> Pairs:
    """The realized e: perturbed weights minus their values at w."""
    return list(zip(weights, moved_by(weights, before), strict=True))


def descent_gradient(
    state: SAMState,
    settings: Settings,
    watchers: Sequence[Watcher],
    context: Context,
    first: Pairs,
    second: Pairs,
    moves: Pairs | None,
) -> Pairs:
    """d for every parameter with a second gradient; with telemetry or watchers also the comparison of g and G.

    Args:
        state: that of the SAM.
        settings: those of the SAM.
        watchers: called with the pair (g, d).
        context: of this step, for the descent.
        first: the gradients at w; zero for a parameter that has none.
        second: those at w + e.
        moves: e, or None if it is a known multiple of the first gradients.
    """
    scaling = state.step.scaling
    by, parameters = {id(p): g for p, g in first}, [p for p, _ in second]
    clean = aligned([by[id(p)] if id(p) in by else torch.zeros_like(g) for p, g in second], parameters)
    perturbed = aligned([g for _, g in second], parameters)
    scale: Scalar = 1.0
    if scaling is not None and not (scaling.once and scaling.swapped):
        scale = factor(scaling.scaler, perturbed)
        clean = scaled(clean, scaling.scaler) if scaling.once else clean
    remembered = state.memory.descent if state.step.descent is None else state.step.descent
    a, b, state.step.descent = settings.descent.coefficients(parameters, clean, perturbed, remembered, context)
    descent = combine(clean, perturbed, a, b)
    if settings.telemetry or watchers:
        both = pair(parameters, clean, perturbed, scale)
        _compare(state, both, descent, moves, watchers, telemetry=settings.telemetry)
    return list(zip(parameters, descent, strict=True))


def one_pass_gradient(state: SAMState, settings: Settings, context: Context, first: Pairs) -> Pairs:
    """d = a g + b V on a step of one pass, with V the descent's state of each parameter."""
    parameters, clean = [p for p, _ in first], [g for _, g in first]
    a, b, after = settings.descent.coefficients(parameters, clean, None, state.memory.descent, context)
    state.step.descent = after
    remembered = [after[p] if p in after else torch.zeros_like(g) for p, g in first]
    return list(zip(parameters, combine(clean, remembered, a, b), strict=True))


def _compare(
    state: SAMState,
    both: GradientPair,
    descent: Sequence[Tensor],
    moves: Pairs | None,
    watchers: Sequence[Watcher],
    *,
    telemetry: bool,
) -> None:
    """Compare g and G for telemetry. Watchers receive (g, d): d is the gradient that the base steps with."""
    step, same = state.step, all(map(is_, descent, both.perturbed))
    by_products = same and moves is None  # the watchers' products are those of telemetry, too
    if telemetry or not by_products:
        found = ratios(both.products, *_along(state, both, moves))
        state.record |= found if telemetry else {}
        step.curved = {} if by_products else {"along": found["curvature"], "steep": found["smoothness"]}
    for watcher in watchers:
        watcher(both if same else pair(both.parameters, both.clean, descent, both.scale))
    alone = rank_and_world()[1] == 1  # all_reduce does not change a tensor's version counter
    if same and alone and step.scaling is None and not isinstance(step.norms, Tensor) and both.finite:
        step.finite = [(g, g._version) for g in both.perturbed]


def _along(state: SAMState, both: GradientPair, moves: Pairs | None) -> tuple[Scalar, Scalar]:
    """<D, e> and ||e||^2; without `moves` e is radius / ||g|| times g."""
    if moves is None:
        record = state.record
        return record["radius"] / record["dual_norm"] * both.products["dg"], record["radius"] ** 2
    by = dict(moves)
    climbed = [(d, by[p]) for p, d in zip(both.parameters, both.differences(), strict=True) if p in by]
    inner_e = inner([d for d, _ in climbed], [e for _, e in climbed]) / both.scale
    return inner_e, sum_of_squares([e for _, e in moves])
