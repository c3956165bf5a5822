"""Use the engine without the service: any diffusers pipeline within a byte budget.

python examples/offload_alone.py Tongyi-MAI/Z-Image-Turbo "a lighthouse in fog" lighthouse.png
"""

import sys

import torch
from diffusers import DiffusionPipeline

from worker.offload import Carousel

model, prompt, file = sys.argv[1:4]
size = int(sys.argv[4]) if len(sys.argv) > 4 else 1024
pipe = DiffusionPipeline.from_pretrained(model, torch_dtype=torch.bfloat16 if torch.cuda.is_available() else None)
with Carousel(pipe, vram_budget_gib=5.8, warm_up=((size, size),)) as carousel:
    print(carousel.plan)
    ticket = carousel.submit(prompt=prompt, height=size, width=size, seed=1, steps=4)
    ticket.result(timeout=600).save(file)
