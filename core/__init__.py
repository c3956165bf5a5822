"""What zimg's processes agree on: jobs, errors, settings, and the doors to Redis, S3 and Celery."""

__version__ = "0.1.0"
