"""Models that our own classes do not have, by transformers' own processor and `generate`, one conversation at a time.

Behind the same protocol, and slower: there are no slots here. Code that comes with a model runs only if that is asked
for. Draws are torch's own, from the request's seed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForImageTextToText, AutoProcessor

from train.inference import asked, upstream_files, upstream_folder
from train.inference.channels import Listener, marks, shown
from train.inference.conversation import Answer, Conversation, Sampling
from train.inference.errors import OpenError, PromptError
from train.inference.identity import identity
from train.inference.prompt import check, pictures

GREEDY = Sampling()
_NONE: tuple[tuple[str, str], ...] = ()


class Upstream:
    """An upstream folder, as transformers runs it."""

    def __init__(self, folder: Path, trust_remote_code: bool, device: str | None, dtype: torch.dtype | None) -> None:
        self.folder, self._own = folder, upstream_files.read(folder)
        _refuse_code(folder, self._own, trust_remote_code)
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        held = dtype or (torch.bfloat16 if where.startswith("cuda") else torch.float32)
        given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        model_class = AutoModelForImageTextToText
        if "AutoModelForImageTextToText" not in (auto := self._own.get("auto_map", {})) and "AutoModel" in auto:
            model_class = AutoModel
        try:
            self._processor: Any = AutoProcessor.from_pretrained(folder, **given)
            self._model: Any = (
                model_class.from_pretrained(folder, dtype=held, use_safetensors=True, **given).eval().to(where)
            )
        except Exception as error:  # what strange code and files raise is theirs to choose
            said = " ".join(str(error).split())[:160]
            raise OpenError(f"{folder}: transformers can't open it ({type(error).__name__}: {said})") from error
        self.tokenizer: Any = getattr(self._processor, "tokenizer", self._processor)
        self.context, self._marks = upstream_folder.context(folder), marks(self)

    @property
    def name(self) -> str:
        return self.identity["name"]

    @property
    def identity(self) -> dict[str, str]:
        return identity(self.folder)

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def answer(
        self, messages: Sequence[Any], images: Sequence[str | Path | bytes] = (), sampling: Sampling = GREEDY
    ) -> str:
        """The text of one answer. Raises PromptError."""
        return self._answer(asked.conversation(messages, images), sampling).text

    def answers(
        self, conversations: Iterable[Conversation], sampling: Sampling = GREEDY
    ) -> Iterator[tuple[int, Answer]]:
        """As the protocol says, in order."""
        for number, conversation in enumerate(conversations):
            try:
                yield number, self._answer(conversation, sampling)
            except PromptError as error:
                yield number, Answer("", "error", str(error))

    def stream(self, conversation: Conversation, sampling: Sampling = GREEDY) -> Generator[str, None, Answer]:
        """The whole answer as one piece. Raises PromptError."""
        answer = self._answer(conversation, sampling)
        yield answer.text
        return answer

    @torch.inference_mode()
    def _answer(self, conversation: Conversation, sampling: Sampling) -> Answer:
        sampling = conversation.sampling or sampling
        inputs = self._inputs(conversation)
        length = inputs["input_ids"].shape[1]
        if length >= self.context:
            raise PromptError(f"the prompt has {length:,} tokens, and prompt and answer may have {self.context:,}")
        most = min(sampling.max_new_tokens, self.context - length)
        drawn: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        torch.manual_seed(sampling.seed)
        found = self._model.generate(**inputs, max_new_tokens=most, **drawn)[0].tolist()
        ids = found[length:] if found[:length] == inputs["input_ids"][0].tolist() else found
        stops = self._model.generation_config.eos_token_id
        ended = bool(ids) and ids[-1] in (stops if isinstance(stops, list) else [stops])
        text, channels = self.decode(ids).strip(), _NONE
        if self._marks:
            listener = Listener(self, self._marks, inputs["input_ids"][0].tolist())
            for token in ids:
                listener.hear(token)
            text, channels = shown(self, listener)
        return Answer(text, "stop" if ended else "length", None, channels, length, len(ids))

    def _inputs(self, conversation: Conversation) -> Any:
        check(conversation)
        left = iter(pictures(conversation.images))
        messages = [
            {
                "role": message["role"],
                "content": [
                    {"type": "image", "image": next(left)} if block["type"] == "image" else block
                    for block in message["content"]
                ],
            }
            for message in conversation.messages
        ]
        try:
            made = self._processor.apply_chat_template(
                messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
        except Exception as error:  # a template or a processor of somebody else
            raise PromptError(f"its processor refuses this: {' '.join(str(error).split())[:160]}") from error
        made = made.to(self._model.device)
        if "pixel_values" in made:
            made["pixel_values"] = made["pixel_values"].to(self._model.dtype)
        return made


def _refuse_code(folder: Path, told: dict[str, Any], trusted: bool) -> None:
    kind = told.get("model_type")
    if kind not in CONFIG_MAPPING and not trusted:
        code = "it comes with code of its own; look at it, then say --trust-remote-code"
        none = "transformers does not know it, and no code is beside it"
        raise OpenError(f"{folder}: a model of type {kind!r}: {code if told.get('auto_map') else none}")
