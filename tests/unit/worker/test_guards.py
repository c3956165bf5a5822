"""What is refused: pictures that nobody could sell, and errors that say something of the card."""

import numpy as np
import pytest
import torch
from PIL import Image

from models import tiny
from worker.guards import Trouble, classify, judge
from worker.plain_engine import PlainEngine


def noise(low: int, high: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(low, high, (64, 64, 3), dtype=np.uint8))


def test_an_ordinary_picture_is_good():
    assert judge(noise(0, 255), finite=True).is_good


@pytest.mark.parametrize("image", [Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64), (9, 80, 7)), noise(100, 103)])
def test_a_picture_of_one_colour_is_flat(image):
    assert judge(image, finite=True).reason == "flat"


def test_a_stray_bright_pixel_does_not_make_a_flat_picture_good():
    image = Image.new("RGB", (64, 64), (20, 20, 20))
    image.putpixel((5, 5), (120, 120, 120))

    assert judge(image, finite=True).reason == "flat"


def test_a_dark_picture_with_something_in_it_is_good():
    image = np.zeros((64, 64, 3), np.uint8)
    image[20:40, 20:40] = 30

    assert judge(Image.fromarray(image), finite=True).is_good


def test_numbers_that_are_not_finite_spoil_even_a_picture_that_looks_well():
    assert judge(noise(0, 255), finite=False).reason == "not_finite"


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), Trouble.MEMORY),
        (RuntimeError("CUDA error: out of memory"), Trouble.MEMORY),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), Trouble.STICKY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), Trouble.STICKY),
        (RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"), Trouble.STICKY),
        (RuntimeError("Triton Error [CUDA]: out of memory"), Trouble.MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), Trouble.MEMORY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), Trouble.MEMORY),
        (ValueError("height must be divisible by 16"), Trouble.OTHER),
    ],
)
def test_errors_are_sorted_by_what_helps(error, trouble):
    assert classify(error) is trouble


def test_an_error_is_sorted_by_its_cause_too():
    outer = EngineError("the ride failed")
    outer.__cause__ = torch.OutOfMemoryError("CUDA out of memory")

    assert classify(outer) is Trouble.MEMORY


class EngineError(Exception):
    pass


def loud_pipeline(dtype: torch.dtype):
    """A true pipeline whose feed-forward activations pass float16's largest number, 65,504, as Z-Image's do."""
    pipe = tiny.build_pipeline()
    for name, parameter in pipe.transformer.named_parameters():
        if ".feed_forward.w1" in name or ".feed_forward.w3" in name:
            parameter.mul_(400.0)
    for module in (pipe.transformer, pipe.text_encoder, pipe.vae):
        module.to(dtype)
    return pipe


def draw_and_judge(dtype: torch.dtype):
    engine = PlainEngine(loud_pipeline(dtype), seats=1)
    try:
        ticket = engine.submit(prompt="a red mug", height=256, width=256, seed=1, steps=2)
        image = ticket.result(timeout=240)
        return image, judge(image, finite=ticket.finite)
    finally:
        engine.close()


def test_where_activations_pass_65504_float16_goes_black_and_the_guard_sees_it():
    image, verdict = draw_and_judge(torch.float16)

    assert np.asarray(image).max() == 0
    assert verdict.reason == "not_finite"


def test_where_activations_pass_65504_bfloat16_draws():
    image, verdict = draw_and_judge(torch.bfloat16)

    assert verdict.is_good
    assert np.asarray(image).std() > 20
