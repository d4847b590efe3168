"""The shape of OpenAI, TRL, ms-swift and LLaMA-Factory: `messages: [{role, content}]`, images inside or beside them.

`content` is text or a list of blocks. An image block may carry its image (path, bytes, data: URI, {bytes, path}); one
that carries none takes the next of the `images` column. In text content each literal `<image>` is such a place. Where
all contents are text and none has a mark, the images come before the first user turn's text, as in TRL. Images and
places that don't match in number make the row a reject. `from`/`value` are read like `role`/`content`. The text in
`system` becomes the first turn. `is_document: true` says that a row is a text to be learned as it is: one turn of the
assistant's, without a question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.sources.shapes.beyond import bears_loss
from stages.sources.shapes.draft import (
    BadRow,
    Draft,
    ImageRef,
    Reading,
    from_base64,
    image_blocks,
    image_ref,
    image_refs,
    listing,
    mapping,
    put_images_first,
    put_system_first,
    turn,
)

COLUMNS = {
    "messages": "messages",
    "images": "images",
    "system": "system",
    "language": "language",
    "licence": "licence",
    "document": "is_document",
}
TURN_KEYS = ("role", "content", "from", "value")

_TEXT_BLOCKS = ("text", "input_text", "output_text")
_IMAGE_BLOCKS = ("image", "image_url", "input_image")
_MEDIA_BLOCKS = ("video", "audio", "video_url", "audio_url")  # `input_audio` too
# Where an image block keeps its image: Nemotron and TRL, OpenAI, ms-swift, Anthropic
_IMAGE_KEYS = ("image", "image_url", "url", "path", "bytes", "source")


def adapt(record: Mapping[str, Any], reading: Reading) -> Draft:
    """One record -> Draft."""
    turns = [mapping(t, "a turn") for t in listing(reading.get(record, "messages"), "messages")]
    own: list[ImageRef | None] = []
    messages = [_message(t, own, bears_loss(t, reading, "messages")) for t in turns]
    beside = image_refs(reading.get(record, "images"))
    if beside and not image_blocks(messages) and all(isinstance(text_of(t), str) for t in turns):
        put_images_first(messages, len(beside))
        own = [None] * len(beside)
    put_system_first(messages, reading.get(record, "system"))
    licence, language = reading.get(record, "licence"), reading.get(record, "language")
    document = reading.get(record, "document") is True
    return Draft(messages, _matched(own, beside), licence=licence, declared_language=language, document=document)


def _matched(own: list[ImageRef | None], beside: list[ImageRef]) -> list[ImageRef]:
    """The images in the order of their places. What is left over, or missing, shows as a mismatch in number."""
    rest = iter(beside)
    filled = [ref if ref is not None else next(rest, None) for ref in own]
    return [ref for ref in (*filled, *rest) if ref is not None]


def _message(said: Mapping[str, Any], own: list[ImageRef | None], loss: bool) -> dict[str, Any]:
    """One message; for each of its image blocks an entry is added to `own`."""
    role = said["role"] if said.get("role") is not None else said.get("from")
    content = text_of(said)
    if not isinstance(content, list):
        message = turn(role, content, True, loss)
        own += [None] * image_blocks([message])
        return message
    blocks = []
    for value in content:
        block = mapping(value, "a block")
        if block.get("type") in _TEXT_BLOCKS:
            blocks += turn(role, block.get("text"), False)["content"]
        elif block.get("type") in _IMAGE_BLOCKS:
            blocks.append({"type": "image", "text": None})
            own.append(_image(block))
        elif str(block.get("type")).endswith(_MEDIA_BLOCKS):
            raise BadRow("other_modality", f"a block of type {block['type']!r}, and a sample has images alone")
        else:
            raise BadRow("unknown_block", f"a block of type {block.get('type')!r}; known: text, image, image_url")
    return {**turn(role, "", False, loss), "content": blocks}


def text_of(said: Mapping[str, Any]) -> Any:
    """What a turn says: text, blocks, or what else stands there."""
    return said["content"] if said.get("content") is not None else said.get("value")


def _image(block: Mapping[str, Any]) -> ImageRef | None:
    """The image that a block carries, or None."""
    value = next((block[key] for key in _IMAGE_KEYS if block.get(key) is not None), None)
    if isinstance(value, Mapping) and value.get("type") == "base64":
        return ImageRef(data=from_base64(value.get("data")))
    if isinstance(value, Mapping) and value.get("url") is not None:
        value = value["url"]
    if value is None or (isinstance(value, Mapping) and value.get("bytes") is None and value.get("path") is None):
        return None
    return image_ref(value)
