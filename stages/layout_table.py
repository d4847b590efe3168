"""Layouts that systems are trained with and that their tokenizers' folders don't hold, by name; a row each.

  plain         LLaVA's first stage: the images, the answer, the end of text. No roles; what the user says is not used
  plain-line    the same, ended by a line break that bears loss, as LLaVA itself has it (no token ends the answer)
  chatml        Qwen's turns without a default system turn and without thoughts
  vicuna-v1     LLaVA 1.5's second stage: `USER: ... ASSISTANT: ...</s>` after Vicuna's system line
  llm-jp-4-vl   Harmony's turns, the answer always in the channel `final`; its prompt holds the channel

`tokenizer` is the template in the tokenizer's own folder. Whatever is used is saved with the tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stages.chat_template import TemplateRefuses

LayoutName = Literal["tokenizer", "plain", "plain-line", "chatml", "vicuna-v1", "llm-jp-4-vl"]

_PLAIN = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}END{% endif %}{% endfor %}"
_VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_LLM_JP = "You are LLM-jp-VL, a Multimodal LLM trained by LLM-jp."

TEMPLATES: dict[LayoutName, str] = {
    "plain": _PLAIN.replace("END", "{{ eos_token }}"),
    "plain-line": _PLAIN.replace("END", ""),
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "vicuna-v1": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ messages[0].content }}"
        f'{{% else %}}{{{{ "{_VICUNA}" }}}}{{% endif %}} '
        "{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} "
        "{% elif m.role == 'assistant' %}ASSISTANT: {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "llm-jp-4-vl": (
        "{% if messages[0].role != 'system' %}<|start|>system<|message|>" + _LLM_JP + "<|end|>{% endif %}"
        "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}"
        "<|message|>{{ m.content }}"
        "{% if m.role == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant<|channel|>final<|message|>{% endif %}"
    ),
}


def given_to(layout: LayoutName, messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """What of a conversation a layout lays out. Raises TemplateRefuses."""
    if layout not in ("plain", "plain-line"):
        return messages
    answers = [message for message in messages if message["role"] == "assistant"]
    if len(answers) > 1:
        raise TemplateRefuses(f"the layout {layout} has one answer, here are {len(answers)}")
    images = [block for m in messages if m["role"] != "assistant" for block in m["content"] if block["type"] == "image"]
    line = [{"type": "text", "text": "\n"}] if layout == "plain-line" else []
    ended = [{**answer, "content": [*answer["content"], *line]} for answer in answers]
    return [{"role": "user", "content": images}, *ended]


def with_images_first(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """As LLaVA gives a user's turn: images first, each on a line of its own, then the text without blanks around it."""
    images = [block for block in message["content"] if block["type"] == "image"]
    if message["role"] != "user" or not images:
        return message
    said = "".join(block["text"] for block in message["content"] if block["type"] == "text").strip()
    line = {"type": "text", "text": "\n"}
    lines = [block for image in images for block in (image, line)]
    return {**message, "content": [*lines, {"type": "text", "text": said}]}
