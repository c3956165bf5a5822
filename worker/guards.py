"""Is this picture fit to be sold? Non-finite numbers and flat pictures mean that the arithmetic went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from PIL import Image, ImageStat

from worker.offload.card_memory import is_out_of_memory
from worker.offload.ticket import CarouselEnded

#: Standard deviation of the 8-bit values in every channel, below which nobody could see anything.
FLAT_SPREAD = 2.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is "" for a good picture, else not_finite or flat."""

    reason: str

    @property
    def is_good(self) -> bool:
        return self.reason == ""


def judge(image: Image.Image, *, finite: bool) -> Verdict:
    """Judge a picture; `finite` says whether its latents and pixels were, before they became bytes."""
    if not finite:
        return Verdict("not_finite")
    return Verdict("flat") if is_flat(image) else Verdict("")


def is_flat(image: Image.Image) -> bool:
    """Whether all pixels are as good as one colour, in every channel."""
    # From histograms: a millisecond, where arrays of a megapixel took seventy.
    return max(ImageStat.Stat(image).stddev) < FLAT_SPREAD


class Trouble(StrEnum):
    """What an exception of the pipeline says about the card."""

    MEMORY = "memory"  # no room: free, shrink, try again
    STICKY = "sticky"  # the CUDA context or the engine is lost: only a new process helps
    OTHER = "other"


#: Errors after which every further call in this process fails too.
STICKY_WORDS = (
    "CUDA error",
    "Triton Error [CUDA]",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUDA driver error",
    "device-side assert",
)


def classify(error: BaseException) -> Trouble:
    """Sort an exception, or the one that caused it."""
    for one in (error, error.__cause__, error.__context__):
        if one is None:
            continue
        text = str(one)
        if isinstance(one, CarouselEnded):  # whatever ended it
            return Trouble.STICKY
        if is_out_of_memory(one):
            return Trouble.MEMORY
        if type(one).__name__ == "AcceleratorError" or any(word in text for word in STICKY_WORDS):
            return Trouble.STICKY
    return Trouble.OTHER
