"""Benchmarks: see README.md. Whatever imports torch here finds its allocator set as the engine wants it."""

import os

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
