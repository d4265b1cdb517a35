"""`python -m tests.sim`: run seeds, replay one, say what occurred how often."""

import sys

from tests.sim.run import main

sys.exit(main())
