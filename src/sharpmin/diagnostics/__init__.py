"""Does rho keep the training loss of a run too high? Statistics of its two gradients, a verdict, and an experiment.

Also probes of a model at its weights: the worst loss within rho, m-sharpness, the ends of the Hessian spectrum, its trace,
critical sharpness, the loss along directions, and the shares of layers and logits in D = G - g.
"""

from ._rho.point import RhoPoint
from ._run.edge import edge_of_stability
from ._run.floor import Floor
from ._run.log import Log
from ._run.probe import Probe
from ._run.scalars import scalars
from ._run.sketch import Sketch
from ._run.state import State
from ._run.statistics import Numbers
from ._run.verdict import Diagnosis, diagnose
from ._run.watch import watch
from ._run.window import Window
from ._run.writers import JsonLines
from ._sharpness.ascent import Sharpness
from ._sharpness.critical import CriticalSharpness, critical_sharpness
from ._sharpness.m_sharpness import MSharpness, m_sharpness
from ._sharpness.paths import PathShares, path_shares
from ._sharpness.shares import LayerShares, layer_shares
from ._sharpness.slice import LossSlice, loss_slice
from ._sharpness.spectrum import Spectrum, hessian_spectrum
from ._sharpness.trace import Trace, hessian_trace
from ._sharpness.worst_loss import worst_loss
from .hold import OnHold
from .rho_range import RhoRange, rho_range
from .tensorboard import TensorBoard
from .toggle import Toggle, toggle

__all__ = [
    "CriticalSharpness",
    "Diagnosis",
    "Floor",
    "JsonLines",
    "LayerShares",
    "Log",
    "LossSlice",
    "MSharpness",
    "Numbers",
    "OnHold",
    "PathShares",
    "Probe",
    "RhoPoint",
    "RhoRange",
    "Sharpness",
    "Sketch",
    "Spectrum",
    "State",
    "TensorBoard",
    "Toggle",
    "Trace",
    "Window",
    "critical_sharpness",
    "diagnose",
    "edge_of_stability",
    "hessian_spectrum",
    "hessian_trace",
    "layer_shares",
    "loss_slice",
    "m_sharpness",
    "path_shares",
    "rho_range",
    "scalars",
    "toggle",
    "watch",
    "worst_loss",
]
