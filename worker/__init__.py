"""Runs jobs on one GPU. Empty on purpose: importing worker.offload must not load Celery."""
