"""The prompt as a small caption: a font that has its letters, wrapped to the picture's width."""

import unicodedata

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK = (52, 60, 74)
LINES = 3
FONTS = (  # asked for by name wherever the system keeps its fonts; Pillow's own knows little beyond ASCII
    "DejaVuSans.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "msyh.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
)


def draw_caption(image: Image.Image, text: str) -> None:
    """Write `text` at the lower left of an RGB or RGBA picture, at most three lines of it."""
    text = " ".join(text.split())
    if not text:
        return
    height = max(12, round(min(image.size) / 32))
    font, text = _font_for(text, height)
    margin = height
    lines = _wrap(text, font, image.width - 2 * margin)
    top = image.height - margin - round(1.35 * height * len(lines))
    ImageDraw.Draw(image).multiline_text((margin, top), "\n".join(lines), INK, font, spacing=round(0.35 * height))


def caption_overlay(width: int, height: int, text: str) -> tuple[np.ndarray, np.ndarray]:
    """The caption of a picture, its lowest rows only: colour (rows, width, 3) and opacity (rows, width, 1)."""
    layer = Image.new("RGBA", (width, height), (*INK, 0))
    draw_caption(layer, text)
    box = layer.getchannel("A").getbbox()
    pixels = np.asarray(layer, dtype=np.float32)[box[1] if box else height :]
    return pixels[..., :3], pixels[..., 3:] / 255


def _font_for(text: str, height: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """The font that knows most letters of the text, and the text with the others replaced."""
    default = ImageFont.load_default(height)
    letters = sorted(set(text))
    fonts = (default, *(() if all(_has(default, letter) for letter in letters) else _system_fonts(height)))
    font = max(fonts, key=lambda font: sum(_has(font, letter) for letter in letters))  # the first of the best
    return font, "".join(_replacement(font, letter) for letter in text)


def _replacement(font: ImageFont.FreeTypeFont, letter: str) -> str:
    """The letter itself, or what is left of it without its accents, or a question mark."""
    plain = unicodedata.normalize("NFKD", letter)[:1]
    return next((x for x in (letter, plain) if _has(font, x)), "?")


def _system_fonts(height: int):
    for name in FONTS:
        try:
            yield ImageFont.truetype(name, height)
        except OSError:
            continue


def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    missing = font.getmask("\uffff")  # no character: drawn as the font's box for a missing one
    mask = font.getmask(letter)
    return (mask.size, bytes(mask)) != (missing.size, bytes(missing))


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines no wider than `width`, broken at blanks, inside a word only where the word alone is too wide."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    if len(lines) > LINES:
        lines = lines[:LINES]
        lines[-1] = lines[-1][:-1] + "…"
    return lines
