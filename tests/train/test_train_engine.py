"""Many answers at once are those of one at a time: token by token, in float32, whoever joins when."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from tiny_models import MODELS, config, facts, mixed, sample, shuffled

from train.data.collate import collate, cut_tiles
from train.inference import engine as engine_module
from train.inference.choice import choose, uniform
from train.inference.conversation import Sampling
from train.inference.engine import Engine, Request
from train.inference.prompt import Prompt
from train.models import build

MANY = {"internvl_siglip+untied": {"language": {**MODELS["internvl_siglip"]["language"], "tie_embeddings": False}}}


def model_of(name):
    family = name.partition("+")[0]
    made = build.build(
        config(*(("internvl_siglip",) if name in MANY else (name,)), **MANY.get(name, {})), facts(family)
    )
    shuffled(made)
    return made.eval()


def samples_of(of):
    """Text, one image and several, of several lengths."""
    more = [sample(of, 11, (50, 20)), sample(of, 12), sample(of, 13, (16, 16), (30, 30)), sample(of, 14)]
    return [*mixed(of), *more]


def prompt_of(one, of):
    return Prompt(one.input_ids, cut_tiles([one], of.scheme), tuple(span.grid for span in one.image_spans))


@torch.no_grad()
def one_at_a_time(model, one, of, most, stop=-1):
    """Greedy, every token by a forward pass over all before it: no slots and nothing kept."""
    pack, found = collate([one], of), []
    row = model.embed(pack.input_ids, pack.images)
    while len(found) < most and stop not in found:
        length = row.shape[1]
        hidden = model.decoder(
            inputs_embeds=row, position_ids=torch.arange(length)[None], use_cache=False, cu_seq_lens_q=[0, length]
        ).last_hidden_state
        found.append(int(model.language.lm_head(hidden[0, -1]).argmax()))
        row = torch.cat([row, model.embedding(torch.tensor([found[-1:]]))], 1)
    return found


class Waiting:
    """Requests that are ready after so many steps."""

    def __init__(self, requests, ready):
        self.left, self.ready, self.asked = list(zip(requests, ready, strict=True)), ready, 0

    def first(self, wait):
        self.asked += 1
        if self.left and (wait or self.left[0][1] <= self.asked):
            return self.left[0][0]
        return None

    def take(self):
        self.left.pop(0)


def requests_of(samples, of, lengths, samplings=None, stop=-1):
    samplings = samplings or [Sampling()] * len(samples)
    return [
        Request(number, prompt_of(one, of), sampling, most, lambda token: token == stop)
        for number, (one, most, sampling) in enumerate(zip(samples, lengths, samplings, strict=True))
    ]


def run(engine, requests, ready=None):
    waiting = Waiting(requests, ready or [0] * len(requests))
    finished = {told.request.number: told.finish for told in engine.run(waiting) if told.finish}
    assert len(finished) == len(requests)
    return [request.tokens for request in requests], finished


@pytest.mark.parametrize("slots", [1, 3, 16])
@pytest.mark.parametrize("name", [*MODELS, *MANY])
def test_answers_are_those_of_one_at_a_time(name, slots):
    of, model = facts(name.partition("+")[0]), model_of(name)
    samples, lengths = samples_of(of), [3, 9, 1, 7, 12, 5, 2, 8, 4]
    wanted = [one_at_a_time(model, one, of, most) for one, most in zip(samples, lengths, strict=True)]
    assert len({tuple(tokens[:3]) for tokens in wanted}) > 3  # or nothing would be compared
    found, finished = run(Engine(model, of, slots), requests_of(samples, of, lengths))
    assert found == wanted and set(finished.values()) == {"length"}


@pytest.mark.parametrize("ready", [[0, 0, 7, 9, 14, 20, 20, 20, 31], [0, 5, 6, 7, 8, 9, 10, 11, 12]])
def test_who_joins_late_gets_the_same_answer(ready):
    of, model = facts("jina"), model_of("jina")
    samples, lengths = samples_of(of), [30, 4, 6, 1, 9, 3, 8, 2, 5]
    wanted = [one_at_a_time(model, one, of, most) for one, most in zip(samples, lengths, strict=True)]
    assert run(Engine(model, of, 4), requests_of(samples, of, lengths), ready)[0] == wanted


def test_a_stop_token_ends_one_answer_and_no_other():
    of, model = facts("llava"), model_of("llava")
    samples = samples_of(of)
    free = [one_at_a_time(model, one, of, 12) for one in samples]
    stop = Counter(token for tokens in free for token in tokens[1:6]).most_common(1)[0][0]
    wanted = [one_at_a_time(model, one, of, 12, stop) for one in samples]
    found, finished = run(Engine(model, of, 3), requests_of(samples, of, [12] * len(samples), stop=stop))
    assert found == wanted
    assert {number for number, why in finished.items() if why == "stop"} == {
        number for number, tokens in enumerate(wanted) if tokens[-1] == stop
    }
    assert {*finished.values()} == {"stop", "length"}


def test_an_engine_is_used_again_and_its_slots_grow():
    of, model = facts("internvl_siglip"), model_of("internvl_siglip")
    samples, engine = samples_of(of), Engine(model, of, 2)
    for lengths in ([2] * 9, [15, 1, 300, 2, 260, 3, 3, 3, 3]):
        wanted = [one_at_a_time(model, one, of, min(most, 20)) for one, most in zip(samples, lengths, strict=True)]
        found = run(engine, requests_of(samples, of, lengths))[0]
        assert [tokens[:20] for tokens in found] == wanted and list(map(len, found)) == lengths
    assert engine.slab.length == 512


def test_answers_that_are_left_early_leave_nobody_behind():
    of, model = facts("llava"), model_of("llava")
    samples, engine = samples_of(of), Engine(model, of, 2)
    told = engine.run(Waiting(requests_of(samples, of, [5] * 9), [0] * 9))
    next(told)
    with pytest.raises(RuntimeError, match="under way"):
        next(engine.run(Waiting([], [])))
    told.close()
    wanted = [one_at_a_time(model, one, of, 4) for one in samples]
    assert run(engine, requests_of(samples, of, [4] * 9))[0] == wanted


def test_prompts_of_a_row_are_bounded(monkeypatch):
    monkeypatch.setattr(engine_module, "ROW", 40)
    of, model = facts("internvl_siglip"), model_of("internvl_siglip")
    samples, rows = samples_of(of), []
    engine = Engine(model, of, 16)
    model.vision.register_forward_pre_hook(lambda *_: rows.append(True))
    embed = model.embed
    lengths = []
    model.embed = lambda ids, images: (lengths.append(ids.shape[1]), embed(ids, images))[1]
    wanted = [one_at_a_time(model, one, of, 4) for one in samples]
    lengths.clear()
    assert run(engine, requests_of(samples, of, [4] * 9))[0] == wanted
    longest = max(len(one.input_ids) for one in samples)
    assert all(length <= max(40, longest) for length in lengths) and len(lengths) > 2


# ---- sampling --------------------------------------------------------------------------------------------------------


def test_a_request_draws_the_same_whoever_is_beside_it():
    of, model = facts("llava"), model_of("llava")
    samples = samples_of(of)
    samplings = [Sampling(12, 1.0 if n % 3 else 0.0, 1.0 if n % 2 else 0.8, seed=n) for n in range(9)]
    alone = [
        run(Engine(model, of, 1), requests_of([one], of, [12], [sampling]))[0][0]
        for one, sampling in zip(samples, samplings, strict=True)
    ]
    assert run(Engine(model, of, 4), requests_of(samples, of, [12] * 9, samplings))[0] == alone
    assert alone[0] == one_at_a_time(model, samples[0], of, 12)
    others = [Sampling(12, 1.0, 1.0, seed=n) for n in range(20, 24)]
    assert len({tuple(run(Engine(model, of, 1), requests_of([samples[1]], of, [12], [s]))[0][0]) for s in others}) == 4


def test_draws_have_the_probabilities_of_the_model():
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.15, 0.1, 0.05]]))
    drawn = Counter(choose(logits, [Sampling(1, 1.0, seed=seed)], [3])[0] for seed in range(4000))
    assert np.allclose([drawn[n] / 4000 for n in range(5)], [0.5, 0.2, 0.15, 0.1, 0.05], atol=0.03)
    cool = Counter(choose(logits, [Sampling(1, 0.5, seed=seed)], [3])[0] for seed in range(4000))
    squares = np.array([0.25, 0.04, 0.0225, 0.01, 0.0025])
    assert np.allclose([cool[n] / 4000 for n in range(5)], squares / squares.sum(), atol=0.03)


def test_top_p_leaves_the_likeliest_that_come_to_it():
    logits = torch.log(torch.tensor([[0.1, 0.5, 0.05, 0.2, 0.15]]))

    def drawn(top_p):
        return {choose(logits, [Sampling(1, 1.0, top_p, seed=seed)], [0])[0] for seed in range(500)}

    assert (drawn(0.4), drawn(0.6), drawn(0.75), drawn(1.0)) == ({1}, {1, 3}, {1, 3, 4}, {0, 1, 2, 3, 4})


@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_however_cold_the_likeliest_is_drawn(top_p):
    logits = torch.tensor([[1.0, 9.0, 3.0, -2.0]])
    assert choose(logits, [Sampling(1, 1e-310, top_p)], [0]) == [1]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: got 0"),
        ({"temperature": -1.0}, "temperature: got -1"),
        ({"temperature": float("nan")}, "temperature: got nan"),
        ({"top_p": 0.0}, "top_p: got 0"),
        ({"top_p": 1.5}, "top_p: got 1.5"),
    ],
)
def test_what_nothing_can_be_drawn_by_is_refused(given, told):
    with pytest.raises(ValueError, match=told):
        Sampling(**given)


def test_draws_differ_by_seed_and_by_position():
    numbers = {uniform(seed, length) for seed in range(50) for length in range(50)}
    assert len(numbers) == 2500 and min(numbers) >= 0 and max(numbers) < 1 and 0.48 < np.mean([*numbers]) < 0.52
