"""`python -m vmatlas`: the command line."""

import sys

from vmatlas.cli import main

if __name__ == "__main__":
    sys.exit(main())
