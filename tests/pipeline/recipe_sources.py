"""A few rows of every dataset that configs/recipes/ name, in the layout of their real downloads, and their tokenizers.

The tokenizers have the real special tokens at the real ids; every other id is a byte, or a word that no text has.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.pipeline.conftest import write_json
from tests.pipeline.test_shapes import tar
from tests.stages.test_labels import QWEN3
from tests.stages.test_token_binding import llmjp

LARGE, TILE, SMALL = (1024, 768), (512, 512), (64, 64)
LONG = "It goes on and on, word after word. " * 30  # of bytes: half of 2,048 tokens

# ---- tokenizers

_QWEN3 = ["endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start"]
_QWEN3 += ["quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"]
_FIM = ["fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "repo_name", "file_sep"]
_TAGS = ["<tool_response>", "</tool_response>", "<think>", "</think>"]
_LAST = 151_643  # words of Qwen3's vocabulary
# The template of LLM-jp-4's language models, as far as conversations without tools and thoughts go
_HARMONY = (
    "<|start|>system<|message|>You are LLM-jp-4, a large language model trained by LLM-jp.\nKnowledge cutoff: 2025-12\n"
    "Current date: {{ strftime_now('%Y-%m-%d') }}\n\nReasoning: medium\n\n"
    "# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>"
    "{% if messages[0].role == 'system' %}<|start|>developer<|message|># Instructions\n\n{{ messages[0].content }}\n\n"
    "<|end|>{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>"
    "{{ m.content }}{% if m.role == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


def qwen3(folder: Path, end: str = "<|im_end|>") -> None:
    """Qwen3's special tokens at their ids, up to 151,668; `end`: of a text, which the base models have another for."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"word {number}" for number in range(len(letters), _LAST))]
    bpe = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = [f"<|{name}|>" for name in _QWEN3]
    bpe.add_special_tokens(special)
    bpe.add_tokens(["<tool_call>", "</tool_call>", *(f"<|{name}|>" for name in _FIM), *_TAGS])
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=end, pad_token=special[0])
    made.chat_template = QWEN3
    assert made.convert_tokens_to_ids(["<|im_start|>", "</think>"]) == [151_644, 151_668] and len(made) == 151_669
    made.save_pretrained(folder)


def qwen3_base(folder: Path) -> None:
    qwen3(folder, "<|endoftext|>")


def llm_jp(folder: Path) -> None:
    """The control tokens of LLM-jp-4 at their ids, and the template of its language models."""
    made = llmjp()
    made.chat_template = _HARMONY
    made.save_pretrained(folder)


# ---- sources


def picture(size: tuple[int, int], shade: int = 90, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 120, 60)).save(buffer, kind)
    return buffer.getvalue()


def inline(size: tuple[int, int], shade: int = 90) -> dict[str, Any]:
    return {"bytes": picture(size, shade), "path": None}


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def asked(question: str, answer: str) -> dict[str, str]:
    return {"user": question, "assistant": answer}


def said(*turns: str) -> list[dict[str, str]]:
    """Turns as LLaVA writes them."""
    return [{"from": ("human", "gpt")[n % 2], "value": value} for n, value in enumerate(turns)]


def finevision(folder: Path) -> None:
    rated = {
        f"{name}_{end}": value for name in ("relevance", "formatting") for end, value in (("ratings", [5]), ("min", 5))
    }
    one = {"texts": [asked("How many bars?", "Three.")], "images": [inline(LARGE)], "source": "chartqa"}
    two = {"texts": [asked("What is it?", "A sign."), asked("Sure?", "Yes.")], "images": [inline(TILE)]}
    both = {"texts": [asked("Which is wider?", "None.")], "images": [inline(LARGE, 10), inline(LARGE, 20)]}
    far = {"texts": [asked("Tell me more.", LONG * 5)], "images": [inline(TILE, 30)]}
    rows = [{"source": "chartqa", **row, **rated} for row in (one, two, both, far)]
    parquet(folder / "chart+qa(merged)" / "train-00000-of-00001.parquet", rows)
    bare = {"source": "text_mathqa", "images": None, "texts": [{"assistant": "4", "user": "2+2?"}], **rated}
    parquet(folder / "text_mathqa" / "train-00000-of-00001.parquet", [bare])


def jagle(folder: Path) -> None:
    parquet(folder / "a.parquet", [{"image": inline(SMALL), "question": "これは何ですか?", "answer": "猫です。"}])


def pretrain(folder: Path) -> None:
    folder.mkdir()
    names = {"00453/004539375.jpg": LARGE, "00000/000000010.jpg": SMALL}
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for name, size in names.items():
            archive.writestr(zipfile.ZipInfo(name), picture(size))  # without the time of today
    asks = ["Render a summary.\n<image>", "<image>\nWhat is this?"]
    rows = [
        {"id": name[6:-4], "image": name, "conversations": said(ask, f"caption {n}")}
        for n, (name, ask) in enumerate(zip(names, asks, strict=True))
    ]
    write_json(folder / "blip_laion_cc_sbu_558k.json", rows)
    write_json(folder / "blip_laion_cc_sbu_558k_meta.json", [{"id": row["id"], "blip_caption": "x"} for row in rows])


def mix665k(folder: Path) -> None:
    places = ["coco/train2017/000000033471.jpg", "gqa/images/1.jpg", "ocr_vqa/images/2.jpg"]
    places += ["textvqa/train_images/3.jpg", "vg/VG_100K/4.jpg", "vg/VG_100K_2/5.jpg"]
    for name in places:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(picture(SMALL, kind="GIF" if "ocr" in name else "JPEG"))
    rows: list[dict[str, Any]] = [
        {"id": "1", "image": name, "conversations": said("<image>\nWhat colour?", f"Red {n}.")}
        for n, name in enumerate(places)
    ]
    rows[1]["conversations"] = said("Which?\n<image>", "This.", "Is it <think>?", "No.")
    rows.append({"id": "1", "image": "gqa/images/dead.jpg", "conversations": said("<image>\nWhat?", "Gone.")})
    rows.append({"id": "wgByO4Y_0", "model": "", "conversations": said("hi", "hello")})
    rows.append({"id": "wgByO4Y_1", "model": "", "conversations": said("go on", LONG, "and on", LONG)})
    write_json(folder / "llava_v1_5_mix665k.json", rows)


def pixmo(folder: Path, web: str) -> None:
    rows = [(f"{web}/plain/large.jpg", f"A wide wall, seen {n} times.") for n in range(3)]
    rows.append((f"{web}/plain/gone.jpg", "Gone."))
    parquet(
        folder / "data" / "train-00000-of-00001.parquet",
        [{"image_url": url, "caption": caption, "transcripts": ["a wall"]} for url, caption in rows],
    )


def pangea(folder: Path) -> None:
    for name, data in {
        "caption/a.0.webp": picture(LARGE),
        "cultural/laion/2433684022797.0.jpg": picture(SMALL),
    }.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(data)
    tar(folder / "doc.tar", {"doc/1.png": picture(SMALL, kind="PNG")})
    with zipfile.ZipFile(folder / "ocr.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("ocr/2.jpg"), picture(SMALL))
    rows: list[dict[str, Any]] = [
        {"id": 2433684022797.0, "image": "cultural/laion/2433684022797.0.jpg", "language": "ko"},
        {"id": "b", "image": "caption/a.0.webp", "language": "ja"},
        {"id": "c", "image": "doc/1.png"},
        {"id": "d", "image": "ocr/2.jpg", "url": "http://x", "model": "m"},
        {"id": "e", "language": "urdu"},
    ]
    for n, row in enumerate(rows):
        mark = ("<image>\n" if n % 2 else "") if "image" in row else ""
        row["conversations"] = said(f"{mark}설명해 줘" + ("" if n % 2 or n == 4 else "\n<image>"), f"묘사 {n}")
    write_json(folder / "PangeaIns.json", rows)


def common_corpus(folder: Path) -> None:
    rows = [
        {"identifier": "1", "collection": "wiki", "license": "cc0", "language": "English", "text": "Once upon a time."},
        {"identifier": "2", "collection": "wiki", "license": "cc0", "language": "English", "text": LONG * 9},
    ]
    parquet(folder / "common_corpus_1" / "subset_1.parquet", rows)


def onevision(folder: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "image": inline(LARGE), "conversations": said("<image>\nWhat?", "A wall."), "data_source": "x"},
        {"id": "b", "image": None, "conversations": said("Hi.", "Hello."), "data_source": "x"},
    ]
    parquet(folder / "aokvqa(cauldron,llava_format)" / "train-00000-of-00001.parquet", rows)


def cauldron(folder: Path) -> None:
    texts = [{**asked("Same?", "No."), "source": "nlvr2"}]
    parquet(
        folder / "nlvr2" / "train-00000-of-00001.parquet",
        [{"images": [inline(SMALL, 1), inline(SMALL, 2)], "texts": texts}],
    )


def cambrian(folder: Path) -> None:
    (folder / "jsons").mkdir(parents=True)
    tar(folder / "coco.tar", {"coco/train2017/1.jpg": picture(LARGE)})
    rows = [
        {"id": "1", "image": "coco/train2017/1.jpg", "conversations": said("<image>\nWhat?", "A wall.")},
        {"id": "2", "image": "", "conversations": said("Hi.", "Hello.")},
        {"id": "3", "conversations": said("Ho.", "Hello.")},
    ]
    (folder / "jsons" / "Cambrian7M.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def aya(folder: Path) -> None:
    common = {"annotation_type": "original-annotations", "user_id": "u"}
    rows = [
        ("Which number comes after three?", "The number four comes after three.", "English", "eng"),
        ("日本の首都はどこですか?", "日本の首都は東京です。", "Japanese", "jpn"),
        ("Pourquoi le ciel est-il bleu ?", "Parce que la lumière du soleil est diffusée.", "French", "fra"),
    ]
    table = [
        {"inputs": q, "targets": a, "language": name, "language_code": code, **common} for q, a, name, code in rows
    ]
    parquet(folder / "data" / "train-00000-of-00001.parquet", table)


def instructions(folder: Path) -> None:
    folder.mkdir()
    talk = ["You answer in short.", "What is the capital of Japan?", "It is Tokyo.", "And of France?", "It is Paris."]
    roles = ["system", "user", "assistant", "user", "assistant"]
    messages = [{"role": role, "content": content} for role, content in zip(roles, talk, strict=True)]
    (folder / "a.jsonl").write_text(json.dumps({"messages": messages}) + "\n")


SOURCES: dict[str, Callable[[Path], None]] = {
    "finevision": finevision,
    "jagle": jagle,
    "pretrain": pretrain,
    "mix665k": mix665k,
    "pangea": pangea,
    "text": common_corpus,
    "onevision": onevision,
    "cauldron": cauldron,
    "cambrian": cambrian,
    "aya": aya,
    "instructions": instructions,
}
