# SPDX-License-Identifier: MIT
"""`python -m libbnb` is the command line."""

from libbnb.cli import main

main()
