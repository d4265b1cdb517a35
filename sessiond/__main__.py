"""`python -m sessiond`, and the console script."""

import sys

from sessiond import cli


def main() -> None:
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
