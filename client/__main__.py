"""`python -m client` is the `zimg` command."""

from .command import main

main()
