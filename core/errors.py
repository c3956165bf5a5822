"""Every error that zimg raises on purpose.

ZimgError
├── ConfigurationError        a setting is wrong; says which and what to write instead
├── Refusal                   the caller must change something (4xx)
│   ├── InvalidRequest        names the field
│   │   └── ExceedsLimits     more at once than the limits ever allow
│   ├── Unauthenticated / Forbidden
│   ├── NotFound / Gone
│   ├── IdempotencyMismatch   the same key with another body
│   ├── ListStopped           canceled while it came in
│   └── OverLimit             has retry_after_seconds
│       ├── RateLimited       too fast
│       ├── QuotaExceeded     the day's units are used up
│       ├── QueueFull         too many jobs of this tenant wait
│       └── TooManyStreams    this tenant holds its share of the long waits
├── Unavailable               ours to mend, try later (503, has retry_after_seconds)
│   ├── RedisUnavailable / StorageUnavailable
│   ├── Overloaded            the whole service's queue is full, or too many streams
│   ├── NoWorker              nobody alive to draw
│   └── Draining              the operator lets a lane or a tenant run empty
└── JobFailure                a run did not end well; the class says whether to try again
    ├── RetryableFailure      StorageFailure, EngineFailure, OutOfMemory, BlackImage, LeaseLost
    └── PermanentFailure      InvalidPrompt, …
"""

from __future__ import annotations

from core.job import Failure


class ZimgError(Exception):
    """Base of all. `code` is stable and machine-readable; str() is a sentence that says what to do."""

    code = "internal_error"


class ConfigurationError(ZimgError):
    """Raised at start when a setting can not work."""

    code = "configuration_error"


class Refusal(ZimgError):
    """Raised when the caller has to change something; nothing was stored, nothing charged."""

    code = "invalid_request"


class InvalidRequest(Refusal):
    """Raised for a body, parameter or header that is not of the API's form."""

    def __init__(self, message: str, *, field: str | None = None, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.field = field
        self.code = code


class ExceedsLimits(InvalidRequest):
    """Raised for a call that would be over a limit even if nothing were used and nothing waited: no waiting helps.

    `why` says which limit, `most` how many pictures fit at once.
    """

    def __init__(self, why: str, *, most: int, field: str, unit: str = "") -> None:
        todo = f"send at most {most}{unit} at once." if most > 0 else "tell the operator that you need more."
        super().__init__(f"{why}; {todo}", field=field, code="exceeds_limits")
        self.why = why
        self.most = most

    def in_rows(self, pictures_a_row: int, *, field: str) -> ExceedsLimits:
        """The same refusal for a list, whose sender counts rows."""
        rows = self.most // pictures_a_row
        return ExceedsLimits(self.why, most=rows, field=field, unit=" row" if rows == 1 else " rows")


class Unauthenticated(Refusal):
    """Raised when a key is needed and none, or an unknown one, was sent."""

    code = "invalid_api_key"


class Forbidden(Refusal):
    """Raised when the key is known but may not do this."""

    code = "forbidden"


class NotFound(Refusal):
    """Raised for an id that this tenant never had."""

    code = "not_found"


class Gone(Refusal):
    """Raised for something that existed and was removed."""

    code = "gone"


class IdempotencyMismatch(Refusal):
    """Raised when an Idempotency-Key comes again with another body."""

    code = "idempotency_key_reuse"


class ListStopped(Refusal):
    """Raised while a long list comes in and its tenant's work is canceled: what is stored of it is canceled too."""

    code = "conflict"


class OverLimit(Refusal):
    """Base of the limits; `retry_after_seconds` is when the same call can succeed."""

    code = "over_limit"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RateLimited(OverLimit):
    """Raised when a tenant submits faster than its burst allows."""

    code = "rate_limit_exceeded"


class QuotaExceeded(OverLimit):
    """Raised when the day's units are used or reserved."""

    code = "quota_exceeded"


class QueueFull(OverLimit):
    """Raised when a tenant has too many jobs waiting."""

    code = "queue_full"


class TooManyStreams(OverLimit):
    """Raised when a tenant holds its share of the streams and waiting calls that may be open at once."""

    code = "too_many_streams"


class Unavailable(ZimgError):
    """Base of what is ours to mend; nothing was accepted."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RedisUnavailable(Unavailable):
    """Raised when Redis did not answer in time or refused a write."""

    code = "redis_unavailable"


class StorageUnavailable(Unavailable):
    """Raised when the S3 storage did not answer in time."""

    code = "storage_unavailable"


class Overloaded(Unavailable):
    """Raised when the service as a whole can take no more work or no more open streams."""

    code = "overloaded"


class NoWorker(Unavailable):
    """Raised at submit when no worker has lived for a while and at least one is required."""

    code = "no_worker"


class Draining(Unavailable):
    """Raised at submit while the operator lets a lane or a tenant run empty."""

    code = "draining"


class JobFailure(ZimgError):
    """Base of a run's bad ends."""

    retryable = False

    def as_failure(self) -> Failure:
        """The value that is stored with the job."""
        return Failure(code=self.code, message=str(self), retryable=self.retryable)


class RetryableFailure(JobFailure):
    """Raised when another try may end better."""

    code = "engine_failed"
    retryable = True


class StorageFailure(RetryableFailure):
    """Raised when the finished picture could not be stored."""

    code = "storage_failed"


class EngineFailure(RetryableFailure):
    """Raised when the pipeline failed for a reason that is not the request's."""

    code = "engine_failed"


class OutOfMemory(RetryableFailure):
    """Raised when the GPU had no room left even after the plan shrank."""

    code = "out_of_memory"


class BlackImage(RetryableFailure):
    """Raised when latents were not finite or the picture was flat, twice."""

    code = "black_image"


class LeaseLost(RetryableFailure):
    """Raised inside a worker when somebody else holds the job now; the work is dropped, never reported."""

    code = "lease_lost"


class JobCanceled(JobFailure):
    """Raised inside a worker when the owner asked to stop."""

    code = "canceled"


class PermanentFailure(JobFailure):
    """Raised when no further try can help."""

    code = "generation_failed"
