"""`zimg doctor`: what of this machine and its services would keep zimg from working, and what to do about it."""
