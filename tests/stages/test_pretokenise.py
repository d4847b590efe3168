"""Exact counts from sizes and text alone; every sample is kept or counted under its first reason."""

from __future__ import annotations

import copy
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from schemas.shard import COUNTS, ROWS
from stages.chat import ChatFormat, ImageTokens
from stages.images.hashes import sha256
from stages.pretokenise import VERDICT, first_drop, pretokenise, totals
from stages.shard_rows import PretokeniseParams
from stages.tiles.internvl import InternVL
from tests.stages.pictures import joined, sample, table, talk

TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'system' and not loop.first %}{{ raise_exception('late system') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOKENS = ImageTokens("<image>", "<img>", "</img>")
SCHEME = InternVL(tile=56, patch=14, merge=2, max_tiles=6)
PARAMS = PretokeniseParams(SCHEME, TOKENS, max_tokens=200)
GARBAGE = b"no image at all"


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    """One token per byte: every count can be told by eye."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.add_special_tokens({"eos_token": "<|im_end|>", "bos_token": "<|im_start|>"})
    fast.chat_template = TEMPLATE
    return ChatFormat(fast, TOKENS)


def pretokenised(samples: pa.Table, *rest: Any) -> Any:
    return joined(pretokenise([samples], *rest))


def row(name: str, sizes: tuple[tuple[int, int], ...] = (), **fields: Any) -> dict[str, Any]:
    """A sample whose image bytes are no images: only their sizes may be read."""
    found = sample(name, **fields)
    found["images"] = [{"bytes": GARBAGE + bytes([n]), "path": f"{n}.png"} for n in range(len(sizes))]
    found["image_info"] = [
        {"sha256": sha256(image["bytes"]), "size": len(image["bytes"]), "width": width, "height": height}
        for image, (width, height) in zip(found["images"], sizes, strict=True)
    ]
    found["messages"][0]["content"][:0] = [{"type": "image", "text": None}] * len(sizes)
    return found


def verdicts(samples: pa.Table, **reasons: list[str | None]) -> dict[str, pa.Table]:
    return {
        stage: pa.table({"sample_id": samples["sample_id"], "reason": pa.array(found, pa.string())})
        for stage, found in reasons.items()
    }


def test_counts_and_spans_of_one_sample(chat: ChatFormat) -> None:
    samples = table(row("a", ((112, 56), (56, 56)), question="hi", answer="yes", declared_language="en"))
    done = pretokenised(samples, {}, chat, PARAMS)
    (found,) = done.rows.to_pylist()
    # two tiles and a thumbnail of 4 tokens each, then a single tile; both framed
    images = 2 + 3 * 4 + 2 + 1 * 4
    header, end = len("\nuser") + 1, 2
    text = header + len("hi") + end + 1 + len("assistant\n") + len("yes") + end
    assert [found[name] for name in COUNTS] == [text + images, text, images, len("yes") + 1, 4]
    assert [(t["start"], t["num_tokens"], t["rows"], t["cols"], t["thumbnail"]) for t in found["tiles"]] == [
        (header, 14, 1, 2, True),
        (header + 14, 6, 1, 1, False),
    ]
    assert found["image_numbers"] == [0, 1] and (found["subset"], found["licence"]) == ("tests", "cc0")
    assert found["image_sha256"] == [info["sha256"] for info in samples["image_info"].to_pylist()[0]]
    assert (found["source"], found["language"]) == ("tests", "en")
    ((start, stop),) = found["target_spans"]
    assert chat.decode(found["input_ids"][start:stop], False) == "yes<|im_end|>"


SIZES = st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), max_size=3).map(tuple)


@given(
    st.lists(st.tuples(SIZES, st.text(max_size=20), st.text(max_size=20), st.sampled_from([None, "bad"])), max_size=6)
)
@settings(max_examples=40)
def test_every_row_is_kept_or_counted_and_counts_equal_spans(chat: ChatFormat, drawn: list[Any]) -> None:
    samples = table(*(row(str(n), sizes, question=q, answer=a) for n, (sizes, q, a, _) in enumerate(drawn)))
    done = pretokenised(samples, verdicts(samples, quality=[drop for *_, drop in drawn]), chat, PARAMS)
    assert done.rows.schema.equals(ROWS) and done.verdict.schema.equals(VERDICT)
    assert done.counts.rows_in == len(drawn) == done.verdict.num_rows
    assert done.counts.kept == done.rows.num_rows
    assert done.verdict["sample_id"].to_pylist() == samples["sample_id"].to_pylist()
    kept = [v["sample_id"] for v in done.verdict.to_pylist() if v["reason"] is None]
    assert done.rows["sample_id"].to_pylist() == kept
    for found in done.rows.to_pylist():
        sizes = drawn[int(found["sample_id"])][0]
        grids = [SCHEME.grid(*size) for size in sizes]
        ids, tiles = found["input_ids"], found["tiles"]
        assert found["num_tokens"] == len(ids) == found["num_text_tokens"] + found["num_image_tokens"] <= 200
        assert found["num_image_tokens"] == sum(t["num_tokens"] for t in tiles)
        assert found["num_tiles"] == sum(grid.num_tiles for grid in grids)
        assert found["num_target_tokens"] == sum(end - start for start, end in found["target_spans"])
        assert ids.count(chat.image_token_id) == found["num_tiles"] * SCHEME.tokens_per_tile
        for tile, grid in zip(tiles, grids, strict=True):
            owned = ids[tile["start"] : tile["start"] + tile["num_tokens"]]
            assert owned[1:-1] == [chat.image_token_id] * (grid.num_tiles * SCHEME.tokens_per_tile)
            assert not any(
                a < tile["start"] + tile["num_tokens"] and tile["start"] < b for a, b in found["target_spans"]
            )
    assert totals(done.verdict.filter(pc.is_null(done.verdict["reason"]))) == totals(done.rows)


def test_the_longest_sample_that_fits_stays_whole(chat: ChatFormat) -> None:
    base = pretokenised(table(row("a", question="", answer="")), {}, chat, PARAMS).rows["num_tokens"][0].as_py()
    fits, over = (row(name, answer="x" * (200 - base + more), question="") for name, more in (("fits", 0), ("over", 1)))
    done = pretokenised(table(fits, over), {}, chat, PARAMS)
    assert done.rows["num_tokens"].to_pylist() == [200]
    (_, verdict) = done.verdict.to_pylist()
    assert (verdict["stage"], verdict["reason"], verdict["num_tokens"]) == ("pretokenise", "too_long", 201)
    assert verdict["detail"] == "201 tokens, at most 200"
    assert done.counts.dropped == {"pretokenise.too_long": 1}


def test_images_count_towards_the_length(chat: ChatFormat) -> None:
    done = pretokenised(table(row("a", ((900, 100),) * 8), row("b")), {}, chat, PARAMS)
    assert done.verdict["reason"].to_pylist() == ["too_long", None]


def test_own_reasons_are_verdicts_not_errors(chat: ChatFormat) -> None:
    untaught = row("no target")
    untaught["messages"] = [*talk(("user", "q")), {"role": "assistant", "content": []}]
    refused = row("refused", messages=talk(("user", "q"), ("system", "s"), ("assistant", "a")))
    done = pretokenised(table(untaught, refused, row("good", answer="")), {}, chat, PARAMS)
    assert done.counts.dropped == {"pretokenise.no_target": 1, "pretokenise.template_refuses": 1}
    assert "late system" in done.verdict["detail"].to_pylist()[1]
    assert done.rows["num_target_tokens"].to_pylist() == [1]


def test_a_sample_counts_under_the_first_filter_that_drops_it(chat: ChatFormat) -> None:
    samples = table(*(row(name) for name in "abcd"))
    found = verdicts(
        samples,
        dedupe=[None, "duplicate", None, None],
        language=["wrong_language", "wrong_language", None, None],
        quality=["empty_answer", None, "empty_answer", None],
    )
    assert first_drop(samples["sample_id"], found) == [
        ("language", "wrong_language"),
        ("dedupe", "duplicate"),
        ("quality", "empty_answer"),
        (None, None),
    ]
    del found["language"]
    done = pretokenised(samples, found, chat, PARAMS)
    assert done.counts.dropped == {"dedupe.duplicate": 1, "quality.empty_answer": 2}
    assert done.verdict["stage"].to_pylist() == ["quality", "dedupe", "quality", None]
    assert done.rows["sample_id"].to_pylist() == ["d"]


def test_the_detected_language_beats_the_declared_one(chat: ChatFormat) -> None:
    samples = table(row("a", declared_language="en"), row("b", declared_language="en"))
    (found,) = verdicts(samples, language=[None, None]).values()
    found = found.append_column("language", pa.array(["ja", "und"]))
    assert pretokenised(samples, {"language": found}, chat, PARAMS).rows["language"].to_pylist() == ["ja", "und"]
    assert pretokenised(samples, {}, chat, PARAMS).rows["language"].to_pylist() == ["en", "en"]


@pytest.mark.parametrize("ids", [["b", "a"], ["a"], ["a", "b", "c"], ["a", "x"]])
def test_verdicts_of_other_samples_are_refused(chat: ChatFormat, ids: list[str]) -> None:
    samples = table(row("a"), row("b"))
    stray = pa.table({"sample_id": ids, "reason": pa.array([None] * len(ids), pa.string())})
    with pytest.raises(ValueError, match="the verdicts of dedupe don't speak of these samples"):
        pretokenised(samples, {"dedupe": stray}, chat, PARAMS)


def test_a_part_without_survivors_has_no_rows(chat: ChatFormat) -> None:
    samples = table(row("a"))
    for chosen, found in ((samples.slice(0, 0), {}), (samples, verdicts(samples, quality=["empty_answer"]))):
        done = pretokenised(chosen, found, chat, PARAMS)
        assert done.rows.num_rows == 0 and done.rows.schema.equals(ROWS)
        assert set(totals(done.rows).values()) == {0}


def test_a_document_is_all_target(chat: ChatFormat) -> None:
    samples = table(sample("d", messages=talk(("assistant", "Once upon a time"))))
    done = pretokenised(samples, {}, chat, PARAMS)
    (shard,) = done.rows.to_pylist()
    assert shard["num_target_tokens"] == len("Once upon a time") + 1  # and the token that ends the turn
    assert done.counts.kept == 1


def test_a_template_that_wants_a_user_first_refuses_documents(chat: ChatFormat) -> None:
    strict = copy.deepcopy(chat.tokenizer)
    strict.chat_template = (
        "{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('user first') }}{% endif %}" + TEMPLATE
    )
    samples = table(sample("d", messages=talk(("assistant", "Once upon a time"))), sample("e"))
    done = pretokenised(samples, {}, ChatFormat(strict, TOKENS), PARAMS)
    assert done.verdict["reason"].to_pylist() == ["template_refuses", None]
    assert done.counts.rows_in == 2


def test_pieces_of_samples_make_the_same_shard_as_the_whole(chat: ChatFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the samples come, the shard's batches follow from what is kept: at most so many rows and bytes."""
    samples = table(*(row(f"r{n}", ((30, 30),) * (n % 3)) for n in range(300)))
    found = verdicts(samples, quality=["low_rating" if n % 5 == 0 else None for n in range(300)])
    whole = list(pretokenise([samples], found, chat, PARAMS))
    assert [piece.rows.num_rows for piece in whole] == [128, 112]
    cut = [samples.slice(start, 7) for start in range(0, 300, 7)]
    assert list(pretokenise(cut, found, chat, PARAMS)) == whole
    assert joined(whole).rows["sample"].to_pylist() == [n for n in range(300) if n % 5]
    assert [len(piece.verdict) for piece in whole] == [piece.counts.rows_in for piece in whole]
    monkeypatch.setattr("stages.stage.GROUP_BYTES", 4000)
    small = list(pretokenise(cut, found, chat, PARAMS))
    assert len(small) > 10 and joined(small).rows.equals(joined(whole).rows)
    with pytest.raises(ValueError, match="the verdicts of quality don't speak of these samples"):
        list(pretokenise(cut[:-1], found, chat, PARAMS))
