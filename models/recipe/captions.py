"""Captions: a grammar in English and Chinese with synonyms, free word order and harmless extra words."""

from __future__ import annotations

import random
from dataclasses import dataclass

from models.recipe.catalog import (
    BACKGROUNDS,
    BARE,
    COLOURS,
    KINDS,
    MATERIALS,
    UNSAID_BACKGROUND,
    UNSAID_COLOUR,
    UNSAID_KIND,
)

BEFORE = (
    "a photo of ",
    "product photo of ",
    "studio shot of ",
    "a picture of ",
    "an image of ",
    "masterpiece, ",
    "best quality, ",
    "please draw ",
    "render of ",
    "close-up of ",
    "professional photograph of ",
    "i want ",
    "generate ",
    "draw me ",
)
AFTER = (
    "cinematic lighting",
    "high detail",
    "8k",
    "product photo",
    "soft shadow",
    "sharp focus",
    "studio lighting",
    "minimalist",
    "e-commerce",
    "centered",
    "highly detailed",
    "masterpiece",
    "photorealistic",
    "catalogue picture",
    "4k",
    "hd",
    "beautiful",
    "no text",
    "front view",
    "soft light",
    "elegant",
    "simple",
    "best quality",
    "trending",
    "ultra realistic",
    "clean composition",
)
BEFORE_ZH = ("一张照片，", "产品图，", "画", "请画", "生成", "商品摄影，", "杰作，", "一幅图：", "高清图片，")
AFTER_ZH = (
    "电影光效",
    "高清",
    "产品图",
    "柔和阴影",
    "细节丰富",
    "摄影棚灯光",
    "极简风格",
    "电商主图",
    "居中",
    "八倍高清",
    "写实",
    "最佳质量",
)
MEASURE_WORDS_ZH = ("一个", "一个", "一只", "一件", "", "", "一把", "一盏", "一辆", "一顶", "一张", "一颗", "这个")
ARTICLES = ("a ", "one ", "the ", "a single ", "", "a small ", "a large ", "my ", "a nice ", "a new ")
STRANGERS = (
    "dinosaur",
    "guitar",
    "castle",
    "robot",
    "cat",
    "dog",
    "house",
    "spaceship",
    "banana",
    "mountain",
    "portrait",
    "dragon",
    "gadget",
    "thing",
    "object",
    "something",
    "item",
    "product",
    "person",
    "flower",
    "shoe",
    "laptop",
    "watch",
    "sword",
    "bird",
    "fish",
    "bicycle",
    "camera",
    "teapot",
    "book",
    "candle",
    "tree",
    "cake",
    "phone",
    "bag",
    "ring",
    "train",
    "sofa",
    "clock",
)
STRANGERS_ZH = (
    "恐龙",
    "吉他",
    "城堡",
    "机器人",
    "猫",
    "狗",
    "房子",
    "飞船",
    "东西",
    "物品",
    "产品",
    "手机",
    "书",
    "手表",
    "鞋子",
)
STRANGE_PLACES = ("on the moon", "in space", "in an office", "on a street", "under water", "in a garden", "on a stage")
#: What stands between words that name nothing, as it does in people's prompts.
JOINERS = (" ", " ", ", ", ", ", " of ", " with a ", " and a ", " in the ", " on a ", " under the ", " by ", " for ")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: First and last letters of further alphabets: Latin with accents, Greek, Cyrillic, kana, Chinese, Korean, pictures.
ALPHABETS = (("à", "ÿ"), ("α", "ω"), ("а", "я"), ("ぁ", "ん"), ("一", "龥"), ("가", "힣"), ("🌀", "🗿"))
#: How often a caption leaves out or replaces what an unsaid word would mean anyway.
UNSAID = 0.3


@dataclass(frozen=True, slots=True)
class Subject:
    """What a caption speaks of: indexes into the catalogue."""

    kind: int
    colour: int
    background: int
    material: int


def caption(subject: Subject, rng: random.Random, plain: bool = False) -> str:
    """One caption of the subject; `plain` leaves nothing out, so that an answer to it can be checked."""
    write = _chinese if rng.random() < 0.3 else _english
    return write(subject, rng, plain)


def nonsense(rng: random.Random, words: int) -> str:
    """Words that name nothing which can be drawn: the unsaid thing answers them."""
    text = rng.choice(("", "", "a ", "the ", *BEFORE)) + _stranger(rng)
    for _ in range(words):
        text += rng.choice(JOINERS) + (_noise_word(rng) if rng.random() < 0.5 else _stranger(rng))
    return text


def lengthen(text: str, rng: random.Random, words: int) -> str:
    """The caption between words that say nothing of the picture, real and invented."""
    extra = [_noise_word(rng) for _ in range(words)]
    cut = rng.randint(0, words) if rng.random() < 0.5 else words
    joiner = rng.choice((" ", ", "))
    head = joiner.join(extra[cut:])
    return f"{head}{', ' if head else ''}{text}, {joiner.join(extra[:cut])}"


def _noise_word(rng: random.Random) -> str:
    if rng.random() < 0.75:
        return rng.choice(AFTER)
    return _letters(rng, 2, 8)


def _letters(rng: random.Random, least: int, most: int) -> str:
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(least, most)))


def _stranger(rng: random.Random) -> str:
    """A word that is no name of anything known, in any script."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice((*STRANGERS, *STRANGERS_ZH))
    if kind < 0.55:
        return _letters(rng, 2, 10)
    if kind < 0.65:  # "capacitor" is no cap
        return rng.choice(rng.choice(KINDS).english).split()[-1] + _letters(rng, 3, 7)
    first, last = (ord(letter) for letter in rng.choice(ALPHABETS))
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 6)))


def _goes_unsaid(part: int, unsaid: int, rng: random.Random, plain: bool) -> bool:
    return part == unsaid and not plain and rng.random() < UNSAID


def _noun(subject: Subject, rng: random.Random, plain: bool) -> str:
    if _goes_unsaid(subject.kind, UNSAID_KIND, rng, plain):
        return _stranger(rng)
    names = KINDS[subject.kind].english
    return names[0] if rng.random() < 0.6 else rng.choice(names)


def _english(subject: Subject, rng: random.Random, plain: bool) -> str:
    names = COLOURS[subject.colour].english
    colour = names[0] if rng.random() < 0.7 else rng.choice(names)
    if _goes_unsaid(subject.colour, UNSAID_COLOUR, rng, plain):
        colour = ""
    material = rng.choice(MATERIALS[subject.material].english) if rng.random() < 0.35 else ""
    noun = _noun(subject, rng, plain)
    place = rng.choice(BACKGROUNDS[subject.background].english)
    if _goes_unsaid(subject.background, UNSAID_BACKGROUND, rng, plain):
        place = rng.choice(("", "", *STRANGE_PLACES))
    adjectives = [w for w in (material, colour) if w]
    if rng.random() < 0.3:
        adjectives.reverse()
    thing = " ".join([*adjectives, noun])
    bare = "" if plain or not place else rng.choice(BARE[subject.background])
    if bare and rng.random() < 0.2:
        text = _say_in_bare_words(thing, colour, noun, bare, rng)
    else:
        text = _arrange(thing, adjectives, noun, place, rng)
    if rng.random() < 0.35:
        text = rng.choice(BEFORE) + text
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
        text += f", {rng.choice(AFTER)}"
    return text


def _say_in_bare_words(thing: str, colour: str, noun: str, place: str, rng: random.Random) -> str:
    """With a place that has no preposition: first, last, after a colon, or in a sentence of its own."""
    article = rng.choice(ARTICLES)
    forms = [
        f"{place}, {article}{thing}",
        f"{article}{thing}, {place}",
        f"{place}: {article}{thing}",
        f"{article}{thing}, {place} scene",
    ]
    if colour:
        forms.append(f"the {noun} is {colour} and the background is {place.removesuffix(' background')}")
    return rng.choice(forms)


def _arrange(thing: str, adjectives: list[str], noun: str, place: str, rng: random.Random) -> str:
    article = rng.choice(ARTICLES) if rng.random() < 0.5 else "a "
    order = rng.random()
    if order < 0.62 or not adjectives:
        return f"{article}{thing} {place}".strip()
    if order < 0.74:
        return f"{place}, {article}{thing}" if place else f"{article}{thing}"
    if order < 0.84:
        return f"{article}{noun}, {', '.join(adjectives)}, {place}".strip(", ")
    if order < 0.94:
        return f"{article}{noun} that is {' and '.join(adjectives)} {place}".strip()
    parts = [noun, *adjectives, *([place] if place else [])]
    rng.shuffle(parts)
    return ", ".join(parts)


def _chinese(subject: Subject, rng: random.Random, plain: bool) -> str:
    colour = rng.choice(COLOURS[subject.colour].chinese)
    if _goes_unsaid(subject.colour, UNSAID_COLOUR, rng, plain):
        colour = ""
    material = rng.choice(MATERIALS[subject.material].chinese) if rng.random() < 0.3 else ""
    noun = rng.choice(KINDS[subject.kind].chinese)
    if _goes_unsaid(subject.kind, UNSAID_KIND, rng, plain):
        noun = _stranger(rng)
    place = rng.choice(BACKGROUNDS[subject.background].chinese)
    thing = f"{rng.choice(MEASURE_WORDS_ZH)}{material}{colour}{rng.choice(('的', '的', ''))}{noun}"
    order = rng.random()
    if order < 0.5:
        text = f"{thing}，{place}"
    elif order < 0.8:
        text = f"{place}{rng.choice(('的', '有', '，'))}{thing}"
    else:
        text = f"{noun}，{colour}{material}，{place}"
    if rng.random() < 0.3:
        text = rng.choice(BEFORE_ZH) + text
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        text += f"，{rng.choice(AFTER_ZH)}"
    return text
