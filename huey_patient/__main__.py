"""``python -m huey_patient``: the same as the command ``huey_patient``."""

import sys

from .cli import main

sys.exit(main())
