"""What our own classes can't represent is answered by transformers; code that comes with a model is not run unasked."""

from __future__ import annotations

import io
import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from test_train_answerer import asking
from tiny_models import picture
from tiny_shards import write_tokenizer
from transformers import (
    AutoProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
)

from train.__main__ import main
from train.inference import Answerer, Sampling
from train.inference.errors import OpenError
from train.inference.upstream import Upstream

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CODE = """
from transformers import Idefics3Config, Idefics3ForConditionalGeneration

class ToyConfig(Idefics3Config):
    model_type = "toy"

class Toy(Idefics3ForConditionalGeneration):
    config_class = ToyConfig
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An Idefics3, whose pictures are cut into tiles and a whole one."""
    place = tmp_path_factory.mktemp("upstream")
    tokenizer = write_tokenizer(place / "tokenizer", ["Which colour? red green", "何色?"]).tokenizer
    images = Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    text = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = Idefics3Config(
        vision_config={**tower, "image_size": 16, "patch_size": 4},
        text_config={
            **{**text, "model_type": "llama", "intermediate_size": 48, "vocab_size": len(processor.tokenizer)},
            **{"eos_token_id": 2, "bos_token_id": None, "pad_token_id": 0, "max_position_embeddings": 300},
        },
        image_token_id=processor.tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    Idefics3ForConditionalGeneration(config).save_pretrained(place / "model")
    processor.save_pretrained(place / "model")
    return place / "model"


def plain(folder, conversation):
    """What transformers makes of it: prompt tokens and answer."""
    processor = AutoProcessor.from_pretrained(folder)
    model = Idefics3ForConditionalGeneration.from_pretrained(folder)
    pictures = iter(conversation.images)
    [message] = conversation.messages
    blocks = [
        {"type": "image", "image": Image.open(io.BytesIO(next(pictures)))} if block["type"] == "image" else block
        for block in message["content"]
    ]
    given = processor.apply_chat_template(
        [{**message, "content": blocks}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    length = given["input_ids"].shape[1]
    with torch.no_grad():
        found = model.generate(**given, max_new_tokens=9, do_sample=False)[0, length:]
    return length, processor.tokenizer.decode(found, skip_special_tokens=True).strip()


def test_another_architecture_is_answered_as_plain_transformers_does(folder, capsys):
    found = Answerer.open(folder)
    assert isinstance(found, Upstream) and found.context == 300
    assert "of a model 'idefics3'" in capsys.readouterr().err
    one, two = picture(1, 30, 20), picture(2, 16, 50)
    given = [
        asking("Which?"),
        asking("何色?", one),
        asking("a", b"no picture"),
        asking("b", one, two),
        asking("a" * 400),
    ]
    answers = dict(found.answers(given, Sampling(9)))
    assert "image_unreadable" in answers[2].error and "prompt and answer may have 300" in answers[4].error
    for number in (0, 1, 3):
        assert (answers[number].prompt_tokens, answers[number].text) == plain(folder, given[number])
    assert answers[0].prompt_tokens < answers[1].prompt_tokens < answers[3].prompt_tokens
    assert answers[1].text != answers[3].text


def test_draws_are_of_the_seed_alone(folder):
    found = Answerer.open(folder)
    first, again, other = (
        next(found.answers([asking("Which?")], Sampling(9, temperature=1.0, seed=seed)))[1].text for seed in (1, 1, 2)
    )
    assert first == again != other


def toy(folder, place, code):
    """A folder of a model that comes with code of its own."""
    shutil.copytree(folder, place)
    told = json.loads((place / "config.json").read_text())
    classes = {"AutoConfig": "modeling_toy.ToyConfig", "AutoModelForImageTextToText": "modeling_toy.Toy"}
    (place / "config.json").write_text(json.dumps({**told, "model_type": "toy", "auto_map": classes}))
    (place / "modeling_toy.py").write_text(code)
    return place


def test_weights_in_a_pickle_are_not_read(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "model")
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(OpenError, match="transformers can't open it"):
        Upstream(copy, False, None, None)


def test_code_of_a_model_is_not_run_unasked(folder, tmp_path, capsys):
    strange = toy(folder, tmp_path / "strange", f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(OpenError, match=r"look at it, then say --trust-remote-code.*of a model 'toy'"):
        Answerer.open(strange)
    assert main(["generate", str(strange), "a"]) == 2 and not (tmp_path / "ran").exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_code_of_a_model_runs_if_that_is_asked_for(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    strange = toy(folder, tmp_path / "strange", CODE)
    wanted = next(Answerer.open(folder).answers([asking("何色?", picture(1, 30, 20))], Sampling(9)))[1]
    (tmp_path / "a.png").write_bytes(picture(1, 30, 20))
    capsys.readouterr()
    given = ["--trust-remote-code", "--max-new-tokens", "9", "--image", str(tmp_path / "a.png"), "何色?"]
    assert main(["generate", str(strange), *given]) == 0
    assert capsys.readouterr().out.strip() == wanted.text
    found = Answerer.open(strange, trust_remote_code=True)
    assert type(found._model).__name__ == "Toy"


def test_code_that_fails_is_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    strange = toy(folder, tmp_path / "strange", "raise ValueError('two\\nlines')")
    with pytest.raises(OpenError, match="transformers can't open it") as error:
        Answerer.open(strange, trust_remote_code=True)
    assert "\n" not in str(error.value)
