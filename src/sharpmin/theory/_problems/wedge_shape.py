"""A quadratic that is flat along a wedge of the plane: used by WEDGE and by the families of random problems."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sharpmin.core.extras import optional

from .pieces import Pieces

if TYPE_CHECKING:
    import numpy as np
else:
    np = optional("numpy", extra="lab")


def wedge_shape(beta: float, mu: float, tangent: float) -> Pieces:
    """f(z) = mu ||z||^2/2 + (beta - mu)/2 dist(z, W)^2, W = {|z_2| <= tangent z_1}; f* = 0 at 0.

    Args:
        beta: the curvature across the edges of W, and behind its tip.
        mu: the curvature inside W.
        tangent: the tangent of the angle between an edge of W and the axis.

    >>> f = wedge_shape(1.0, 0.1, 1.0)
    >>> f.gradient(np.array([[1.0, 0.5], [0.0, 2.0], [-1.0, 0.0]]))
    array([[ 0.1 ,  0.05],
           [-0.9 ,  1.1 ],
           [-1.  ,  0.  ]])
    """
    angle = math.atan(tangent)
    c, s = math.cos(angle), math.sin(angle)
    normals, edges = np.array([[-s, c], [-s, -c]]), np.array([[c, s], [c, -s]])
    conditions = np.zeros((4, 2, 3))
    conditions[:2, :, :2] = np.stack([normals, edges], axis=1)  # beyond an edge: across it and along it
    conditions[2, :, :2], conditions[3, :, :2] = -normals, -edges  # inside W; behind its tip
    slopes = np.zeros((4, 2, 3))
    slopes[:, :, :2] = mu * np.eye(2)
    for k, hill in enumerate((*(np.outer(n, n) for n in normals), np.zeros((2, 2)), np.eye(2))):
        slopes[k, :, :2] += (beta - mu) * hill
    return Pieces("wedge", conditions, slopes, np.zeros(4), float(beta), float(mu))
