"""`python -m client` is the `zimg` command."""

from client.command import main

main()
