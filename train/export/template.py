"""The chat template that goes with an export: the system's own layout, with a few lines before it.

Other programs give a template messages whose contents are lists of blocks; ours is given texts. So what our code does
to a conversation before it is laid out stands in the template's own language here: blocks become text (an image the
token of the tokenizer, in its frame), a user's images go first where the recipe says so, layouts without roles drop
what is asked, and variables and the date of a recipe are those that it was trained with.

A template that wants lists of blocks itself stays as it is; only what it prints for an image becomes the token that the
exported processor looks for.

A conversation of texts is laid out as before, so the folder's tokenizer is read by `stages.chat`, too.
"""

from __future__ import annotations

import json
import re
from datetime import datetime

from stages.chat_rules import ChatRules
from train.export.failure import ExportError

_DATE = re.compile(r"""strftime_now\(\s*(["'])(?P<format>[^"']*)\1\s*\)""")

# Between them stands what was put before a template, so that it is put there once
_BEGIN, _DONE = "{# blocks become texts #}\n", "{# texts are laid out #}\n"
_TEXTS = """\
{%- set found = namespace(messages=[], images='') -%}
{%- for message in messages -%}
{%- set said = namespace(text='', images='') -%}
{%- if message['content'] is string -%}
{%- set said.text = message['content'] -%}
{%- else -%}
{%- for block in message['content'] -%}
{%- if block['type'] == 'image' -%}
{%- set said.IMAGES = said.IMAGES + IMAGE -%}
{%- elif block['type'] == 'text' -%}
{%- set said.text = said.text + block['text'] -%}
{%- else -%}
{{- raise_exception('blocks are of type text or image') -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
"""
_KEEP = """\
{%- set found.messages = found.messages + [dict(message, content=said.text)] -%}
"""
_IMAGES_FIRST = """\
{%- if said.images and message['role'] == 'user' -%}
{%- set said.text = said.images + said.text | trim -%}
{%- elif said.images -%}
{{- raise_exception('images stand in turns of the user') -}}
{%- endif -%}
"""
_NO_ROLES = """\
{%- if message['role'] == 'assistant' -%}
{%- set found.messages = found.messages + [dict(message, content=said.text LINE)] -%}
{%- else -%}
{%- set found.images = found.images + said.images -%}
{%- endif -%}
"""
_END = """\
{%- endfor -%}
{%- set messages = found.messages %}
"""
_END_NO_ROLES = """\
{%- endfor -%}
{%- set messages = [{'role': 'user', 'content': found.images}] + found.messages %}
"""


def portable(template: str, rules: ChatRules, image: str, shown: str | None = None) -> str:
    """The template for other programs; `image`: the text of an image, `shown`: what one that wants blocks prints."""
    values = "".join(f"{{%- set {name} = {_literal(value)} -%}}\n" for name, value in sorted(rules.variables.items()))
    if shown is not None:
        return values.replace(shown, image) + _dated(template.replace(shown, image), rules.date)
    if template.startswith(_BEGIN):
        template = template.partition(_DONE)[2]
    return _BEGIN + values + _texts(rules, image) + _DONE + _dated(template, rules.date)


def _texts(rules: ChatRules, image: str) -> str:
    no_roles = rules.layout in ("plain", "plain-line")
    apart = no_roles or rules.image_first
    lines = rules.image_first
    read = _TEXTS.replace("IMAGES", "images" if apart else "text")
    read = read.replace("IMAGE", _literal(image + "\n" if lines else image))
    if no_roles:
        line = " + '\\n'" if rules.layout == "plain-line" else ""
        return read + _NO_ROLES.replace(" LINE", line) + _END_NO_ROLES
    return read + (_IMAGES_FIRST if lines else "") + _KEEP + _END


def _dated(template: str, date: str | None) -> str:
    """A template that asks for no date. Raises ExportError."""
    if date is None:
        return template
    day = datetime.fromisoformat(date)
    dated = _DATE.sub(lambda found: _literal(day.strftime(found["format"])), template)
    if "strftime_now" in dated:
        raise ExportError("the chat template asks for the date in a way that can't be fixed; write the day into it")
    return dated


def _literal(value: bool | str) -> str:
    """A value as Jinja writes it."""
    return json.dumps(value, ensure_ascii=False)
