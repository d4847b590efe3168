"""A shard folder small enough to train on in a second, written by the same chat format and tile scheme as real ones.

Samples are one-colour pictures of several sizes with a question or two, samples of two pictures, and samples of text
alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from schemas import fingerprints, shard_map
from schemas.fingerprints import Fingerprints
from schemas.identity import fingerprint
from schemas.manifest import Counts, Manifest, describe, hash_file
from schemas.shard import INDEX, SHARD
from stages.chat import ChatFormat, ImageTokens
from stages.chat_rules import ChatRules
from stages.tiles.internvl import InternVL

SCHEME = InternVL("internvl", tile=16, patch=4, merge=2, max_tiles=4, thumbnail=True)
TOKENS = ImageTokens("<image>", "<img>", "</img>")
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}
SIZES = ((16, 16), (32, 16), (16, 48), (32, 32))
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

CONFIG: dict[str, Any] = {
    "data": {"shards": "unset", "seed": 3, "epochs": 2, "batch_size": 8, "max_tokens_per_pack": 120},
    "model": {
        "vision": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32},
        "language": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "num_kv_heads": 2,
            "intermediate_size": 64,
        },
        "init_seed": 1,
    },
    "optimiser": {
        "matrices": "muon",
        "learning_rate": 0.01,
        "warmup_steps": 3,
        "weight_decay": 0.1,
        "clip": 1.0,
        "schedule": "cosine",
    },
    "run": {"out": "unset", "threads": 1, "checkpoint_every": 2, "log_every": 3},
}


@dataclasses.dataclass(frozen=True)
class Talk:
    """A sample before it is tokenised: pictures as (colour, size), turns as (question, answer)."""

    pictures: tuple[tuple[str, tuple[int, int]], ...]
    turns: tuple[tuple[str, str], ...]


def talks(count: int) -> list[Talk]:
    """Samples with one picture, with none and with two, in turn; colours and sizes vary."""
    made = []
    for number, (size, colour) in zip(range(count), itertools.cycle(itertools.product(SIZES, COLOURS)), strict=False):
        other = list(COLOURS)[number % 3]
        if number % 5 == 3:
            made.append(Talk((), (("Say yes.", "yes"), ("Say no.", "no"))))
        elif number % 5 == 4:
            made.append(Talk(((colour, size), (other, (16, 16))), (("Which colour is second?", other),)))
        else:
            made.append(Talk(((colour, size),), (("Which colour?", colour), ("何色?", colour))[: 1 + number % 2]))
    return made


def png(colour: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(buffer, "PNG")
    return buffer.getvalue()


def row(number: int, talk: Talk, chat: ChatFormat) -> dict[str, Any]:
    """A SHARD row."""
    grids = [SCHEME.grid(*size) for _, size in talk.pictures]
    encoded = chat.encode(_messages(talk), [grid.num_tiles * SCHEME.tokens_per_tile for grid in grids])
    tiles = [
        {"scheme": SCHEME.scheme, **grid._asdict(), "width": size[0], "height": size[1], "start": at, "num_tokens": n}
        for grid, (_, size), (at, n) in zip(grids, talk.pictures, encoded.image_spans, strict=True)
    ]
    image_tokens = sum(n for _, n in encoded.image_spans)
    return {
        "sample_id": f"tests/{number}",
        "source": "tests",
        "subset": "tests",
        "licence": None,
        "language": "en",
        "input_ids": encoded.input_ids,
        "target_spans": encoded.target_spans,
        "label_changes": [{"position": place, "id": label} for place, label in encoded.label_changes],
        "images": [{"bytes": png(*picture), "path": f"{number}.png"} for picture in talk.pictures],
        "image_sha256": [hashlib.sha256(png(*picture)).hexdigest() for picture in talk.pictures],
        "tiles": tiles,
        "num_tokens": len(encoded.input_ids),
        "num_text_tokens": len(encoded.input_ids) - image_tokens,
        "num_image_tokens": image_tokens,
        "num_target_tokens": sum(end - start for start, end in encoded.target_spans),
        "num_tiles": sum(grid.num_tiles for grid in grids),
        "scores": [],
        "messages": None,
    }


def write_tokenizer(folder: Path, texts: Sequence[str]) -> ChatFormat:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    chat = ChatFormat(fast, TOKENS)
    chat.save(folder)
    return chat


def write_shards(
    folder: Path,
    samples: Sequence[Talk],
    per_shard: int = 25,
    per_batch: int = 4,
    first_shard: int = 0,
    source: str = "tests",
    texts: Sequence[str] = (),
) -> Path:
    """A finished shard folder holding these samples."""
    texts = texts or [text for talk in samples for turn in talk.turns for text in turn]
    chat = write_tokenizer(folder / "tokenizer", texts)
    rows = [{**row(number, talk, chat), "source": source} for number, talk in enumerate(samples)]
    index = []
    for shard, first in enumerate(range(0, len(rows), per_shard), start=first_shard):
        part = rows[first : first + per_shard]
        write_shard(folder, shard, part, per_batch)
        index += [{**entry, "shard": shard, "row": at} for at, entry in enumerate(part)]
    schema = fingerprints.written(INDEX, prints(folder))
    pq.write_table(pa.Table.from_pylist(index, schema), folder / "index.parquet")
    write_manifest(folder, chat, len(rows))
    return folder


def prints(folder: Path) -> Fingerprints:
    """Of the tokenizer that lies there, and of the scheme."""
    files = {path.name: hash_file(path) for path in (folder / "tokenizer").iterdir()}
    return fingerprints.taken(files, dataclasses.asdict(SCHEME))


def write_shard(folder: Path, number: int, rows: Sequence[dict[str, Any]], per_batch: int = 4) -> None:
    """One shard and its map."""
    path = folder / f"shard-{number:05d}.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SHARD) as writer:
        writer.write_table(pa.Table.from_pylist(rows, SHARD), max_chunksize=per_batch)
    write_map(folder, number)


def write_map(folder: Path, number: int) -> None:
    """The map of a shard as it is."""
    text = shard_map.survey(folder / f"shard-{number:05d}.arrow").to_json()
    (folder / f"map-{number:05d}.json").write_text(text, encoding="utf-8")


def write_manifest(folder: Path, chat: ChatFormat, count: int) -> None:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    files = tuple(describe(folder, name) for name in names)
    facts = {
        "tiles": dataclasses.asdict(SCHEME),
        "tokens": dataclasses.asdict(chat.image_tokens),
        "chat": dataclasses.asdict(ChatRules()),
        "rows": count,
        "image_token_id": chat.image_token_id,
        "vocab_size": chat.vocab_size,
        "fingerprints": dataclasses.asdict(prints(folder)),
    }
    identity = fingerprint([dataclasses.asdict(entry) for entry in files])
    manifest = Manifest("pretokenise", 1, identity, {}, {}, Counts(count, count), {}, files, facts)
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")


def _messages(talk: Talk) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for number, (question, answer) in enumerate(talk.turns):
        pictures: list[dict[str, Any]] = [{"type": "image"}] * len(talk.pictures) if number == 0 else []
        messages.append({"role": "user", "content": [*pictures, {"type": "text", "text": question}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages


def merged(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A deep copy of a config with dotted keys replaced: merged(CONFIG, **{"data.epochs": 3})."""
    copy: dict[str, Any] = json.loads(json.dumps(base))
    for key, value in changes.items():
        *path, last = key.split(".")
        section = copy
        for name in path:
            section = section[name]
        section[last] = value
    return copy
