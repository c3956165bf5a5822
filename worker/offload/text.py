"""The text side: prompts encoded once, embedding tables left in host memory, nothing that makes the host wait."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch

from worker.offload.device import Device


class PromptCache:
    """What depends on the prompt alone, in host memory: least recently used entries go first."""

    def __init__(self, device: Device, entries: int = 256) -> None:
        self._device, self._entries = device, entries
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self.hits = 0

    def get(self, key: Hashable) -> Any:
        """The value on the device, or None."""
        if key not in self._kept:
            return None
        self.hits += 1
        self._kept.move_to_end(key)
        return _map_tensors(self._kept[key], self._device.upload)

    def put(self, key: Hashable, value: Any) -> None:
        self._kept[key] = _map_tensors(value, self._device.to_host)
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept


def remember_prompts(pipe: Any, cache: PromptCache, note: Callable[[Hashable], None]) -> None:
    """Let `pipe.encode_prompt` answer from the cache; `note` is told each prompt's key."""
    original = pipe.encode_prompt

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
        cache.put(key, value)
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
        states = pipe.text_encoder(
            input_ids=upload(inputs.input_ids),
            attention_mask=upload(inputs.attention_mask.bool()),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states[-2]
        spans = [mask.nonzero().flatten() for mask in inputs.attention_mask]
        return [state[int(span[0]) : int(span[-1]) + 1].clone() for state, span in zip(states, spans, strict=True)]

    upload = device.upload
    pipe._encode_prompt = _encode_prompt


def gather_from_host(embedding: torch.nn.Embedding, device: Device) -> Callable[..., torch.Tensor]:
    """A forward for `embedding` whose table stays in host memory; the device reads only the rows it needs."""

    def forward(ids: torch.Tensor) -> torch.Tensor:
        return device.gather(embedding.weight.data, ids)

    return forward


def _tokenize(tokenizer: Any, prompts: list[str], length: int) -> Any:
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        for prompt in prompts
    ]
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
