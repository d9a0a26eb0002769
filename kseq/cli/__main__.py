"""`python -m kseq.cli`, where the `kseq` script is not on the path."""

import sys

from . import main

sys.exit(main())
