"""``python -m huey_patient``: the same as the command ``huey_patient``."""

import sys

from .cli import main

arguments = sys.argv[1:]
# Huey restarts itself (SIGHUP) by running ``sys.argv`` again; the path of this
# file, which stands there, would not find the package it belongs to.
sys.argv[:1] = ["-m", "huey_patient"]
sys.exit(main(arguments))
