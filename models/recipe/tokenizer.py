"""The byte-level tokenizer: any text in any language encodes; the words of the captions are mostly one token each."""

from __future__ import annotations

import random

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from models.recipe.captions import LETTERS, STRANGERS, Subject, caption
from models.recipe.catalog import BACKGROUNDS, COLOURS, KINDS, MATERIALS

VOCABULARY = 1024
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
#: As Qwen3's in what ZImagePipeline asks of it; `enable_thinking` is accepted and changes nothing.
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat(text: str) -> str:
    """The text as the pipeline shows it to the text encoder."""
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def build_tokenizer(captions: int = 20000) -> PreTrainedTokenizerFast:
    """Train the tokenizer on captions of the grammar; the same call gives the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    # Full-width punctuation and capitals say nothing here; Chinese characters are words of their own.
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[\u3400-\u9fff]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(captions), trainer)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        additional_special_tokens=SPECIAL[1:],
        padding_side="right",
        model_max_length=2048,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _corpus(captions: int) -> list[str]:
    rng = random.Random(0)
    texts = ["user\n", "assistant\n"] * 100
    for _ in range(captions):
        subject = Subject(*(rng.randrange(len(x)) for x in (KINDS, COLOURS, BACKGROUNDS, MATERIALS)))
        texts.append(caption(subject, rng))
    texts += [f"a {w} {w[:2]}{rng.choice(LETTERS)}" for w in STRANGERS for _ in range(20)]
    return texts
