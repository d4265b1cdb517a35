"""The planted bugs. `plan`: under which it shows; what finds it is the promise that it breaks, never a crash."""

from tests.sim.mutants.membership_bugs import MEMBERSHIP_BUGS
from tests.sim.mutants.takeover_bugs import TAKEOVER_BUGS
from tests.sim.mutants.write_bugs import WRITE_BUGS

MUTANTS = (*MEMBERSHIP_BUGS, *WRITE_BUGS, *TAKEOVER_BUGS)
