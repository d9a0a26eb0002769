"""`python -m kseq`: the commands."""

import sys

from .cli import main

sys.exit(main())
