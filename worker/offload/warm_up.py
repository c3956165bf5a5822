"""The pictures that are ridden before anybody is served: they compile, measure, and fill the house."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from worker.offload.stopwatch import Stopwatch
from worker.offload.text import prompt_of_length
from worker.offload.ticket import Order

if TYPE_CHECKING:
    from worker.offload.carousel import Options

#: The second step is the first that uses what was kept of the prompt.
STEPS = 2
#: Longer than any text encoder reads.
OVERLONG = "and more " * 700


class WarmUp:
    """Rides by the sizes and caption lengths that `options` name. `ride` draws pictures together, here and now.

    `tidy` gives back what compiling left in host memory: after each ride that compiles, else it adds up.
    """

    def __init__(
        self,
        pipe: Any,
        options: Options,
        ride: Callable[[list[Order]], None],
        watch: Stopwatch,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        self._pipe, self._options, self._draw, self._watch, self._tidy = pipe, options, ride, watch, tidy
        self._count = 0

    def named(self) -> None:
        """Every size with every caption length, one after another."""
        for (height, width), tokens in self._pairs:
            self._ride(f"{height} x {width}, {tokens} tokens", self._order(height, width, tokens))
            self._tidy()

    def together(self, seats: int) -> None:
        """All that is named and all that is not at once, and at least a full house, where forms are known already."""
        self._ride("together", *self.everything(seats))

    def everything(self, seats: int = 1) -> list[Order]:
        """All that is named, as often as there are seats at least, and all that is not; one takes a second step."""
        pairs = [self._pairs[at % len(self._pairs)] for at in range(max(len(self._pairs), seats))]
        orders = [self._order(*size, tokens) for size, tokens in pairs] + [order for _, order in self._unnamed()]
        return [orders[0], *(replace(order, steps=1) for order in orders[1:])]

    @property
    def _pairs(self) -> list[tuple[tuple[int, int], int]]:
        return [(size, tokens) for size in self._options.warm_up for tokens in self._options.captions]

    def house(self, seats: int) -> None:
        """A full house of the largest pictures."""
        self._ride("a full house", *[self.longest() for _ in range(seats)])

    def mixed(self, seats: int, pictures: int) -> None:
        """More pictures than there are seats, of all caption lengths; one of no named size, one of no named length."""
        height, width = self._options.warm_up[0]
        lengths = [self._options.captions[at % len(self._options.captions)] for at in range(max(pictures, seats))]
        self._ride(
            "mixed", *[self._order(height, width, tokens) for tokens in lengths], self._odd(), self._odd_caption()
        )

    def unnamed(self) -> None:
        """Sizes and lengths that were not named compile their common form; so does a prompt that is too long."""
        for name, order in self._unnamed():
            self._ride(name, order)
            self._tidy()

    def _unnamed(self) -> Iterator[tuple[str, Order]]:
        order = self._odd()
        yield "one", order
        yield "a token more", self._odd_caption()  # a table cut short is laid out otherwise
        if self._options.guided:
            for prompt in (order.prompt, "a"):  # longer than the empty second prompt, and as long
                yield "guided", replace(order, prompt=prompt, guidance_scale=2.0)
        yield "too long a prompt", replace(order, prompt=f"{order.prompt} {OVERLONG}")

    def _ride(self, name: str, *orders: Order) -> None:
        with self._watch.part(name):
            self._draw(list(orders))

    def longest(self) -> Order:
        """The picture that takes most memory."""
        return self._order(*self._options.warm_up[0], max(self._options.captions))

    def usual(self) -> Order:
        """A picture of the largest size with a usual caption."""
        return self._order(*self._options.warm_up[0], min(self._options.captions))

    def _odd(self) -> Order:
        """A picture of a size and a caption length that were not named."""
        height, width = min(self._options.warm_up)
        odd = (height, max(width - 32, 32)) if height == width else (min(height, width), max(height, width))
        return self._order(*odd, max(min(self._options.captions) - 64, 40))

    def _odd_caption(self) -> Order:
        """The largest picture, with a caption of no named length: the form for any shape takes other memory."""
        height, width = self._options.warm_up[0]
        order = self._odd()
        return replace(order, prompt=f"{order.prompt} a", height=height, width=width)

    def _order(self, height: int, width: int, tokens: int) -> Order:
        """A picture whose text is not in the cache."""
        self._count += 1
        prompt = prompt_of_length(self._pipe, f"{self._count:03} ", tokens)  # a longer number is a token longer
        return Order(prompt=prompt, height=height, width=width, seed=0, steps=STEPS)
