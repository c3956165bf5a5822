"""A carousel of weights: unmodified diffusers pipelines in a small byte budget of GPU memory, lossless bf16."""

from worker.offload.carousel import Carousel, Options
from worker.offload.host_weights import TooLittleMemory, drop_stores, folder_identity
from worker.offload.plan import ImpossibleBudget, Plan
from worker.offload.strategies import Stage, Strategy
from worker.offload.ticket import CarouselEnded, Ticket, TicketCanceled

__all__ = [
    "Carousel",
    "CarouselEnded",
    "ImpossibleBudget",
    "Options",
    "Plan",
    "Stage",
    "Strategy",
    "Ticket",
    "TicketCanceled",
    "TooLittleMemory",
    "drop_stores",
    "folder_identity",
]
