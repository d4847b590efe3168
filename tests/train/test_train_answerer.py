"""Conversations in, answers out: prompts as shards have them, one failure stops no other, nothing is held for long."""

from __future__ import annotations

import io
import threading
from collections import Counter

import pytest
import torch
from PIL import Image
from tiny_shards import COLOURS, SIZES, png, talks, write_tokenizer
from tiny_shards import _messages as messages_of

from stages.chat import ChatFormat, ImageTokens
from stages.chat_plan import Plans
from stages.images import rules
from stages.shard_rows import PretokeniseParams, rows_of
from stages.tiles.internvl import InternVL
from stages.tiles.jina import Jina
from stages.tiles.llava15 import Llava15Pad, Llava15Square
from stages.tiles.llmjp4vl import LlmJp4VL
from train.data.collate import cut_tiles
from train.data.shards import Facts, Shards
from train.inference import Answerer, Conversation, Sampling
from train.inference.errors import PromptError
from train.inference.prompt import Prompts

SCHEMES = [
    InternVL(tile=16, patch=4, merge=2, max_tiles=4),
    LlmJp4VL(tile=16, patch=4, merge=2, max_tiles=4),
    Llava15Pad(tile=16, patch=4),
    Llava15Square(tile=16, patch=4),
    Jina(tile=28, patch=4, margin=2, max_tiles=4),
]


@pytest.fixture(scope="module")
def answerer(learnt):
    return Answerer.open(learnt, slots=3)


def asking(question, *pictures):
    blocks = [{"type": "image"}] * len(pictures)
    return Conversation(({"role": "user", "content": [*blocks, {"type": "text", "text": question}]},), pictures)


def colours():
    return [
        (colour, asking(question, png(colour, size)))
        for colour in COLOURS
        for size in SIZES
        for question in ("Which colour?", "何色?")
    ]


# ---- prompts ---------------------------------------------------------------------------------------------------------


def test_a_prompt_has_the_ids_and_the_pixels_of_the_shards_row(shards, answerer):
    found = Shards(shards)
    checked = Counter()
    for number, talk in enumerate(talks(len(found))):
        sample, messages = found.sample(number), messages_of(talk)
        pictures = tuple(png(*picture) for picture in talk.pictures)
        for turn in range(1, len(messages), 2):
            prompt = answerer._prompts.of(Conversation(tuple(messages[:turn]), pictures))
            start = int(sample.target_spans[turn // 2][0])
            assert prompt.ids.tolist() == sample.input_ids[:start].tolist()
            assert (prompt.tiles == cut_tiles([sample], found.facts.scheme)).all()
            checked[len(pictures)] += 1
    assert min(checked[0], checked[1], checked[2]) > 10


def pictures():
    """A photograph that lies on its side, one with alpha, a wide one in grey."""
    made = []
    for number, (mode, size, form) in enumerate(
        [("RGB", (60, 20), "JPEG"), ("RGBA", (33, 47), "PNG"), ("L", (90, 31), "PNG")]
    ):
        picture = Image.effect_noise(size, 80).convert(mode)
        if mode == "RGBA":
            picture.putalpha(Image.linear_gradient("L").resize(size))
        exif, buffer = Image.Exif(), io.BytesIO()
        exif[0x0112] = 6 if number == 0 else 1
        picture.save(buffer, form, exif=exif)
        made.append(buffer.getvalue())
    return tuple(made)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.scheme)
def test_pretokenise_makes_the_same_of_a_conversation(scheme, tmp_path):
    tokens = ImageTokens("<image>", "<img>", "</img>", "<row>" if scheme.needs else None)
    chat = ChatFormat(write_tokenizer(tmp_path, ["Which colour? 何色? red"]).tokenizer, tokens)
    given = pictures()
    blocks = [{"type": "image"}, {"type": "text", "text": "これは?"}, {"type": "image"}, {"type": "image"}]
    messages = [
        {"role": "user", "content": blocks},
        {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
    ]
    row = {
        "sample_id": "a",
        "source": "tests",
        "messages": messages,
        "images": range(3),
        "image_info": [vars(rules.inspect(data, 10**8)) for data in given],
    }
    [wanted], _ = rows_of(row, chat, PretokeniseParams(scheme, tokens))
    of = Facts(scheme, chat.image_tokens, chat._rules, chat.image_token_id, chat.vocab_size, None)
    prompt = Prompts(chat, of, 10_000).of(Conversation((messages[0],), given))
    assert prompt.ids.tolist() == wanted["input_ids"][: wanted["target_spans"][0][0]].tolist()
    assert [tuple(tile[name] for name in ("rows", "cols", "thumbnail")) for tile in wanted["tiles"]] == [*prompt.grids]
    start = 0
    for data, grid in zip(given, prompt.grids, strict=True):
        wanted_tiles = scheme.cut(rules.open_rgb(data), grid)
        assert (prompt.tiles[start : start + grid.num_tiles] == wanted_tiles).all()
        start += grid.num_tiles
    assert start == len(prompt.tiles)


def test_an_image_is_decoded_once(answerer, monkeypatch):
    decoded, load = [], rules._load
    monkeypatch.setattr(rules, "_load", lambda image: (decoded.append(image.size), load(image))[1])
    given = [asking("Which colour is second?", png("red", (16, 48)), png("blue", (16, 16)))] * 5
    assert [answer.finish for _, answer in answerer.answers(given)] == ["stop"] * 5
    assert Counter(decoded) == {(16, 48): 5, (16, 16): 5}


# ---- many ------------------------------------------------------------------------------------------------------------


def test_many_answer_as_one_at_a_time(answerer, learnt):
    given = colours()
    found = dict(answerer.answers(conversation for _, conversation in given))
    alone = Answerer.open(learnt, slots=1)
    assert [found[number] for number in range(len(given))] == [
        next(alone.answers([conversation]))[1] for _, conversation in given
    ]
    right = [found[number].text == colour for number, (colour, _) in enumerate(given)]
    assert sum(right) > 0.9 * len(right)
    assert all(found[n].finish == "stop" and found[n].tokens == 2 and found[n].prompt_tokens > 20 for n in found)


def broken():
    """What can't be answered, and what is said of it."""
    whole = png("red", (16, 16))
    text, image = {"type": "text", "text": "a"}, {"type": "image"}
    return [
        (asking("a", b"no picture"), "image 1: image_unreadable"),
        (asking("a", whole, whole[:60]), "image 2: image_truncated"),
        (Conversation(asking("a", whole).messages, (whole, whole)), "2 images, and the messages have places for 1"),
        (Conversation(asking("a", whole).messages), "0 images, and the messages have places for 1"),
        (asking("long " * 400), "tokens, and prompt and answer may have 400"),
        (Conversation(()), "nothing is asked"),
        (Conversation(({"role": "robot", "content": [text]},)), "message 1: its role is 'robot'"),
        (Conversation(({"role": "user", "content": "a"},)), "wanted a list of blocks"),
        (Conversation(({"role": "user", "content": [{"type": "video"}]},)), "wanted a text or an image"),
        (Conversation(({"role": "assistant", "content": [text]},)), "the last message is the assistant's"),
        (
            Conversation(({"role": "user", "content": [image, text]}, {"role": "user", "content": [image]}), (whole,)),
            "places for 2",
        ),
    ]


def test_what_can_not_be_answered_is_one_line_and_stops_no_other(answerer):
    whole = asking("Which colour?", png("blue", (16, 16)))
    given = [each for conversation, _ in broken() for each in (conversation, whole)]
    found = dict(answerer.answers(given))
    assert len(found) == len(given)
    for number, (_, told) in enumerate(broken()):
        failed, fine = found[2 * number], found[2 * number + 1]
        assert failed.finish == "error" and told in failed.error and "\n" not in failed.error and not failed.text
        assert (fine.text, fine.error) == ("blue", None)
    assert not [*answerer.answers([])]
    assert [answer.finish for _, answer in answerer.answers([conversation for conversation, _ in broken()])] == [
        "error"
    ] * len(broken())


def test_only_a_window_of_conversations_is_held(answerer):
    asked, held = Counter(), []

    def given():
        for _ in range(200):
            asked["now"] += 1
            yield asking("Say yes.")

    for number, _ in enumerate(answerer.answers(given())):
        held.append(asked["now"] - number)
    assert len(held) == 200 and max(held) <= 3 * 3


def test_one_thread_at_a_time_lays_out_conversations(learnt, monkeypatch):
    seen, plan = [], Plans.of

    def of(self, *shape):
        seen.append(threading.current_thread() is threading.main_thread())
        return plan(self, *shape)

    answerer = Answerer.open(learnt)
    monkeypatch.setattr(Plans, "of", of)
    assert dict(answerer.answers([asking("Say yes.")]))[0].text == "yes"
    assert seen and not any(seen)


def test_an_answer_ends_with_the_most_tokens_and_with_the_context(answerer):
    conversation = asking("Which colour?", png("blue", (16, 16)))
    [(_, short)] = answerer.answers([conversation], Sampling(max_new_tokens=1))
    assert (short.finish, short.tokens) == ("length", 1)
    words = 1
    while "tokens, and prompt" not in str(next(answerer.answers([asking("a " * words)], Sampling(1)))[1].error):
        words += 1
    [(_, last)] = answerer.answers([asking("a " * (words - 1))], Sampling(1000, temperature=5.0))
    assert last.prompt_tokens + last.tokens <= answerer.of.context == 400 and last.finish in ("length", "stop")


def test_seeds_draw_again_and_differently(answerer):
    conversation = asking("Which colour?", png("blue", (16, 16)))
    hot = [next(answerer.answers([conversation], Sampling(20, 3.0, seed=seed)))[1].text for seed in (1, 1, 2, 3)]
    assert hot[0] == hot[1] and len({*hot}) == 3


# ---- one -------------------------------------------------------------------------------------------------------------


def test_pieces_of_an_answer_come_to_it(answerer):
    conversation = asking("Which colour?", png("blue", (16, 16)))
    counts = []
    for sampling in (Sampling(), *(Sampling(60, 4.0, seed=seed) for seed in range(9))):
        pieces = [*answerer.stream(conversation, sampling)]
        assert "".join(pieces) == next(answerer.answers([conversation], sampling))[1].text
        assert not any(piece.endswith("\ufffd") for piece in pieces[:-1])
        counts.append(len(pieces))
    assert max(counts) > 5
    with pytest.raises(PromptError, match="image_unreadable"):
        next(answerer.stream(asking("a", b"no picture")))


def examples(folder):
    """The four kinds of conversation, as people write them."""
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        (folder / name).write_bytes(png(colour, (16, 16)))
    first, second = ({"type": "image", "image": str(folder / name)} for name in ("a.png", "b.png"))

    def text(said):
        return {"type": "text", "text": said}

    return [
        [{"role": "user", "content": [text("富士山について簡潔に説明してください。")]}],
        [{"role": "user", "content": [first, text("何色?")]}],
        [{"role": "user", "content": [first, second, text("Which colour is second?")]}],
        [
            {"role": "user", "content": [first, text("Which colour?")]},
            {"role": "assistant", "content": [text("red")]},
            {"role": "user", "content": [text("何色?")]},
        ],
    ]


def test_the_four_kinds_of_conversation_are_answered(answerer, tmp_path):
    texts = [answerer.answer(messages) for messages in examples(tmp_path)]
    assert isinstance(texts[0], str) and texts[1:] == ["red", "blue", "red"]
    shown = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "何色?"}]}]
    assert answerer.answer(shown, [tmp_path / "b.png"]) == answerer.answer(shown, [png("blue", (16, 16))]) == "blue"


@pytest.mark.parametrize(
    ("messages", "images", "told"),
    [
        ("hello", (), "wanted a list"),
        ([{"role": "user", "content": [{"type": "image"}]}], (), "says no image"),
        ([{"role": "user", "content": [{"type": "image", "image": 3}]}], (), "wanted the path"),
        ([{"role": "user", "content": [{"type": "image", "image": "no.png"}]}], (), "no.png: can't be read"),
        ([{"role": "user", "content": [{"type": "image", "image": "https://a/b.png"}]}], (), "no image is fetched"),
        ([{"role": "user", "content": "a"}], (b"", b""), "2 images too many"),
    ],
)
def test_what_nobody_can_mean_is_one_line(answerer, messages, images, told):
    with pytest.raises(PromptError, match=told) as error:
        answerer.answer(messages, images)
    assert "\n" not in str(error.value)


def test_half_precision_answers_too(learnt):
    answerer = Answerer.open(learnt, slots=3, dtype=torch.bfloat16)
    found = dict(answerer.answers(conversation for _, conversation in colours()))
    assert sum(found[n].text == colour for n, (colour, _) in enumerate(colours())) > 0.8 * len(found)
