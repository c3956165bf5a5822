"""Decides whether, when and again: submission, quota, fingerprint, fair release, reaper. No torch, no Flask."""
