"""``python -m hived``."""

import sys

from hived.cli import main

sys.exit(main())
