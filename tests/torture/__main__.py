"""`python -m tests.torture --seconds 60 --seed 1 --quorum any`: random faults on a real cluster."""

import sys

from tests.torture.proving import main
from tests.torture.torture import torture

if __name__ == "__main__":
    sys.exit(main(__doc__, {"seconds": 60, "seed": 1, "quorum": "any"}, torture))
