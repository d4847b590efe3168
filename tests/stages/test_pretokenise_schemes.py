"""What the tile schemes make of a sample: its ids by kind, its grids within what the text leaves, and refusals."""

from __future__ import annotations

from typing import Any

import pytest

from stages.chat import ChatFormat, ImageTokens
from stages.pretokenise import pretokenise
from stages.shard_rows import PretokeniseParams
from stages.tiles.jina import Jina
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
    return joined(pretokenise([table(*rows)], {}, chat, params))


def test_the_text_of_a_conversation_limits_its_grids(chat: ChatFormat) -> None:
    alone = made(chat, LlmJp4VL(), sample("a")).rows["num_tokens"][0].as_py()
    short = row("short", ((1024, 768),))
    scheme = LlmJp4VL(context=alone + 2 + 256 * 13)
    fits, over = made(chat, scheme, short), made(chat, LlmJp4VL(context=scheme.context - 1), short)
    assert fits.rows["num_tokens"].to_pylist() == [scheme.context]
    (tile,) = over.rows["tiles"][0].as_py()
    assert (tile["rows"] * tile["cols"], tile["thumbnail"]) == (6, True)
    shared = made(chat, scheme, row("two", ((1024, 768), (1024, 768)))).rows["tiles"][0].as_py()
    assert [tile["rows"] * tile["cols"] for tile in shared] == [4, 4]


def test_images_are_taken_out_of_a_text_that_is_counted(chat: ChatFormat) -> None:
    image, words = {"type": "image", "text": None}, [{"type": "text", "text": text} for text in ("How man", "y?")]
    answer = {"role": "assistant", "content": [{"type": "text", "text": "Two."}]}
    apart = [{"role": "user", "content": [words[0], image, words[1]]}, answer]
    whole = [{"role": "user", "content": words}, answer]
    assert chat.count_text(apart) == len(chat.encode(whole, []).input_ids)
    assert chat.count_text(apart[:1], prompt=True) == len(chat.encode_prompt(whole[:1], []).input_ids)


def test_a_text_that_is_counted_is_not_encoded_again(chat: ChatFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the one that an image stands in: counted without it, it is another."""
    seen: list[str] = []
    ids = chat._plain.ids
    monkeypatch.setattr(chat._plain, "ids", lambda text, first: (seen.append(text), ids(text, first))[1])
    made(chat, LlmJp4VL(), row("a", ((1024, 768),)))
    assert len(seen) == len(set(seen)) and sum("assistant" in told for told in seen) == 1


def test_rows_and_frames_get_ids_of_their_own(chat: ChatFormat) -> None:
    """jina-vlm: two framed blocks, each line ended by its token."""
    (found,) = made(chat, Jina(), row("a", ((800, 600),))).rows.to_pylist()
    (tile,) = found["tiles"]
    assert (tile["rows"], tile["cols"], tile["thumbnail"], tile["num_tokens"]) == (2, 3, True, 1054)
    owned = found["input_ids"][tile["start"] : tile["start"] + 1054]
    line = "<image>" * 14 + "<row>"
    block = ("<image>" * 34 + "<row>") * 24
    assert chat.decode(owned, False).replace(" ", "") == f"<img>{line * 14}</img><img>{block}</img>"
    assert found["num_image_tokens"] == 1054 and found["num_tiles"] == 7


def test_a_scheme_with_rows_asks_for_their_tokens() -> None:
    with pytest.raises(ValueError, match=r"^tokens\.row: missing; the tile scheme jina puts such tokens into images$"):
        PretokeniseParams(Jina(), ImageTokens("<image>", "<img>", "</img>"))


def test_an_image_without_a_grid_drops_its_sample(chat: ChatFormat) -> None:
    done = made(chat, Jina(pixels=(3136, 1_003_520)), row("line", ((1, 4000),)), row("good", ((40, 4000),)))
    assert done.counts.dropped == {"pretokenise.no_grid": 1}
    assert "more than 200 times" in done.verdict["detail"][0].as_py()
