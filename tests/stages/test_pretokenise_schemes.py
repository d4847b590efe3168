"""What the tile schemes make of a sample: its ids by kind, its grids within what the text leaves, and refusals."""

from __future__ import annotations

from typing import Any

import pytest

from stages.chat import ChatFormat, ImageTokens
from stages.pretokenise import PretokeniseParams, pretokenise
from stages.tiles.llmjp4vl import LlmJp4VL
from stages.tiles.scheme import Scheme
from tests.stages.kinds_of_tokenizer import KINDS
from tests.stages.pictures import joined, sample, table
from tests.stages.test_pretokenise import row

TOKENS = ImageTokens("<image>", "<img>", "</img>", "<row>")


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(KINDS["byte-level BPE"](), TOKENS)


def made(chat: ChatFormat, scheme: Scheme, *rows: dict[str, Any], tokens: ImageTokens = TOKENS) -> Any:
    params = PretokeniseParams(scheme, tokens, max_tokens=100_000)  # type: ignore[arg-type]
    return joined(pretokenise([table(*rows)], {}, 0, chat, params))


def test_the_text_of_a_conversation_limits_its_grids(chat: ChatFormat) -> None:
    alone = made(chat, LlmJp4VL(), sample("a")).shard["num_tokens"][0].as_py()
    short = row("short", ((1024, 768),))
    scheme = LlmJp4VL(context=alone + 2 + 256 * 13)
    fits, over = made(chat, scheme, short), made(chat, LlmJp4VL(context=scheme.context - 1), short)
    assert fits.shard["num_tokens"].to_pylist() == [scheme.context]
    (tile,) = over.shard["tiles"][0].as_py()
    assert (tile["rows"] * tile["cols"], tile["thumbnail"]) == (6, True)
    shared = made(chat, scheme, row("two", ((1024, 768), (1024, 768)))).shard["tiles"][0].as_py()
    assert [tile["rows"] * tile["cols"] for tile in shared] == [4, 4]


def test_images_are_taken_out_of_a_text_that_is_counted(chat: ChatFormat) -> None:
    image, words = {"type": "image", "text": None}, [{"type": "text", "text": text} for text in ("How man", "y?")]
    answer = {"role": "assistant", "content": [{"type": "text", "text": "Two."}]}
    apart = [{"role": "user", "content": [words[0], image, words[1]]}, answer]
    whole = [{"role": "user", "content": words}, answer]
    assert chat.count_text(apart) == len(chat.encode(whole, []).input_ids)
    assert chat.count_text(apart[:1], prompt=True) == len(chat.encode_prompt(whole[:1], []).input_ids)
