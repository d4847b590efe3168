"""messages -> token ids, target spans and image spans, by a Hugging Face tokenizer and its own chat template.

Used by pretokenise, by the trainer's inference and by `show`: one path, so that inference prompts as training did.

How control tokens stay under control. The template decides the layout and never sees the content
(stages/chat_layout.py). Control tokens in it (stages/control_tokens.py) become control ids; everything between two of
them (layout text and content joined) is encoded in one go by stages/plain_text.py, which never gives a control id. A
literal `<|im_start|>` or `<image>` in a user's text is therefore plain characters, and all other texts get exactly the
ids that `apply_chat_template(tokenize=True)` gives: checked when a format is loaded.

Targets are each assistant turn's content up to and including the special token that ends the turn, and what of the
layout the recipe's label rule adds (stages/labels.py), unless the message says `loss: false`. An image owns its run of
image tokens and its two framing tokens, if the format has them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from stages.chat_layout import Block, Layout, Layouts, Shape, any_of
from stages.chat_pieces import Item, Piece, add_span, open_piece, token_ranges
from stages.chat_rules import DEFAULTS, ChatRules
from stages.chat_template import Template, TemplateRefuses
from stages.control_tokens import control_tokens
from stages.labels import Labels
from stages.layout_table import TEMPLATES, given_to, with_images_first
from stages.plain_text import ControlText, PlainText
from stages.tiles.scheme import Kind, Runs, count, framed
from stages.token_binding import bound
from stages.tokenizer_folder import ChatError, check, opened

Message = Mapping[str, Any]
Length = Runs | int
"""The tokens of an image: the runs of its scheme, or a number of image tokens in one frame."""


@dataclass(frozen=True)
class ImageTokens:
    """The texts of an image's tokens by kind (stages/tiles/scheme.py): `image` is a `patch`, the others are optional.
    The tokenizer gets those it lacks.

    `ids`: text -> the id that it must have, of these tokens and of others that a system has beside them.
    """

    image: str = "<image>"
    start: str | None = None
    end: str | None = None
    row: str | None = None
    ids: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.ids.values())) < len(self.ids) or min(self.ids.values(), default=0) < 0:
            raise ValueError(f"ids: got {self.ids}, wanted a number of its own for each token, from 0 on")

    def num_images(self, runs: Runs) -> int:
        """How many of an image's tokens are the token `image`."""
        return count(runs, "patch", "row") if self.row is None else count(runs, "patch")


class Encoded(NamedTuple):
    """Token ids of one conversation; spans are half-open, image_spans are (start, num_tokens) with framing.

    `label_changes`: (position, id) of the targets that are labelled as another token than they are.
    """

    input_ids: list[int]
    target_spans: list[tuple[int, int]]
    image_spans: list[tuple[int, int]]
    label_changes: list[tuple[int, int]]


# What templates look for in texts, such as `</think>`
_TAG = re.compile(r"</?\w+>")


class ChatFormat:
    """A tokenizer, its chat template, the image tokens and a recipe's rules. Load with `ChatFormat.load`."""

    def __init__(self, tokenizer: Any, image_tokens: ImageTokens, rules: ChatRules = DEFAULTS) -> None:
        self._rules = rules
        if rules.layout != "tokenizer":
            tokenizer.chat_template = TEMPLATES[rules.layout]
        source = check(tokenizer, rules.date)
        wanted = [image_tokens.image, image_tokens.start, image_tokens.end, image_tokens.row]
        names = [*dict.fromkeys(name for name in (*wanted, *image_tokens.ids) if name is not None)]
        self.tokenizer = tokenizer = bound(tokenizer, names, image_tokens.ids)
        ids = {name: int(tokenizer.convert_tokens_to_ids(name)) for name in names}
        self.image_tokens = replace(image_tokens, ids=ids)  # each with the id that it has come to
        patch, start, end, row = (None if name is None else ids[name] for name in wanted)
        self._kinds: dict[Kind, int | None] = {"patch": patch, "start": start, "end": end}
        self._kinds["row"] = patch if row is None else row
        template = Template(source, {**tokenizer.special_tokens_map, **rules.variables}, rules.date)
        try:
            self._specials = control_tokens(tokenizer, template, names)
            self._split = any_of(self._specials)
            unforeseen = set(tokenizer.get_added_vocab()) - set(self._specials)
            lines = "strip('\\n')" in source or 'strip("\\n")' in source
            self._layouts = Layouts(template.render, {*names, *unforeseen}, lines)
            self._template, self._read = template, any_of(_TAG.findall("\0".join(template.words())))
            self._plain: PlainText = _plain_text(tokenizer, self._specials)
            self._labels = Labels(rules.labels, self._layouts, self._specials)
            self._check_parity(template)
        except (TemplateRefuses, ControlText) as error:
            raise ChatError(f"a question and its answer can't be laid out with this tokenizer: {error}") from None

    @classmethod
    def load(cls, folder: Path | str, image_tokens: ImageTokens, rules: ChatRules = DEFAULTS) -> ChatFormat:
        """Read tokenizer and chat template from a local folder. Raises ChatError; runs no code from the folder."""
        with opened(folder) as tokenizer:
            return cls(tokenizer, image_tokens, rules)

    @property
    def image_token_id(self) -> int:
        return int(self._kinds["patch"] or 0)

    @property
    def vocab_size(self) -> int:
        """Rows an embedding needs: the largest id + 1."""
        return int(max(self.tokenizer.get_vocab().values())) + 1

    @property
    def stop_ids(self) -> list[int]:
        """Ids that end generation: end of text and the token that ends an assistant turn."""
        return sorted({*self._ends, self.tokenizer.eos_token_id} - {None})

    def at_least(self, messages: Sequence[Message], image_lengths: Sequence[Length]) -> int:
        """A number of tokens that a conversation surely has, without laying it out or encoding it."""
        answers: int = sum(message["role"] == "assistant" for message in messages)  # each with the token that ends it
        messages = self._given(messages)
        texts = (text for message in messages for text in _joined(message["content"]) if text is not None)
        images = sum(number for length in image_lengths for _, number in self._image(length))
        return images + answers * bool(self._ends) + sum(self._plain.at_least(text) for text in texts)

    def count_text(self, messages: Sequence[Message], prompt: bool = False) -> int:
        """The tokens of a conversation, or of its prompt, as if its images were not there."""
        blocks = ([block for block in message["content"] if block["type"] == "text"] for message in messages)
        bare = [{**message, "content": content} for message, content in zip(messages, blocks, strict=True)]
        return len(self._encode(bare, [], prompt).input_ids)

    def encode(self, messages: Sequence[Message], image_lengths: Sequence[Length]) -> Encoded:
        """Ids of a whole conversation. `image_lengths[i]`: the tokens of image i."""
        return self._encode(messages, image_lengths, prompt=False)

    def encode_prompt(self, messages: Sequence[Message], image_lengths: Sequence[Length]) -> Encoded:
        """Ids up to where the assistant's answer begins; no targets from the prompt's end on."""
        return self._encode(messages, image_lengths, prompt=True)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def answer(self, ids: Sequence[int]) -> str:
        """What the ids after a prompt say, without the part of a turn's header that the prompt leaves to the model."""
        start = len(self.encode_prompt([_text("user", "a")], []).input_ids)
        empty = self.encode([_text("user", "a"), _text("assistant", "")], []).input_ids
        end = next((place for place in range(start, len(empty)) if empty[place] in self._ends), start)
        return self.decode(ids).removeprefix(self.decode(empty[start:end])).strip()

    def save(self, folder: Path) -> None:
        """Write the tokenizer, image tokens included, as a folder that `load` reads."""
        self.tokenizer.save_pretrained(folder)

    # ---- from layout to ids -----------------------------------------------------------------------------------------

    def _encode(self, messages: Sequence[Message], image_lengths: Sequence[Length], prompt: bool) -> Encoded:
        return self._assemble(self._items(messages, len(image_lengths), prompt), image_lengths)

    def _items(self, messages: Sequence[Message], num_images: int, prompt: bool) -> list[Item]:
        """Pieces of text, ("image", its number), and control ids by what they are for the labels, in order."""
        messages = self._given(messages)
        turns = [(message["role"], _joined(message["content"])) for message in messages]
        shape = tuple((role, tuple("image" if text is None else "text" for text in content)) for role, content in turns)
        bearing = list(map(_bears_loss, messages))
        blocks = [(target, text) for target, (_, content) in zip(bearing, turns, strict=True) for text in content]
        if sum(text is None for _, text in blocks) != num_images:
            raise ValueError(f"{num_images} image lengths for the images of {shape}")
        layout = self._layouts.of(shape, prompt)
        if any(text is not None and self._read.search(text) for _, text in blocks):
            self._check_content(turns, layout, prompt)
        return self._filled(layout, blocks, _openings(shape, bearing))

    def _given(self, messages: Sequence[Message]) -> Sequence[Message]:
        """What the layout is given of a conversation."""
        ordered = list(map(with_images_first, messages)) if self._rules.image_first else messages
        return given_to(self._rules.layout, ordered)

    def _check_content(self, turns: Sequence[tuple[str, list[str | None]]], layout: Layout, prompt: bool) -> None:
        """Raise TemplateRefuses if the template makes something else of these texts than of any others."""
        given = [{"role": role, "content": "".join("" if t is None else t for t in said)} for role, said in turns]
        texts = [text for _, said in turns for text in said]
        filled = (entry if isinstance(entry, str) else entry.printed(texts[entry.number] or "") for entry in layout)
        if self._template.render(given, prompt) != "".join(filled):
            raise TemplateRefuses("the chat template reads a turn's text and changes it for what it says")

    def _filled(
        self, layout: Layout, blocks: Sequence[tuple[bool, str | None]], openings: Container[int]
    ) -> list[Item]:
        """A layout with its blocks; `openings`: those that a header stands before which may bear loss."""
        items: list[Item] = []
        left, open_turn = itertools.count(), False
        for entry, then in zip(layout, (*layout[1:], None), strict=True):
            if isinstance(entry, str):
                opens = isinstance(then, Block) and then.number in openings
                at = self._labels.header(entry) if opens else len(entry)
                open_turn = self._control(items, entry[:at], open_turn)
                self._control(items, entry[at:], False, header=True)
                continue
            target, text = blocks[entry.number]
            if text is None:
                items.append(("image", next(left)))
            else:
                open_piece(items).add(entry.printed(text), target)
                open_turn = open_turn or target
        return items

    def _control(self, items: list[Item], text: str, open_turn: bool, header: bool = False) -> bool:
        """Append layout text; the first special token after an assistant's content ends the turn and is a target."""
        position = 0
        for match in self._split.finditer(text):
            if match.start() > position:
                open_piece(items).add(text[position : match.start()], header)
            kind = "end" if open_turn else "header" if header else "id"
            items.append((kind, self._specials[match.group()]))
            position = match.end()
            if open_turn and (after := self._labels.after_end) and text.startswith(after, position):
                open_piece(items).add(after, True)
                position += len(after)
            open_turn = False
        if position < len(text):
            open_piece(items).add(text[position:], header)
        return open_turn

    def _assemble(self, items: Sequence[Item], image_lengths: Sequence[Length]) -> Encoded:
        out = Encoded([], [], [], [])
        for item in items:
            start = len(out.input_ids)
            if isinstance(item, Piece):
                encoding = self._plain.encode("".join(item.texts), first=not out.input_ids)
                out.input_ids.extend(encoding.ids)
                if item.targets:
                    for begin, end in token_ranges(encoding.offsets, item.targets):
                        add_span(out.target_spans, start + begin, start + end)
            elif item[0] == "image":
                for token, number in self._image(image_lengths[item[1]]):
                    out.input_ids.extend([token] * number)
                out.image_spans.append((start, len(out.input_ids) - start))
            else:
                out.input_ids.append(item[1])
                if item[0] != "id":
                    add_span(out.target_spans, start, start + 1)
                if item[0] == "end" and (label := self._labels.changed(item[1])) is not None:
                    out.label_changes.append((start, label))
        return out

    def _image(self, length: Length) -> Iterator[tuple[int, int]]:
        """The ids of an image's tokens, and how many of each, in order."""
        for kind, number in framed(length) if isinstance(length, int) else length:
            if (token := self._kinds[kind]) is not None:
                yield token, number

    def _check_parity(self, template: Template) -> None:
        probe = [_text("user", "How many? 何個ですか?"), _text("assistant", "Three. 3つ"), _text("user", "x")]
        given = self._given(probe)
        plain = [{"role": m["role"], "content": "".join(block["text"] for block in m["content"])} for m in given]
        theirs = self.tokenizer(template.render(plain, True), add_special_tokens=False)["input_ids"]
        ours = self.encode_prompt(probe, []).input_ids
        if list(theirs) != ours:
            raise ChatError(
                "this tokenizer encodes text after a special token differently from text alone; unsupported"
            )
        self._ends = {
            item[1] for item in self._items(probe[:2], 0, False) if isinstance(item, tuple) and item[0] == "end"
        }
        if not self._ends and self._rules.layout != "plain-line":
            raise ChatError("the chat template ends an assistant turn without a special token; add one, e.g. eos_token")


def _plain_text(tokenizer: Any, control: Mapping[str, int]) -> PlainText:
    unknown = {tokenizer.unk_token: tokenizer.unk_token_id} if tokenizer.unk_token_id is not None else {}
    try:
        return PlainText(tokenizer.backend_tokenizer, control, unknown)
    except ControlText as error:
        raise ChatError(f"with this tokenizer no text can be kept apart from control: {error}; use another") from None


def _openings(shape: Shape, bearing: Sequence[bool]) -> set[int]:
    """The numbers of the blocks that begin an assistant's turn which bears loss."""
    counts = [len(kinds) for _, kinds in shape]
    firsts = itertools.accumulate(counts[:-1], initial=0)
    return {first for first, count, bears in zip(firsts, counts, bearing, strict=True) if bears and count}


def _bears_loss(message: Message) -> bool:
    return bool(message["role"] == "assistant" and message.get("loss") is not False)


def _text(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _joined(content: Iterable[Mapping[str, Any]]) -> list[str | None]:
    """The blocks of a turn, None for an image; neighbouring texts are one, however many blocks they came in."""
    found: list[str | None] = []
    texts: list[str] = []
    for block in (*content, None):
        if block is not None and block["type"] == "text":
            texts.append(block["text"])
            continue
        found += ["".join(texts)] if texts else []
        texts = []
        found += [] if block is None else [None]
    return found
