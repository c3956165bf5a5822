"""Tests of the queue with real servers and processes."""
