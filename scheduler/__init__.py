"""Decides whether, when and again: submission, quota, fingerprint, fair release, reaper. Never imports torch or Flask."""
