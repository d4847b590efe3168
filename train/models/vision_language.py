"""What the families share: a tower, a projector and a decoder, and the loss of a pack.

    tiles [N, S, S, 3] uint8 -> vision -> projector -> features, one for each image token
    ids -> embeddings, into which the features are placed -> language -> losses

`vision`, `projector` and `language` are the names of the parts, in parameters' names too. A family says how tiles
become features, and whether these replace the embeddings of the image tokens or are added to them.

The head and the cross entropy are computed on the positions that predict a target token and nowhere else (loss.py):
the same losses and gradients as a head over every token, at a fraction of the cost. The model returns the loss of each
target token of a pack; what each counts in the whole step is said elsewhere (train/weighing.py), so how samples were
packed does not change their weight.

`unread` holds pretrained weights of layers that nothing reads, by their own names: they are no parameters, stay on
the CPU and are not run, and checkpoints carry them along.

Letters in names of shapes: N tiles, S side of a tile in pixels, T tokens of a pack, M image tokens, K target tokens,
d width of the decoder.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from train.data.collate import Images, Pack
from train.models import chance
from train.models.attention import Kept, guard
from train.models.loss import target_losses


class VisionLanguage(nn.Module):
    """A family gives the parts and `features`, and may override `place`."""

    def __init__(self, vision: nn.Module, projector: nn.Module, language: nn.Module) -> None:
        super().__init__()
        self.vision, self.projector, self.language = vision, projector, language
        self.unread: dict[str, Tensor] = {}
        self.step = 0  # of the run: it keys what is drawn by chance
        guard(self.decoder)

    @property
    def decoder(self) -> nn.Module:
        """The language model without its head."""
        decoder: nn.Module = self.language.model  # type: ignore[assignment]
        return decoder

    def embedding(self, input_ids_BT: Tensor) -> Tensor:
        """The embeddings of tokens."""
        found: Tensor = self.decoder.embed_tokens(input_ids_BT)  # type: ignore[operator]
        return found

    def features(self, images: Images) -> Tensor:
        """The features of the image tokens, in their order: [M, d]."""
        raise NotImplementedError

    def place(self, flat_embeddings: Tensor, positions_M: Tensor, features_Md: Tensor) -> Tensor:
        """Token embeddings with the features of the image tokens in their place."""
        return flat_embeddings.index_copy(0, positions_M, features_Md)

    def embed(self, input_ids_BT: Tensor, images: Images) -> Tensor:
        """Token embeddings with image features; the positions of `images` index the flattened [B * T]."""
        embeddings_BTd = self.embedding(input_ids_BT)
        if images.tiles.shape[0] == 0:
            return embeddings_BTd
        features = self.features(images).to(embeddings_BTd.dtype)
        flat = self.place(embeddings_BTd.flatten(0, 1), images.positions, features)
        return flat.view_as(embeddings_BTd)

    def forward(self, pack: Pack) -> Tensor:
        """The cross entropy of each target token of a pack, in their order: [K]."""
        hidden_1Td = self.decoder(
            inputs_embeds=self.embed(pack.input_ids, pack.images),
            position_ids=pack.position_ids,
            attention_mask=None,
            use_cache=False,
            cu_seq_lens_q=pack.sample_ends,
            ends=pack.ends,
        ).last_hidden_state
        # A token is predicted from the position before it; collate refuses a target that opens a sample.
        targets = pack.target_positions
        return target_losses(self.language.lm_head, hidden_1Td[0, targets - 1], pack.labels[0, targets])  # type: ignore[arg-type]

    @torch.no_grad()
    def next_logits(self, row_1Td: Tensor, position_ids_1T: Tensor, sample_ends: list[int], kept: Kept) -> Tensor:
        """What comes after the last token of each piece of a row: [pieces, vocabulary]. The pieces are prompts, or one
        token each of answers; their keys and values are `kept`."""
        ends = torch.tensor(sample_ends, dtype=torch.int32, device=row_1Td.device)
        given: dict[str, Any] = {"cu_seq_lens_q": sample_ends, "ends": ends, "kept": kept}
        hidden_1Td = self.decoder(
            inputs_embeds=row_1Td, position_ids=position_ids_1T, attention_mask=None, use_cache=False, **given
        ).last_hidden_state
        logits: Tensor = self.language.lm_head(hidden_1Td[0, (ends[1:] - 1).long()])  # type: ignore[operator]
        return logits

    def checkpoint_activations(self) -> None:
        """From now on layers of tower and decoder are computed once more in the backward pass instead of kept."""
        for module in self.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.gradient_checkpointing = True
                module._gradient_checkpointing_func = functools.partial(
                    checkpoint, use_reentrant=False, context_fn=chance.again
                )

    @property
    def dtype(self) -> torch.dtype:
        """What the tower computes in."""
        return next(self.vision.parameters()).dtype
