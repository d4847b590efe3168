"""messages -> token ids, target spans and image spans, by a Hugging Face tokenizer and its own chat template.

Used by pretokenise, by the trainer's inference and by `show`: one path, so that inference prompts as training did.

How control tokens stay under control. The template is rendered with private marks in place of every text and image, so
it decides the layout and never sees the content. Special tokens in the rendered layout become control ids; everything
between two of them (layout text and content joined) is encoded in one go with special tokens switched off. A literal
`<|im_start|>` or `<image>` in a user's text is therefore plain characters, and all other texts get exactly the ids that
`apply_chat_template(tokenize=True)` gives: checked when a format is loaded, an error if the tokenizer cannot do it.

Targets are each assistant turn's content up to and including the special token that ends the turn, unless the message
says `loss: false`. An image owns its
run of image tokens and its two framing tokens, if the format has them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

# Private-use characters: template code has no business with them, and content is put in only after rendering.
_MARK = "\ue000{}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")
# White space that no template prints: where it is gone from around a turn, the template trims that turn's content.
_EDGE = "\u205f\u3000\u205f"

Message = Mapping[str, Any]


class ChatError(ValueError):
    """A tokenizer or chat template that can't be used as it is: one line saying why and what to do."""


class TemplateRefuses(ValueError):
    """The chat template can't lay out a conversation of this shape: the sample's fault, not the format's."""


@dataclass(frozen=True)
class ImageTokens:
    """The texts of the tokens around images; `start`, `end` are optional. The tokenizer gets those it lacks."""

    image: str = "<image>"
    start: str | None = None
    end: str | None = None


class Encoded(NamedTuple):
    """Token ids of one conversation; spans are half-open, image_spans are (start, num_tokens) with framing."""

    input_ids: list[int]
    target_spans: list[tuple[int, int]]
    image_spans: list[tuple[int, int]]


class _Block(NamedTuple):
    """Where block `number` stands in a layout, and on which sides the template trims it."""

    number: int
    lstrip: bool
    rstrip: bool

    def printed(self, text: str) -> str:
        text = text.lstrip() if self.lstrip else text
        return text.rstrip() if self.rstrip else text


@dataclass
class _Piece:
    """A stretch of plain text between control ids, with the character ranges in it that are targets."""

    text: str = ""
    targets: list[tuple[int, int]] = field(default_factory=list)


class ChatFormat:
    """A tokenizer, its chat template and the image tokens. Load with `ChatFormat.load`."""

    def __init__(self, tokenizer: Any, image_tokens: ImageTokens) -> None:
        self.tokenizer, self.image_tokens = tokenizer, image_tokens
        _check_template(tokenizer)
        wanted = [image_tokens.image, image_tokens.start, image_tokens.end]
        names = [name for name in wanted if name is not None]
        tokenizer.add_special_tokens({"additional_special_tokens": names}, replace_extra_special_tokens=False)
        self._frame: tuple[int | None, ...] = tuple(
            None if name is None else tokenizer.convert_tokens_to_ids(name) for name in wanted
        )
        self._specials = {str(t): i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
        self._split = re.compile("|".join(re.escape(t) for t in sorted(self._specials, key=len, reverse=True)))
        self._backend = tokenizer.backend_tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.encode_special_tokens = True
        self._backend.post_processor = None  # adds no tokens here, but may trim white space off the offsets
        # left in tokenizer.json by whoever trained with it last
        self._backend.no_truncation()
        self._backend.no_padding()
        self._layout = lru_cache(maxsize=4096)(self._render)
        self._check_parity()

    @classmethod
    def load(cls, folder: Path | str, image_tokens: ImageTokens) -> ChatFormat:
        """Read tokenizer and chat template from a local folder. Raises ChatError; runs no code from the folder."""
        if not Path(folder).is_dir():
            raise ChatError(f"{folder}: no such tokenizer folder; point at one with tokenizer.json and a chat template")
        with _torch_hidden():
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            return cls(tokenizer, image_tokens)

    @property
    def image_token_id(self) -> int:
        return int(self._frame[0] or 0)

    @property
    def vocab_size(self) -> int:
        """Rows an embedding needs: the largest id + 1."""
        return int(max(self.tokenizer.get_vocab().values())) + 1

    @property
    def stop_ids(self) -> list[int]:
        """Ids that end generation: end of text and the token that ends an assistant turn."""
        probe = self.encode([_text("user", "a"), _text("assistant", "b")], [])
        ends = {probe.input_ids[probe.target_spans[-1][1] - 1], self.tokenizer.eos_token_id}
        return sorted(end for end in ends if end is not None)

    def encode(self, messages: Sequence[Message], image_lengths: Sequence[int]) -> Encoded:
        """Ids of a whole conversation. `image_lengths[i]`: image tokens of image i, framing apart."""
        return self._encode(messages, image_lengths, prompt=False)

    def encode_prompt(self, messages: Sequence[Message], image_lengths: Sequence[int]) -> Encoded:
        """Ids up to where the assistant's answer begins; no targets from the prompt's end on."""
        return self._encode(messages, image_lengths, prompt=True)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def save(self, folder: Path) -> None:
        """Write the tokenizer, image tokens included, as a folder that `load` reads."""
        self.tokenizer.save_pretrained(folder)

    # ---- from layout to ids -----------------------------------------------------------------------------------------

    def _encode(self, messages: Sequence[Message], image_lengths: Sequence[int], prompt: bool) -> Encoded:
        shape = tuple((m["role"], tuple(block["type"] for block in m["content"])) for m in messages)
        blocks = [(_bears_loss(m), block) for m in messages for block in m["content"]]
        if sum(block["type"] == "image" for _, block in blocks) != len(image_lengths):
            raise ValueError(f"{len(image_lengths)} image lengths for the images of {shape}")
        items = self._items(self._layout(shape, prompt), blocks, image_lengths)
        return self._assemble(items)

    def _items(
        self, layout: Sequence[_Block | str], blocks: Sequence[tuple[bool, Message]], lengths: Sequence[int]
    ) -> list[_Piece | tuple[str, int]]:
        """Pieces of text, ("id", token) and ("image", length), in order."""
        items: list[_Piece | tuple[str, int]] = []
        left, open_turn = iter(lengths), False
        for entry in layout:
            if isinstance(entry, str):
                open_turn = self._control(items, entry, open_turn)
                continue
            target, block = blocks[entry.number]
            if block["type"] == "image":
                items.append(("image", next(left)))
            else:
                piece = _piece(items)
                start, text = len(piece.text), entry.printed(block["text"])
                piece.text += text
                if target:
                    piece.targets.append((start, start + len(text)))
                    open_turn = True
        return items

    def _control(self, items: list[_Piece | tuple[str, int]], text: str, open_turn: bool) -> bool:
        """Append layout text; the first special token after an assistant's content ends the turn and is a target."""
        position = 0
        for match in self._split.finditer(text):
            if match.start() > position:
                _piece(items).text += text[position : match.start()]
            items.append(("end" if open_turn else "id", self._specials[match.group()]))
            open_turn, position = False, match.end()
        if position < len(text):
            _piece(items).text += text[position:]
        return open_turn

    def _assemble(self, items: Sequence[_Piece | tuple[str, int]]) -> Encoded:
        out = Encoded([], [], [])
        for item in items:
            start = len(out.input_ids)
            if isinstance(item, _Piece):
                # one by one: for a few short texts the threads of `encode_batch` cost more than the encoding
                encoding = self._backend.encode(item.text, add_special_tokens=False)
                out.input_ids.extend(encoding.ids)
                for target in item.targets:
                    _add_span(out.target_spans, *_token_range(encoding.offsets, *target, start))
            elif item[0] == "image":
                out.input_ids.extend(self._framed(item[1]))
                out.image_spans.append((start, len(out.input_ids) - start))
            else:
                out.input_ids.append(item[1])
                if item[0] == "end":
                    _add_span(out.target_spans, start, start + 1)
        return out

    def _framed(self, length: int) -> list[int]:
        image, start, end = ([] if token is None else [token] for token in self._frame)
        return start + image * length + end

    # ---- from template to layout ------------------------------------------------------------------------------------

    def _render(self, shape: tuple[tuple[str, tuple[str, ...]], ...], prompt: bool) -> tuple[_Block | str, ...]:
        """The template's layout for a shape of conversation: layout text and blocks, in order."""
        number, marked, firsts, lasts = 0, [], set(), set()
        for role, kinds in shape:
            numbers = range(number, number + len(kinds))
            firsts |= set(numbers[:1])
            lasts |= set(numbers[-1:])
            number += len(kinds)
            marked.append({"role": role, "content": _EDGE + "".join(map(_MARK.format, numbers)) + _EDGE})
        parts = _MARKS.split(self._template(marked, prompt))
        if [int(mark) for mark in parts[1::2]] != list(range(number)):
            roles = ", ".join(role for role, _ in shape)
            raise TemplateRefuses(f"the chat template loses or repeats content for the roles {roles}")
        layout: list[_Block | str] = []
        for i, part in enumerate(parts):
            if i % 2:
                left = int(part) in firsts and not parts[i - 1].endswith(_EDGE)
                right = int(part) in lasts and not parts[i + 1].startswith(_EDGE)
                layout.append(_Block(int(part), left, right))
            elif text := part.replace(_EDGE, ""):
                layout.append(text)
        return tuple(layout)

    def _template(self, messages: list[dict[str, Any]], prompt: bool) -> str:
        from jinja2 import TemplateError

        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))
        except TemplateError as error:  # templates raise for roles they don't know or turns that don't alternate
            raise TemplateRefuses(f"the chat template says: {error}") from None

    def _check_parity(self) -> None:
        probe = [_text("user", "How many? 何個ですか?"), _text("assistant", "Three. 3つ"), _text("user", "x")]
        plain = [{"role": m["role"], "content": m["content"][0]["text"]} for m in probe]
        theirs = self.tokenizer(self._template(plain, True), add_special_tokens=False)["input_ids"]
        ours = self.encode_prompt(probe, []).input_ids
        if list(theirs) != ours:
            raise ChatError(
                "this tokenizer encodes text after a special token differently from text alone; unsupported"
            )
        whole = self.encode(probe[:2], [])
        if not whole.target_spans or whole.input_ids[whole.target_spans[-1][1] - 1] not in self._specials.values():
            raise ChatError("the chat template ends an assistant turn without a special token; add one, e.g. eos_token")


@contextmanager
def _torch_hidden() -> Iterator[None]:
    """Let transformers load without torch, which a tokenizer doesn't need and which takes longer than all the rest.

    Only where neither is imported yet. From then on transformers takes torch for absent in this process: one that wants
    its models as well imports torch first, as all of `train` does.
    """
    hide = not {"torch", "transformers"} & set(sys.modules)
    if hide:
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # else it says that it misses torch
        sys.modules["torch"] = None  # type: ignore[assignment]  # what Python takes for "not installed"
    try:
        yield
    finally:
        if hide:
            del sys.modules["torch"]


def _check_template(tokenizer: Any) -> None:
    if not getattr(tokenizer, "is_fast", False):
        raise ChatError("the tokenizer has no tokenizer.json; convert it to a fast tokenizer first")
    if not tokenizer.chat_template:
        raise ChatError("the tokenizer has no chat template; add chat_template.jinja to its folder")
    if "strftime_now" in str(tokenizer.chat_template):
        raise ChatError(
            "the chat template prints today's date, so no two days give the same tokens; fix the date in it"
        )


def _bears_loss(message: Message) -> bool:
    return message["role"] == "assistant" and message.get("loss") is not False


def _text(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _piece(items: list[_Piece | tuple[str, int]]) -> _Piece:
    """The open piece at the end of `items`, or a new one."""
    if not items or not isinstance(items[-1], _Piece):
        items.append(_Piece())
    last = items[-1]
    assert isinstance(last, _Piece)
    return last


def _token_range(offsets: Sequence[tuple[int, int]], begin: int, end: int, base: int) -> tuple[int, int]:
    """Tokens whose first character lies in [begin, end), as a range shifted by `base`."""
    inside = [i for i, (first, _) in enumerate(offsets) if begin <= first < end]
    return (base + inside[0], base + inside[-1] + 1) if inside else (base, base)


def _add_span(spans: list[tuple[int, int]], start: int, end: int) -> None:
    """Append a span, joined to the previous one where they touch."""
    if start == end:
        return
    if spans and spans[-1][1] == start:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))
