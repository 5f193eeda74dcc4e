"""`python -m bitnet_core …` is `bitnet …`."""

import sys

from bitnet_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
