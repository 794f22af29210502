"""The families, grouped by idea. A new one is a function with `@family` in a file here, or a new file and its line."""

from . import (  # noqa: F401, I001  # imports register; the order is that of the table
    _algorithm,
    _closure,
    _rho_zero,
    _missing,
    _range,
    _nonfinite,
    _scaling,
    _checkpoint,
    _schedulers,
    _groups,
    _base,
    _settings,
    _scripts,
    _restore,
    _storage,
    _buffers,
    _precision,
    _guards,
)
