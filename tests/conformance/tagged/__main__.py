"""`python -m tests.conformance.tagged --requests 1000000 --seed 1`: exits 1 if an answer met another's request."""

import argparse
import logging
import sys

import structlog
import uvloop

from tests.conformance.tagged.run import run

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--requests", type=int, default=1_000_000)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
report = uvloop.run(run(options.requests, options.seed))
print("\n".join([*report.lines(), *report.crossed[:20]]))
sys.exit(bool(report.crossed))
