"""Is rho what holds a run up? Statistics of a run's own two gradients, the verdict, and the experiment that settles it."""

from ._rows import JsonLines, Log
from ._state import State
from .floor import Floor
from .hold import OnHold
from .probe import Probe
from .sketch import Sketch
from .stall import Diagnosis, diagnose
from .statistics import Numbers
from .tensorboard import TensorBoard
from .toggle import Toggle, toggle
from .watch import watch
from .window import Window

__all__ = [
    "Diagnosis",
    "Floor",
    "JsonLines",
    "Log",
    "Numbers",
    "OnHold",
    "Probe",
    "Sketch",
    "State",
    "TensorBoard",
    "Toggle",
    "Window",
    "diagnose",
    "toggle",
    "watch",
]
