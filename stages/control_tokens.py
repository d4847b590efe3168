"""Which tokens are control: those that only a layout may hold, and that no text may become.

All special tokens, the image tokens, and what the template prints that the tokenizer holds as one token: an added
token, or a word in angle or square brackets of its vocabulary. The unknown token is one only if the template prints it;
else it is what characters that the tokenizer doesn't know become.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any

from stages.chat_layout import Layouts
from stages.chat_template import Template, TemplateOverruns, TemplateRefuses

# A word of the vocabulary that nobody declared special is control if the template prints it and it looks like that.
_BRACKETED = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
# Conversations that show what a template prints: the roles of their turns
_PROBES = (
    ("user", "assistant"),
    ("system", "user", "assistant"),
    ("user", "assistant", "user", "assistant"),
    ("assistant",),
)


def control_tokens(
    tokenizer: Any, template: Template, image_tokens: Iterable[str], image: str | None = None
) -> dict[str, int]:
    """Text -> id. `image`: what the template prints for one, if it wants lists of blocks. Raises TemplateRefuses for a
    template that can't be read."""
    added = {str(token): (number, token.special) for number, token in tokenizer.added_tokens_decoder.items()}
    printed = _printed(template, image)
    needed = {*image_tokens, tokenizer.eos_token, image}
    control = {
        text: number
        for text, (number, special) in added.items()
        if text in printed or text in needed or (special and text != tokenizer.unk_token)
    }
    vocabulary = tokenizer.get_vocab()
    words = {word: vocabulary[word] for word in _BRACKETED.findall(printed) if word in vocabulary}
    whole = {word for word, number in words.items() if number in tokenizer(word, add_special_tokens=False).input_ids}
    return control | {word: words[word] for word in whole}


def _printed(template: Template, image: str | None) -> str:
    """All that a template is known to print: its own words, and the layouts of a few conversations."""
    layouts, shown = Layouts(template.render, image=image), template.words()
    for roles, prompt in itertools.product(_PROBES, (False, True)):
        try:
            found = layouts.of(tuple((role, ("text",)) for role in roles), prompt)
        except TemplateOverruns:
            raise  # of such a one no more is asked
        except TemplateRefuses:
            continue  # it may know no system turn, or want a user's first
        shown += [entry for entry in found if isinstance(entry, str)]
    return "\0".join(shown)
