"""`python -m balancer`, and the console script."""

import sys

from balancer import cli


def main() -> None:
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
