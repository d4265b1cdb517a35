"""`python -m tests.sim`: see `run`."""

import gc
import sys

from tests.sim.run import main

# A world is many objects that live as long as it: to look through them for garbage seldom saves a seventh of the time.
gc.freeze()
gc.set_threshold(20_000, 10, 50)

sys.exit(main(sys.argv[1:]))
