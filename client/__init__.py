"""The `zimg` command and a small typed Python client: HTTP only."""

from .client import Job, Picture, Zimg, ZimgProblem

__version__ = "0.1.0"
__all__ = ["Job", "Picture", "Zimg", "ZimgProblem"]
