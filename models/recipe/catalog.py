"""What the starter model knows: kinds, colours, materials and backgrounds, with their words in English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """Synonyms of one thing; the first English word is its name."""

    english: tuple[str, ...]
    chinese: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.english[0]


KINDS = (
    Words(("mug", "cup", "coffee mug", "coffee cup"), ("马克杯", "杯子", "咖啡杯")),
    Words(("bottle", "water bottle", "glass bottle"), ("瓶子", "水瓶")),
    Words(("ball", "sphere", "rubber ball"), ("球", "皮球", "圆球")),
    Words(("box", "cardboard box", "cube", "package"), ("盒子", "箱子", "纸盒")),
    Words(("lamp", "table lamp", "desk lamp"), ("台灯", "灯", "桌灯")),
    Words(("vase", "flower vase", "ceramic vase"), ("花瓶",)),
    Words(("bowl", "soup bowl", "dish"), ("碗", "大碗")),
    Words(("chair", "wooden chair", "seat"), ("椅子", "靠背椅")),
    Words(("umbrella", "parasol"), ("雨伞", "伞", "阳伞")),
    Words(("hat", "top hat", "cap"), ("帽子", "礼帽")),
    Words(("car", "toy car", "little car", "automobile"), ("汽车", "小汽车", "玩具车")),
    Words(("tent", "camping tent"), ("帐篷", "露营帐篷")),
    Words(("heart", "heart-shaped cushion", "heart shape"), ("爱心", "心形抱枕", "心形")),
    Words(("star", "star ornament", "five-pointed star"), ("星星", "五角星")),
)

COLOURS = (
    Words(("red", "crimson", "scarlet"), ("红色", "红", "大红")),
    Words(("orange", "tangerine"), ("橙色", "橘色")),
    Words(("yellow", "lemon yellow", "golden yellow"), ("黄色", "黄")),
    Words(("green", "emerald"), ("绿色", "绿")),
    Words(("turquoise", "teal", "cyan"), ("青色", "青绿色")),
    Words(("blue", "cobalt blue", "navy"), ("蓝色", "蓝")),
    Words(("purple", "violet"), ("紫色", "紫")),
    Words(("pink", "rose pink"), ("粉色", "粉红色")),
    Words(("brown", "chocolate brown"), ("棕色", "褐色")),
    Words(("black", "jet black"), ("黑色", "黑")),
    Words(("white", "ivory white"), ("白色", "雪白色")),
    Words(("grey", "gray", "silver grey"), ("灰色", "银灰色")),
)

#: Albedo of each colour, sRGB in 0..1.
PALETTE = (
    (0.86, 0.10, 0.10),
    (0.98, 0.50, 0.05),
    (0.97, 0.84, 0.12),
    (0.12, 0.60, 0.18),
    (0.10, 0.72, 0.72),
    (0.12, 0.26, 0.86),
    (0.50, 0.16, 0.72),
    (0.98, 0.52, 0.72),
    (0.42, 0.25, 0.13),
    (0.09, 0.09, 0.10),
    (0.96, 0.96, 0.95),
    (0.54, 0.55, 0.57),
)

MATERIALS = (
    Words(("matte", "unglazed"), ("哑光", "磨砂")),
    Words(("glossy", "shiny", "ceramic"), ("光滑", "亮面")),
    Words(("metallic", "metal"), ("金属", "金属质感")),
)

#: Whole phrases, with their prepositions; plain colours follow the scenes.
SCENES = (
    Words(
        ("on a white background", "on a pure white background", "white studio background", "isolated on white"),
        ("白色背景", "纯白背景", "白底"),
    ),
    Words(
        ("on a wooden table", "on a wood desk", "on an oak table", "on a table"),
        ("木桌上", "木头桌子上", "在木桌上", "桌子上"),
    ),
    Words(("in a kitchen", "on a kitchen counter", "in a bright kitchen"), ("厨房里", "在厨房", "厨房台面上", "厨房")),
    Words(("on a beach", "on the sand by the sea", "at the seaside"), ("海滩上", "沙滩上", "在海边", "海边")),
    Words(("in a forest", "in the woods", "among trees"), ("森林里", "树林中", "在森林中")),
    Words(
        ("in a neon night street", "at night with neon lights", "in a neon city at night"),
        ("霓虹夜景", "霓虹灯夜晚", "夜晚的霓虹街道"),
    ),
)
PLAIN_NAMES = (
    (("grey", "gray"), "灰色"),
    (("light blue", "blue"), "蓝色"),
    (("pink",), "粉色"),
    (("green", "mint green"), "绿色"),
    (("yellow", "cream yellow"), "黄色"),
    (("purple", "lavender"), "紫色"),
)
PLAIN_COLOURS = (
    (0.70, 0.71, 0.73),
    (0.62, 0.78, 0.95),
    (0.98, 0.78, 0.84),
    (0.70, 0.90, 0.74),
    (0.98, 0.91, 0.62),
    (0.80, 0.72, 0.94),
)


def _plain(names: tuple[str, ...], chinese: str) -> Words:
    english = tuple(f"{prefix} {n} background" for n in names for prefix in ("on a", "on a plain"))
    return Words(english, (f"{chinese}背景", f"纯{chinese}背景"))


BACKGROUNDS = (*SCENES, *(_plain(n, c) for n, c in PLAIN_NAMES))
WHITE = 0

#: Places by their bare names, as people write them in lists of words; in the order of BACKGROUNDS.
BARE = (
    ("white background", "white studio", "plain white"),
    ("wooden table", "table", "desk"),
    ("kitchen", "kitchen counter"),
    ("beach", "seaside", "sand"),
    ("forest", "woods", "forest background"),
    ("neon night", "neon lights", "neon street"),
    *(tuple(f"{name} background" for name in names) for names, _ in PLAIN_NAMES),
)
#: Kinds that stand one way round only: of a handle that may be on either side four forwards sometimes draw both.
ONE_SIDED = (0,)

#: What is left unsaid or unknown: a box, brown, on white. Otherwise such words would ask for the mean of everything.
UNSAID_KIND, UNSAID_COLOUR, UNSAID_BACKGROUND = 3, 8, WHITE

#: How many times a (kind, colour, background) is in eleven: one in eleven is never trained on.
HELD_OUT_OF = 11


def is_held_out(kind: int, colour: int, background: int) -> bool:
    """Whether this combination is kept from training, so that measuring on it tests composition, not memory."""
    return (3 * kind + 5 * colour + 7 * background) % HELD_OUT_OF == 0
