"""`python -m fedlab` is the `fedlab` command."""

import sys

from fedlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
