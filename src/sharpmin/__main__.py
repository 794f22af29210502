"""`python -m sharpmin` is the command line."""

import sys

from sharpmin.cli import main

if __name__ == "__main__":
    sys.exit(main())
