"""A LLaVA whose template wants lists of blocks, as llava-hf's do, is asked by our classes what its processor asks."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from test_train_opened import llava
from tiny_exports import exported
from tiny_models import picture
from tokenizers.processors import TemplateProcessing
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

from train.export import proof
from train.inference import Answerer, Conversation, Sampling
from train.inference.opened import opened as loaded

INLINE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# LLaVA 1.5's: images first, and no token ends an answer
FIRST = (
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'].upper() + ': ' }}{% endif %}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


@pytest.fixture(params=[(INLINE, False), (FIRST, False), (FIRST, True), ("{{ bos_token }}" + FIRST, True)])
def folder(request, tmp_path):
    """`begins`: whether its tokenizer puts a token before every text."""
    template, begins = request.param
    folder, _ = llava(tmp_path / "llava")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    if begins:
        tokenizer.bos_token = "<|endoftext|>"
        process = TemplateProcessing("<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
        tokenizer.backend_tokenizer.post_processor = process
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    tokenizer.chat_template = None
    (folder / "chat_template.jinja").unlink()
    LlavaProcessor(images, tokenizer, 4, "default", template, num_additional_image_tokens=1).save_pretrained(folder)
    return folder


def talks():
    """Messages with pictures where they are shown."""
    one, two = ({"type": "image", "image": picture(seed, *size)} for seed, size in ((1, (30, 20)), (2, (16, 50))))
    text = {"type": "text", "text": "Which?"}
    first = [{"role": "user", "content": [one, text]}, {"role": "assistant", "content": [text]}]
    return [
        [{"role": "user", "content": [text]}],
        [{"role": "user", "content": [one, {"type": "text", "text": " 何色? "}]}],
        [{"role": "user", "content": [one, text, two, {"type": "text", "text": "a"}, text]}],
        [*first, {"role": "user", "content": [{"type": "text", "text": "green\n"}]}],
    ]


def asked(messages):
    content = [message["content"] for message in messages]
    bare = [[{"type": "image"} if b["type"] == "image" else b for b in blocks] for blocks in content]
    pictures = tuple(b["image"] for blocks in content for b in blocks if b["type"] == "image")
    return Conversation(tuple({**m, "content": blocks} for m, blocks in zip(messages, bare, strict=True)), pictures)


def opened(messages):
    """With pictures that are opened."""
    return [
        {
            **m,
            "content": [
                {**b, "image": Image.open(io.BytesIO(b["image"]))} if "image" in b else b for b in m["content"]
            ],
        }
        for m in messages
    ]


def test_ids_and_answers_are_those_of_its_processor_and_transformers(folder, capsys):
    found = Answerer.open(folder, slots=2)
    assert isinstance(found, Answerer) and not capsys.readouterr().err
    processor = LlavaProcessor.from_pretrained(folder, backend="pil")
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    answers = dict(found.answers(map(asked, talks()), Sampling(7)))
    for number, messages in enumerate(talks()):
        theirs = processor.apply_chat_template(
            opened(messages), tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        assert found._prompts.of(asked(messages)).ids.tolist() == theirs["input_ids"][0].tolist()
        with torch.no_grad():
            wanted = model.generate(**theirs, max_new_tokens=7, do_sample=False)[0, theirs["input_ids"].shape[1] :]
        assert answers[number].text == found.of.chat.answer([id for id in wanted.tolist() if id not in found.of.stops])


@pytest.mark.parametrize("folder", [(FIRST, True)], indirect=True)
def test_it_is_exported_and_plain_transformers_has_the_same_tokens_and_logits(folder, tmp_path):
    proof.prove(exported(tmp_path / "out", loaded(folder)), loaded(folder), False)
