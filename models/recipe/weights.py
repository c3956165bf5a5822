"""The weights that one stage trains, in one buffer: a kernel each clears gradients, clips, updates and averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

#: Numbers between two parameters' starts are a multiple of this, so that every one starts where wide loads can.
ALIGNMENT = 64
LARGEST_GRADIENT = 1.0


class Weights:
    """Parameters kept in float32, worn by their modules in `dtype`, trained by AdamW and averaged over the steps.

    From the constructor to `settle` the modules' parameters and gradients are views of the buffers. `update` waits
    for nothing on the host, so it can be recorded into a CUDA graph; rate and memory are tensors that it reads.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], dtype: torch.dtype, weight_decay: float) -> None:
        self.parameters = list(parameters)
        device = self.parameters[0].device
        starts, total = [], 0
        for parameter in self.parameters:
            starts.append(total)
            total += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        self._starts = starts
        self.master = nn.Parameter(torch.zeros(total, device=device))
        self.master.grad = torch.zeros_like(self.master)
        self._worn = torch.zeros(total, dtype=dtype, device=device)
        self._gradient = torch.zeros_like(self._worn)
        self._take_over()
        self.average = self.master.detach().clone()
        self.rate, self.forget = torch.zeros((), device=device), torch.ones((), device=device)
        self._optimizer = torch.optim.AdamW(
            [self.master],
            lr=self.rate,
            betas=(0.9, 0.95),
            weight_decay=weight_decay,
            fused=True,
            capturable=device.type == "cuda",
        )

    def _views(self, buffer: Tensor) -> list[Tensor]:
        """The buffer's part of each parameter, in its shape."""
        pairs = zip(self.parameters, self._starts, strict=True)
        return [buffer[start : start + p.numel()].view(p.shape) for p, start in pairs]

    @torch.no_grad()
    def _take_over(self) -> None:
        views = (self._views(b) for b in (self.master.detach(), self._worn, self._gradient))
        for parameter, master, worn, gradient in zip(self.parameters, *views, strict=True):
            master.copy_(parameter)
            worn.copy_(parameter)
            parameter.data = worn
            parameter.grad = gradient

    def set_pace(self, rate: float, forget: float) -> None:
        """The learning rate of the next updates and the share of the average that one of them replaces."""
        self.rate.fill_(rate)
        self.forget.fill_(forget)

    @torch.no_grad()
    def update(self) -> None:
        """Apply and clear the gradients; where one isn't finite it counts as zero, so no step ruins a run."""
        gradient = self.master.grad
        assert gradient is not None
        gradient.copy_(self._gradient).nan_to_num_(0.0, 0.0, 0.0)
        gradient.mul_((LARGEST_GRADIENT / (torch.linalg.vector_norm(gradient) + 1e-6)).clamp(max=1.0))
        self._optimizer.step()
        self._worn.copy_(self.master)
        self.average.lerp_(self.master.detach(), self.forget)
        self._gradient.zero_()

    @torch.no_grad()
    def settle(self) -> None:
        """Give the modules their average in float32, in memory of its own, and no gradients."""
        for parameter, value in zip(self.parameters, self._views(self.average), strict=True):
            parameter.grad = None
            parameter.data = value.clone()

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on as if nothing had happened."""
        return {
            "master": self.master.detach(),
            "average": self.average,
            "optimizer": self._optimizer.state_dict(),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.master.copy_(state["master"])
        self._worn.copy_(self.master)
        self.average.copy_(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._optimizer.param_groups[0]["lr"] = self.rate  # loading puts a copy there, which nobody would turn
