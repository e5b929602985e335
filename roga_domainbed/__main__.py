"""``python -m roga_domainbed`` is the console script ``roga-domainbed``."""

import sys

from roga_domainbed.cli import main

if __name__ == "__main__":
    sys.exit(main())
