"""The text side: prompts encoded once, embedding tables left in host memory, nothing that makes the host wait."""

from __future__ import annotations

import bisect
import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch

from worker.offload.blocks import is_passed_by
from worker.offload.device import Device

#: Host bytes for what depends on prompts alone: some twelve of the longest captions of Z-Image, or 75 short ones.
CACHE_BYTES = 64 << 20
ALIGNMENT = 64
#: What prompts of a wanted length are filled with.
FILLING = "and more "


class PromptCache:
    """What depends on the prompt alone, in one pinned stretch of host memory that is written round and round.

    An entry lives until the writing comes round to it. The stretch is made once, because pinning memory while pictures
    are being drawn stalls the device. Reads and writes are ordered in the compute stream.
    """

    def __init__(self, device: Device, nbytes: int = CACHE_BYTES) -> None:
        self._device, self._nbytes = device, nbytes
        self._shelf: torch.Tensor | None = None
        self._end = 0
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._spans: dict[Hashable, tuple[int, int]] = {}
        self.hits = 0
        self.forgettings = 0
        self.rests = False  # nothing is kept while host memory is short: as long as a start compiles

    def get(self, key: Hashable) -> Any:
        """The value on the device, or None."""
        if key not in self._kept:
            return None
        self.hits += 1
        return _map_tensors(self._kept[key], self._device.upload)

    def put(self, key: Hashable, value: Any, since: int = 0) -> None:
        """Keep a copy of `value`, unless it is larger than the cache or is kept already.

        `since`: how often all was forgotten when its ride began; what rode in a refresh may be spoilt and is not kept.
        """
        if self.rests or since < self.forgettings:
            return
        sizes: list[int] = []
        _map_tensors(value, lambda tensor: sizes.append(_room_for(tensor)) or tensor)  # type: ignore[func-returns-value]
        if key in self._kept or sum(sizes) > self._nbytes:
            return
        start = self._clear(sum(sizes))
        kept = _map_tensors(value, _Writer(self.open_shelf(), start, self._device).write)
        self._spans[key], self._kept[key] = (start, self._end), kept

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def forget(self) -> None:
        """Know no prompt any more: what was computed with spoilt weights is spoilt."""
        self._kept.clear()
        self._spans.clear()
        self.forgettings += 1

    def close(self) -> None:
        self.forget()
        if self._shelf is not None:
            self._device.unpin(self._shelf)

    def open_shelf(self) -> torch.Tensor:
        """The stretch; made now if need be."""
        if self._shelf is None:
            self._shelf = self._device.pinned_room(self._nbytes)
        return self._shelf

    def _clear(self, nbytes: int) -> int:
        """Make room for `nbytes` in a row; returns where it starts."""
        start = self._end if self._end + nbytes <= self._nbytes else 0
        self._end = start + nbytes
        for key, (first, last) in list(self._spans.items()):
            if first < self._end and last > start:
                del self._kept[key], self._spans[key]
        return start


class _Writer:
    """Puts tensors one after another into the shelf."""

    def __init__(self, shelf: torch.Tensor, at: int, device: Device) -> None:
        self._shelf, self._at, self._device = shelf, at, device

    def write(self, tensor: torch.Tensor) -> torch.Tensor:
        nbytes = tensor.numel() * tensor.element_size()
        place = self._shelf[self._at : self._at + nbytes].view(tensor.dtype).view(tensor.shape)
        self._at += _room_for(tensor)
        self._device.to_host(tensor, place)
        return place


def remember_prompts(pipe: Any, cache: PromptCache, note: Callable[[Hashable], None]) -> None:
    """Let `pipe.encode_prompt` answer from the cache; `note` is told each prompt's key."""
    original, since = pipe.encode_prompt, cache.forgettings

    @functools.wraps(original)
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        key = _key_of((args, tuple(sorted(kwargs.items()))))
        if key is None:
            return original(*args, **kwargs)
        note(key)
        known = cache.get(key)
        if known is not None:
            return known
        value = original(*_copy_lists(args), **{name: _copy_lists(value) for name, value in kwargs.items()})
        cache.put(key, value, since)
        return value

    pipe.encode_prompt = encode_prompt


def encode_without_waiting(pipe: Any, device: Device) -> None:
    """Z-Image's `_encode_prompt`, with caption lengths taken from the host's own mask: no wait for the GPU."""

    def _encode_prompt(
        prompt: str | list[str],
        device: Any = None,
        prompt_embeds: Any = None,
        max_sequence_length: int = 512,
    ) -> Any:
        if prompt_embeds is not None:
            return prompt_embeds
        inputs = _tokenize(pipe.tokenizer, [prompt] if isinstance(prompt, str) else prompt, max_sequence_length)
        encoder = pipe.text_encoder
        ends_early = _ends_early(encoder)
        output = encoder(
            input_ids=upload(inputs.input_ids),
            attention_mask=_ready_mask(encoder, inputs.attention_mask.bool(), upload),
            output_hidden_states=not ends_early,  # all of them would be kept: 92 MB a rider
            use_cache=False,
        )
        states = output.last_hidden_state if ends_early else output.hidden_states[-2]
        spans = [mask.nonzero().flatten() for mask in inputs.attention_mask]
        return [state[int(span[0]) : int(span[-1]) + 1].clone() for state, span in zip(states, spans, strict=True)]

    upload = device.upload
    pipe._encode_prompt = _encode_prompt


def _ends_early(encoder: Any) -> bool:
    """Whether what the encoder puts out is the output of its last layer but one, all beyond being passed by."""
    layers, norm = getattr(encoder, "layers", None), getattr(encoder, "norm", None)
    return layers is not None and norm is not None and is_passed_by(layers[-1]) and is_passed_by(norm)


def _ready_mask(encoder: Any, mask: torch.Tensor, upload: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The mask that the encoder would make of this one on the device, where it would wait to see whether it is full.

    Made on the host it has the same values; None stands for a causal mask alone, as the encoder does for a full one.
    """
    if getattr(encoder.config, "_attn_implementation", None) != "sdpa":
        return upload(mask)
    if bool(mask.all()):
        return None
    length = mask.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return upload(causal[None, None] & mask[:, None, None, :])


def gather_from_host(embedding: Any, device: Device) -> Callable[..., torch.Tensor]:
    """A forward for an `nn.Embedding` whose table stays in host memory; the device reads only the rows it needs."""

    def forward(ids: torch.Tensor) -> torch.Tensor:
        return device.gather(embedding.weight.data, ids)

    return forward


def prompt_of_length(pipe: Any, start: str, tokens: int) -> str:
    """A prompt that begins with `start` and has about `tokens` tokens for `pipe`, never more than fit its encoder."""
    tokenizer = getattr(pipe, "tokenizer", None)
    if tokenizer is None or getattr(tokenizer, "chat_template", None) is None:
        return start + "a long caption " * (tokens // 3)

    def count_of(more: int) -> int:
        return len(tokenizer(_templated(tokenizer, start + FILLING * more)).input_ids)

    most = bisect.bisect_right(range(tokens), tokens, key=count_of) - 1  # longer prompts have more tokens
    return start + FILLING * max(most, 0)


def _templated(tokenizer: Any, prompt: str) -> Any:
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=True
    )


def _tokenize(tokenizer: Any, prompts: list[str], length: int) -> Any:
    texts = [_templated(tokenizer, prompt) for prompt in prompts]
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")


def _key_of(value: Any) -> Hashable | None:
    """A hashable stand-in for plain arguments; None when there is a tensor or another object among them."""
    if isinstance(value, tuple | list):
        parts = tuple(_key_of(item) for item in value)
        return None if any(part is None for part in parts) else (type(value).__name__, *parts)
    if value is None or isinstance(value, str | int | float | torch.device):
        return (type(value).__name__, str(value))
    return None


def _copy_lists(value: Any) -> Any:
    """Lists are copied, since pipelines write templated prompts into the caller's."""
    if isinstance(value, list):
        return [_copy_lists(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_copy_lists(item) for item in value)
    return value


def _map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_map_tensors(item, change) for item in value)
    return value


def _room_for(tensor: torch.Tensor) -> int:
    return -(-tensor.numel() * tensor.element_size() // ALIGNMENT) * ALIGNMENT
