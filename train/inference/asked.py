"""What people write -> a conversation: messages in the chat-template shape, with images where they are shown.

    {"role": "user", "content": [{"type": "image", "image": "a.jpg"}, {"type": "text", "text": "What is this?"}]}

A content may be a text alone. An image is the path of a file, relative to a folder, `{"path": ...}`, or encoded bytes;
a block without one takes the next of those that are given beside the messages. Whatever is wrong is one line; what
messages have to be like is said where prompts are made (prompt.py).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from train.inference.conversation import Conversation
from train.inference.errors import PromptError

Picture = str | Path | bytes | dict[str, Any]
MAX_BYTES = 64 * 1024 * 1024  # of one file, as at ingest
_SOURCES = ("image", "path")
_STRANGERS = ("image_url", "input_image")


def conversation(messages: Any, images: Sequence[Picture] = (), folder: Path = Path()) -> Conversation:
    """Raises PromptError."""
    if not isinstance(messages, list | tuple):
        raise PromptError(f"messages are {str(messages)[:60]!r}, wanted a list of them")
    rest, found = iter(images), list[bytes]()
    shaped = tuple(_message(message, rest, found, folder) for message in messages)
    if left := sum(1 for _ in rest):
        raise PromptError(f"{left} images too many: no message has a place for them; add blocks of type image")
    return Conversation(shaped, tuple(found))


def question(text: str, images: Sequence[Picture] = (), folder: Path = Path()) -> Conversation:
    """One question; its images come before the text. Raises PromptError."""
    return conversation([user(text, len(images))], images, folder)


def user(text: str, images: int) -> dict[str, Any]:
    """The message of a user, whose images come first."""
    return {"role": "user", "content": [*[{"type": "image"}] * images, {"type": "text", "text": text}]}


def _message(message: Any, rest: Iterator[Picture], found: list[bytes], folder: Path) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return {"role": message.get("role"), "content": [{"type": "text", "text": content}]}
    if not isinstance(content, list):
        return message
    return {"role": message.get("role"), "content": [_block(block, rest, found, folder) for block in content]}


def _block(block: Any, rest: Iterator[Picture], found: list[bytes], folder: Path) -> Any:
    if isinstance(block, dict) and block.get("type") in _STRANGERS:
        raise PromptError(
            f"a block of type {block['type']}; write {{'type': 'image', 'image': 'a.jpg'}}, a file's path"
        )
    if not isinstance(block, dict) or block.get("type") != "image":
        return block
    given = next((block[name] for name in _SOURCES if block.get(name) is not None), None)
    picture = next(rest, None) if given is None else given
    if picture is None:
        raise PromptError("an image block says no image; give it a path, as in {'type': 'image', 'image': 'a.jpg'}")
    found.append(_read(picture, folder))
    return {"type": "image"}


def _read(picture: Any, folder: Path) -> bytes:
    if isinstance(picture, bytes):
        return picture
    path = picture.get("path") if isinstance(picture, dict) else picture
    if not isinstance(path, str | Path) or not str(path):
        raise PromptError(f"an image is {str(picture)[:60]!r}, wanted the path of a file")
    if str(path).startswith(("http://", "https://", "data:")):
        raise PromptError(f"{str(path)[:60]}: an address, and no image is fetched here; save it and give its path")
    try:
        return _bytes(folder / path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise PromptError(f"{folder / path}: can't be read ({why}); mend the path") from None


def _bytes(path: Path) -> bytes:
    """A pipe or a device may never end, so that it is not even opened. Raises what reading does, and PromptError."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise PromptError(f"{path}: is no file (a folder, a pipe or a device); give the path of a picture's file")
    if found.st_size > MAX_BYTES:
        raise PromptError(f"{path}: has {found.st_size:,} bytes, at most {MAX_BYTES:,}; make it smaller")
    return path.read_bytes()
