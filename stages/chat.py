"""messages -> token ids, target spans and image spans, by a Hugging Face tokenizer and its own chat template.

Used by pretokenise, by the trainer's inference and by `show`: one path, so that inference prompts as training did.

How control tokens stay under control. The template decides the layout and never sees the content
(stages/chat_layout.py, made ready by stages/chat_plan.py). Control tokens in it (stages/control_tokens.py) become
control ids; everything between two of them (layout text and content joined) is encoded in one go by
stages/plain_text.py, which never gives a control id (stages/conversation.py). A
literal `<|im_start|>` or `<image>` in a user's text is therefore plain characters, and all other texts get exactly the
ids that `apply_chat_template(tokenize=True)` gives: checked when a format is loaded.

Targets are each assistant turn's content up to and including the special token that ends the turn, and what of the
layout the recipe's label rule adds (stages/labels.py), unless the message says `loss: false`. An image owns its run of
image tokens and its two framing tokens, if the format has them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stages.chat_layout import Layouts, any_of
from stages.chat_pieces import Encoded
from stages.chat_plan import Plans
from stages.chat_rules import DEFAULTS, ChatRules
from stages.chat_template import Template, TemplateRefuses
from stages.control_tokens import control_tokens
from stages.conversation import Conversation, Means, Message, Turns
from stages.labels import Labels
from stages.layout_table import TEMPLATES, given_to, with_images_first
from stages.plain_text import ControlText, PlainText
from stages.template_blocks import image_text
from stages.tiles.scheme import Kind, Runs, count, framed
from stages.token_binding import bound
from stages.tokenizer_folder import ChatError, check, opened

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
        given = [name for name in (self.image, self.start, self.end, self.row) if name is not None]
        if twice := [name for name in dict.fromkeys(given) if given.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is the text of two of image, start, end and row; give each one of its own")
        if len(set(self.ids.values())) < len(self.ids) or min(self.ids.values(), default=0) < 0:
            raise ValueError(f"ids: got {self.ids}, wanted a number of its own for each token, from 0 on")

    def num_images(self, runs: Runs) -> int:
        """How many of an image's tokens are the token `image`."""
        return count(runs, "patch", "row") if self.row is None else count(runs, "patch")


# What templates look for in texts, such as `</think>`
_TAG = re.compile(r"</?\w+>")


class ChatFormat:
    """A tokenizer, its chat template, the image tokens and a recipe's rules. Load with `ChatFormat.load`.

    `trains`: whether answers are learnt from, so that each has to end in a token."""

    def __init__(
        self, tokenizer: Any, image_tokens: ImageTokens, rules: ChatRules = DEFAULTS, trains: bool = True
    ) -> None:
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
        self._images = functools.lru_cache(maxsize=64)(self._image)
        template = Template(source, {**tokenizer.special_tokens_map, **rules.variables}, rules.date)
        try:
            image = image_text(template, image_tokens.image, map(str, tokenizer.added_tokens_decoder.values()))
            self._specials = control_tokens(tokenizer, template, names, image)
            unforeseen = set(tokenizer.get_added_vocab()) - set(self._specials)
            lines = "strip('\\n')" in source or 'strip("\\n")' in source
            self._layouts = Layouts(template.render, {*names, *unforeseen}, lines, image)
            self._plain: PlainText = _plain_text(tokenizer, self._specials)
            labels = Labels(rules.labels, self._layouts, self._specials)
            plans = Plans(self._layouts, labels, self._plain, self._specials, any_of(self._specials))
            self._ends = _ends(plans, Turns(self._given(_PROBE[:2]), image is not None))
            self._template, tags = template, {*_TAG.findall("\0".join(template.words()))}
            apart = image is not None
            self._means = Means(
                plans, self._plain, bool(self._ends), self._given, apart, sorted(tags), self._check_content
            )
            self._check_parity(template, trains)
        except (TemplateRefuses, ControlText) as error:
            raise ChatError(f"a question and its answer can't be laid out with this tokenizer: {error}") from None

    @classmethod
    def load(
        cls, folder: Path | str, image_tokens: ImageTokens, rules: ChatRules = DEFAULTS, trains: bool = True
    ) -> ChatFormat:
        """Read tokenizer and chat template from a local folder. Raises ChatError; runs no code from the folder."""
        with opened(folder) as tokenizer:
            return cls(tokenizer, image_tokens, rules, trains)

    @property
    def image_token_id(self) -> int:
        return int(self._kinds["patch"] or 0)

    @property
    def shown_image(self) -> str | None:
        """What the template prints for an image, if it wants lists of blocks."""
        return self._layouts.image

    @functools.cached_property
    def vocab_size(self) -> int:
        """Rows an embedding needs: the largest id + 1. Found once: to list a vocabulary takes a tenth of a second."""
        return int(max(self.tokenizer.get_vocab().values())) + 1

    @property
    def stop_ids(self) -> list[int]:
        """Ids that end generation: end of text and the token that ends an assistant turn."""
        return sorted({*self._ends, self.tokenizer.eos_token_id} - {None})

    def conversation(self, messages: Sequence[Message]) -> Conversation:
        """A conversation of which several things are asked. Raises TemplateRefuses."""
        return Conversation(messages, self._means)

    def image_ids(self, length: Length) -> np.ndarray:
        """The ids of an image of so many tokens, int32; not to be written to."""
        return self._images(length)

    def at_least(self, messages: Sequence[Message], image_lengths: Sequence[Length]) -> int:
        """A number of tokens that a conversation surely has, without laying it out or encoding it."""
        return self.conversation(messages).at_least([*map(self.image_ids, image_lengths)])

    def count_text(self, messages: Sequence[Message], prompt: bool = False) -> int:
        """The tokens of a conversation, or of its prompt, as if its images were not there."""
        return self.conversation(messages).count_text(prompt)

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
        return self.decode(ids).removeprefix(self.header).strip()

    @functools.cached_property
    def header(self) -> str:
        """The part of an assistant turn's header that a prompt leaves to the model, as text."""
        start = len(self.encode_prompt([_text("user", "a")], []).input_ids)
        empty = self.encode([_text("user", "a"), _text("assistant", "")], []).input_ids
        end = next((place for place in range(start, len(empty)) if empty[place] in self._ends), start)
        return self.decode(empty[start:end])

    def save(self, folder: Path) -> None:
        """Write the tokenizer, image tokens included, as a folder that `load` reads."""
        self.tokenizer.save_pretrained(folder)

    # ---- what conversations are given -------------------------------------------------------------------------------

    def _encode(self, messages: Sequence[Message], image_lengths: Sequence[Length], prompt: bool) -> Encoded:
        images = [*map(self.image_ids, image_lengths)]
        return self.conversation(messages).encode(images, prompt).encoded()

    def _given(self, messages: Sequence[Message]) -> Sequence[Message]:
        """What the layout is given of a conversation."""
        ordered = list(map(with_images_first, messages)) if self._rules.image_first else messages
        return given_to(self._rules.layout, ordered)

    def _check_content(self, turns: Turns, prompt: bool) -> None:
        """Raise TemplateRefuses if the template makes something else of these texts than of any others."""
        texts, given = iter(turns.texts), []
        for role, kinds in turns.shape:
            given.append({"role": role, "content": self._layouts.content([next(texts) for _ in kinds])})
        layout = self._layouts.of(turns.shape, prompt)
        said = [self._layouts.image or "" if text is None else text for text in turns.texts]
        filled = (e if isinstance(e, str) else e.printed(said[e.number]) for e in layout)
        if self._template.render(given, prompt) != "".join(filled):
            raise TemplateRefuses("the chat template reads a turn's text and changes it for what it says")

    def _image(self, length: Length) -> np.ndarray:
        """The ids of an image's tokens, in order."""
        runs = framed(length) if isinstance(length, int) else length
        kept = [(token, number) for kind, number in runs if (token := self._kinds[kind]) is not None]
        tokens, numbers = np.array(kept, np.int32).reshape(-1, 2).T
        ids = np.repeat(tokens, numbers)
        ids.flags.writeable = False
        return ids

    def _check_parity(self, template: Template, trains: bool) -> None:
        given = self._given(_PROBE)
        content = self._layouts.content
        plain = [{"role": m["role"], "content": content([block["text"] for block in m["content"]])} for m in given]
        theirs = self.tokenizer(template.render(plain, True), add_special_tokens=False)["input_ids"]
        ours = self.encode_prompt(_PROBE, []).input_ids
        if list(theirs) != ours:
            raise ChatError(
                "this tokenizer encodes text after a special token differently from text alone; unsupported"
            )
        if trains and not self._ends and self._rules.layout != "plain-line":
            raise ChatError("the chat template ends an assistant turn without a special token; add one, e.g. eos_token")


def _plain_text(tokenizer: Any, control: Mapping[str, int]) -> PlainText:
    unknown = {tokenizer.unk_token: tokenizer.unk_token_id} if tokenizer.unk_token_id is not None else {}
    try:
        return PlainText(tokenizer.backend_tokenizer, control, unknown)
    except ControlText as error:
        raise ChatError(f"with this tokenizer no text can be kept apart from control: {error}; use another") from None


def _ends(plans: Plans, turns: Turns) -> set[int]:
    """The ids that end an assistant's turn."""
    items = plans.items(turns.shape, turns.bearing, False)
    return {item[1] for item in items if isinstance(item, tuple) and item[0] == "end"}


def _text(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


_PROBE = [_text("user", "How many? 何個ですか?"), _text("assistant", "Three. 3つ"), _text("user", "x")]
