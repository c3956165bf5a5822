"""The `zimg` command and a small Python client: HTTP only."""
