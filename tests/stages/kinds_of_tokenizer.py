"""Tokenizers of every kind, small and trained here, that hold their control tokens in every place they can lie in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SHORT = "~~"  # which overlaps with itself
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
    "How many cats are in the picture? There are three cats, and a dog. im_end im_start image",
    "猫は何匹いますか? 三匹います。犬も一匹います。",
    "user assistant system\n\n  indented\n\tcode 123 456.78 <b> |x|",
] * 5
BYTES = [f"<0x{n:02X}>" for n in range(256)]


def fast(tokenizer: Tokenizer, unk: str | None = None, special: bool = True) -> PreTrainedTokenizerFast:
    """With ChatML. `special`: whether `<|im_start|>` is declared special, not only an added token."""
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, unk_token=unk)
    if special:
        made.add_special_tokens({"additional_special_tokens": [START]})
    made.chat_template = CHATML
    return made


def byte_level(added: bool = True, special: bool = True) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    if not special:
        tokenizer.add_tokens([AddedToken(START, special=False, normalized=False)])
    return fast(tokenizer, special=special)


def merged(ignore_merges: bool) -> PreTrainedTokenizerFast:
    """A BPE whose merges make the control tokens out of characters, without any splitting before."""
    vocab = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in (START, END, PAD, SHORT):
        for cut in range(1, len(word)):
            pair = (word[:cut], word[cut])
            if word[: cut + 1] not in vocab:
                vocab[word[: cut + 1]] = len(vocab)
                merges.append(pair)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = fast(tokenizer)
    made.add_special_tokens({"additional_special_tokens": [SHORT]}, replace_extra_special_tokens=False)
    return made


def unigram(prepend: str = "always", normalizer: Any = None, declared: bool = True) -> PreTrainedTokenizerFast:
    """Like SentencePiece's: control tokens, and a token for each byte, are words of the vocabulary."""
    special = ["<unk>", PAD, START, END]
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    trainer = trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    trained.train_from_iterator(CORPUS, trainer)
    words = [(word, score) for word, score in json.loads(trained.to_str())["model"]["vocab"] if word not in special]
    single = [(letter, -9.0) for letter in "▁<|>_" if letter not in trained.get_vocab()]
    vocab = [(word, -3.0) for word in special] + [(word, -80.0) for word in BYTES] + words + single
    tokenizer = Tokenizer(models.Unigram(vocab, 0, byte_fallback=True))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    metaspace = decoders.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), metaspace, decoders.Fuse()])
    return fast(tokenizer, "<unk>", declared)


def one_stretch() -> PreTrainedTokenizerFast:
    """Like LLM-jp's: no splitting at all, a normaliser that puts a mark before the text."""
    made = unigram("never")
    tokenizer = made.backend_tokenizer
    marks = [normalizers.Replace(Regex("(?<!\\n)^"), "▁"), normalizers.Replace(Regex(" "), "▁")]
    tokenizer.normalizer = normalizers.Sequence(marks)
    tokenizer.pre_tokenizer = None
    return fast(tokenizer, "<unk>")


def prepended() -> PreTrainedTokenizerFast:
    """SentencePiece's dummy prefix as converters write it: a normaliser, and nothing is split."""
    made = unigram("never")
    marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    made.backend_tokenizer.normalizer = normalizers.Sequence(marks)
    made.backend_tokenizer.pre_tokenizer = None
    return fast(made.backend_tokenizer, "<unk>")


def llama() -> PreTrainedTokenizerFast:
    """Like Llama 2's: SentencePiece's BPE."""
    vocab = {word: n for n, word in enumerate(["<unk>", PAD, START, END, *BYTES])}
    merges = [("▁", "c"), ("a", "t"), ("▁c", "at"), ("▁cat", "s"), ("▁", "▁")]
    for word in [*sorted(set("▁abcdefghijklmnopqrstuvwxyz_|<>")), *map("".join, merges)]:
        vocab[word] = len(vocab)
    model = models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    blanks = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(blanks)
    return fast(tokenizer, "<unk>")


def words(model: Any, normalizer: Any = None) -> PreTrainedTokenizerFast:
    """WordLevel or WordPiece, with the control tokens among the words."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return fast(tokenizer, "[UNK]")


def word_level(normalizer: Any = None) -> PreTrainedTokenizerFast:
    found = ["[UNK]", PAD, START, END, "<image>", "user", "assistant", "猫", "cats", "im_end"]
    return words(models.WordLevel({word: n for n, word in enumerate(found)}, unk_token="[UNK]"), normalizer)


def inner_words(control: str) -> PreTrainedTokenizerFast:
    """A BPE that marks what stands inside a word, and merges `control` there: `##` and `control` is its token."""
    letters = [f"{mark}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz<|>_:" for mark in ("", "##")]
    vocab = {word: n for n, word in enumerate(["[UNK]", PAD, START, END, *letters])}
    merges = [("##" + control[:cut], "##" + control[cut]) for cut in range(1, len(control))]
    vocab |= {first + second[2:]: len(vocab) + n for n, (first, second) in enumerate(merges)}
    made = words(models.BPE(vocab=vocab, merges=merges, unk_token="[UNK]", continuing_subword_prefix="##"))
    made.add_special_tokens({"additional_special_tokens": ["##" + control]})
    return made


def stripping() -> Any:
    return normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("\u200b", ""), normalizers.StripAccents(), normalizers.Lowercase()]
    )


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level BPE": byte_level,
    "byte-level BPE, an added token that is not special": lambda: byte_level(special=False),
    "BPE that merges them": lambda: merged(False),
    "BPE that ignores merges": lambda: merged(True),
    "Unigram": unigram,
    "Unigram, first blank": lambda: unigram("first"),
    "Unigram, no blank": lambda: unigram("never"),
    "Unigram, NFKC": lambda: unigram("always", normalizers.NFKC()),
    "Unigram that strips and lowercases": lambda: unigram("always", stripping()),
    "Unigram, one not declared": lambda: unigram("never", None, declared=False),
    "Unigram of one stretch": one_stretch,
    "Unigram, a blank put before each stretch": prepended,
    "BPE with byte fallback, a blank put before each stretch": llama,
    "WordLevel": word_level,
    "WordLevel that strips and lowercases": lambda: word_level(stripping()),
}
# Where no character is lost or changed: ids decode to the text
EXACT = [
    name
    for name in KINDS
    if ("BPE" in name and "blank" not in name) or name in ("Unigram, no blank", "Unigram, first blank")
]
