"""Is rho what holds a run up? Statistics of a run's own two gradients, the verdict, and the experiment that settles it.

And probes of where it stands: the worst loss within rho, m-sharpness, the ends of the Hessian spectrum, its trace,
critical sharpness, the loss along directions, and the shares of the layers.
"""

from ._ascent import Sharpness
from ._critical import CriticalSharpness, critical_sharpness
from ._edge import edge_of_stability
from ._log import Log
from ._m_sharpness import MSharpness, m_sharpness
from ._rho_point import RhoPoint
from ._scalars import scalars
from ._shares import LayerShares, layer_shares
from ._sharpness import worst_loss
from ._slice import LossSlice, loss_slice
from ._spectrum import Spectrum, hessian_spectrum
from ._state import State
from ._trace import Trace, hessian_trace
from ._writers import JsonLines
from .floor import Floor
from .hold import OnHold
from .probe import Probe
from .rho_range import RhoRange, rho_range
from .sketch import Sketch
from .stall import Diagnosis, diagnose
from .statistics import Numbers
from .tensorboard import TensorBoard
from .toggle import Toggle, toggle
from .watch import watch
from .window import Window

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
    "rho_range",
    "scalars",
    "toggle",
    "watch",
    "worst_loss",
]
