"""A notebook as a page: its texts, and its code as blocks."""

from __future__ import annotations

import json


def page(text: str) -> str:
    """Markdown of a notebook that stores no outputs.

    >>> cells = [{"cell_type": "markdown", "source": ["# Title"]}, {"cell_type": "code", "source": ["1 + 1"]}]
    >>> print(page(json.dumps({"cells": cells})))
    # Title
    <BLANKLINE>
    ```python
    1 + 1
    ```
    <BLANKLINE>
    """
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return "\n\n".join(f"```python\n{source}\n```" if kind == "code" else source for kind, source in cells) + "\n"
