"""Whether a chat template wants a turn's content as a list of blocks, and what it prints for an image then.

Many take a text and leave images to whoever writes their tokens into it. Others loop over blocks and print an image's
token themselves: with a text they lose it. Which one a template is, is seen by what it prints.
"""

from __future__ import annotations

from collections.abc import Iterable

from stages.chat_layout import Layouts
from stages.chat_template import Template, TemplateOverruns, TemplateRefuses

_ASKED = (("user", ("text",)),)
_TEXT, _IMAGE = {"type": "text", "text": "a"}, {"type": "image"}


def image_text(template: Template, image: str, added: Iterable[str]) -> str | None:
    """None where contents are texts; else `image`, or the one added token that is printed for an image instead. Raises
    TemplateOverruns."""
    if _lays_out(template, None) or not _lays_out(template, image):
        return None
    bare, shown = (_printed(template, blocks) for blocks in ([_TEXT], [_IMAGE, _TEXT]))
    tokens = [token for token in dict.fromkeys((image, *added)) if shown.count(token) == bare.count(token) + 1]
    return tokens[0] if image in tokens or len(tokens) == 1 else image


def _lays_out(template: Template, image: str | None) -> bool:
    try:
        return bool(Layouts(template.render, image=image).of(_ASKED, True))
    except TemplateOverruns:
        raise  # of such a one no more is asked
    except TemplateRefuses:
        return False


def _printed(template: Template, blocks: list[dict[str, str]]) -> str:
    try:
        return template.render([{"role": "user", "content": blocks}], True)
    except TemplateRefuses:
        return ""  # it knows no images
