"""The SAMs of this folder can be imported by name, so that they can be pickled."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
