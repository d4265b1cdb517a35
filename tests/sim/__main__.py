"""`python -m tests.sim`: see `run`."""

import sys

from tests.sim.run import main

sys.exit(main(sys.argv[1:]))
