"""Texts of all kinds, and where it stands what vocabularies make of them."""

from pathlib import Path

FOLDER = Path(__file__).parent / "goldens" / "vocabularies"
TEXTS = (
    "Hello world",
    "",
    " ",
    "  a space before, two behind  ",
    "one  two   three",
    "lines\nand\t\ttabs\r\n\n\n",
    "ünïcödé Ärger straße",
    "日本語 中文 한국어 العربية עברית हिन्दी",
    "😀 👩‍👩‍👧‍👦 🇩🇪",
    "e\u0301 decomposed, ﬁ a ligature, Ⅷ and ①, \uff46\uff55\uff4c\uff4c width",
    "aaaaaaaaaaaaaaa ababababab",
    "def f(x):\n    return x ** 2  # code",
    "1234567890 3.14159 1,000,000",
    "don't I'LL we've",
    "\ufeffa mark, \u200b no width, \u00a0 no break, \x7f",
    "▁▁ what stands for a space ▁",
    " " * 37,
    "--------====____",
    "The cache holds keys and values of each head for some tokens.",
)
