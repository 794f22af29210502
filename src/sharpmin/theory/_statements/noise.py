"""The noise of a stochastic step: V in T5, T6, D2 and D3."""

from __future__ import annotations

from .._simulation.oracle import Oracle
from .assume import require


def smoothness(beta: float, oracle: str, beta_component: float | None) -> float:
    """The constant with ||E[grad l(y; xi) - grad f(x)]|| <= smoothness * rho.

    n-SAM ascends with one sample and descends with another, so it is beta of f. m-SAM uses the same sample at both points, so
    it is the smoothness of the samples, which may exceed beta: in E1, f is a parabola of curvature mu.
    """
    return max(beta, beta_component or beta) if oracle == Oracle.M_SAM else beta


def variance(beta: float, sigma: float, rho: float, oracle: str, beta_component: float | None) -> float:
    """V = sigma^2 (n-SAM), (sigma + beta_component rho)^2 (m-SAM), with the smoothness as above.

    Raises:
        ValueError: if `oracle` is neither "m-sam" nor "n-sam".
    """
    require(oracle in (Oracle.M_SAM, Oracle.N_SAM), "oracle", f"oracle={oracle!r} must be 'm-sam' or 'n-sam'")
    return (sigma + smoothness(beta, oracle, beta_component) * rho) ** 2 if oracle == Oracle.M_SAM else sigma**2
