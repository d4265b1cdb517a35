"""How the supervisor starts a worker: ``python -m balancer.workers CHANNEL LISTENING…``, all file descriptors."""

import sys

from balancer.workers.worker import main

if __name__ == "__main__":
    channel, *listening = map(int, sys.argv[1:])
    sys.exit(main(channel, listening))
