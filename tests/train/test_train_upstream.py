"""What our own classes can't represent is answered by transformers; code that comes with a model is not run unasked."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from test_train_answerer import asking
from test_train_opened import llava
from tiny_models import picture
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

from train.__main__ import main
from train.inference import Answerer, Sampling
from train.inference.errors import OpenError
from train.inference.upstream import Upstream

LISTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def folder(tmp_path):
    """A LLaVA whose template wants lists of blocks, as those of llava-hf do."""
    folder, _ = llava(tmp_path / "llava")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    LlavaProcessor(images, tokenizer, 4, "default", LISTS, num_additional_image_tokens=1).save_pretrained(folder)
    return folder


def test_a_template_of_lists_is_answered_as_transformers_does(folder, capsys):
    found = Answerer.open(folder)
    assert isinstance(found, Upstream) and "note: transformers answers" in capsys.readouterr().err
    given = [asking("Which colour?"), asking("Which?", b"no picture"), asking("何色?", picture(1, 30, 20))]
    answers = dict(found.answers(given, Sampling(7)))
    assert answers[1].finish == "error" and "image_unreadable" in answers[1].error
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    text = "<|im_start|>user\nWhich colour?<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([found.tokenizer(text, add_special_tokens=False).input_ids])
    wanted = model.generate(ids, max_new_tokens=7, do_sample=False)[0, ids.shape[1] :].tolist()
    assert answers[0].text == found.decode(wanted).strip() and answers[0].prompt_tokens == ids.shape[1]
    assert answers[2].prompt_tokens > 16 and answers[2].finish in ("stop", "length")


def test_code_of_a_model_is_not_run_unasked(folder, tmp_path, capsys):
    config = json.loads((folder / "config.json").read_text())
    strange = shutil.copytree(folder, tmp_path / "strange")
    told = {**config, "model_type": "strange", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
    (strange / "config.json").write_text(json.dumps(told))
    (strange / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(OpenError, match="look at it, then say --trust-remote-code"):
        Answerer.open(strange)
    assert main(["generate", str(strange), "a"]) == 2 and not (tmp_path / "ran").exists()
    assert capsys.readouterr().err.count("\n") == 1
