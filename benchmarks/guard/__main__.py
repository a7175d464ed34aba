"""`python -m benchmarks.guard`."""

import sys

from benchmarks.guard import main

sys.exit(main())
