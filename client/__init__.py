"""The `zimg` command and a small typed Python client: HTTP only."""

from .client import Job, Picture, Zimg, ZimgProblem
from .webhook_calls import Attempt, Delivery

__version__ = "0.1.0"
__all__ = ["Attempt", "Delivery", "Job", "Picture", "Zimg", "ZimgProblem"]
