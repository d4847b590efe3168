"""InternVL's shape with a SigLIP tower: tiles -> ViT -> pixel shuffle -> projector -> Qwen3 decoder.

    tiles [N, S, S, 3] uint8 -> vision tower   -> [N, P, P, v]
                             -> pixel shuffle  -> [N, (P/m)^2, v m^2]
                             -> projector      -> [N, (P/m)^2, d]

The projected features replace the embeddings of the image tokens, tile by tile, in the order of the row. The head and
the cross entropy are computed on the positions that predict a target token and nowhere else: the same loss and
gradients as a head over every token, at a fraction of the cost. The model returns the *sum* of the losses of a pack;
the trainer divides by the number of target tokens of the whole step, so how samples were packed does not change their
weight.

Letters in names of shapes: N tiles, S side of a tile in pixels, P patches along a side, T tokens of a pack, M image
tokens.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import Qwen3Config, Qwen3ForCausalLM, SiglipVisionConfig, SiglipVisionModel
from transformers.cache_utils import Cache

from train.data.collate import Pack


def pixel_shuffle(x_NPPv: Tensor, merge: int) -> Tensor:
    """Fold each merge x merge square of patches into one token: [N, P, P, v] -> [N, (P/m)^2, v m^2], row-major."""
    n, side, _, width = x_NPPv.shape
    x = x_NPPv.reshape(n, side // merge, merge, side // merge, merge, width)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, (side // merge) ** 2, merge * merge * width)


class InternVLSiglip(nn.Module):
    def __init__(self, vision: SiglipVisionConfig, language: Qwen3Config, merge: int) -> None:
        super().__init__()
        self.merge = merge
        self.vision = SiglipVisionModel(vision)
        shuffled, hidden = vision.hidden_size * merge**2, language.hidden_size
        self.projector = nn.Sequential(
            nn.LayerNorm(shuffled), nn.Linear(shuffled, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.language = Qwen3ForCausalLM(language)

    def features(self, tiles_NSS3: Tensor) -> Tensor:
        """[N, S, S, 3] uint8 -> [M, d], M = N * tokens per tile."""
        pixels_N3SS = tiles_NSS3.permute(0, 3, 1, 2).to(self.language.lm_head.weight.dtype) / 127.5 - 1.0
        patches = self.vision(pixel_values=pixels_N3SS).last_hidden_state
        side = round(patches.shape[1] ** 0.5)
        x_NPPv = patches.reshape(patches.shape[0], side, side, patches.shape[2])
        projected: Tensor = self.projector(pixel_shuffle(x_NPPv, self.merge))
        return projected.flatten(0, 1)

    def embed(self, input_ids_BT: Tensor, image_positions_M: Tensor, tiles_NSS3: Tensor) -> Tensor:
        """Token embeddings with the image tokens' ones replaced; `image_positions` index the flattened [B * T]."""
        embeddings_BTd: Tensor = self.language.get_input_embeddings()(input_ids_BT)
        if tiles_NSS3.shape[0] == 0:
            return embeddings_BTd
        flat = embeddings_BTd.flatten(0, 1).index_copy(0, image_positions_M, self.features(tiles_NSS3))
        return flat.view_as(embeddings_BTd)

    def forward(self, pack: Pack) -> Tensor:
        """The sum of the cross entropy over the target tokens of a pack."""
        hidden_1Td = self.language.model(
            inputs_embeds=self.embed(pack.input_ids, pack.image_positions, pack.tiles),
            position_ids=pack.position_ids,
            attention_mask=None,
            use_cache=False,
            cu_seq_lens_q=pack.sample_ends,
        ).last_hidden_state
        # A token is predicted from the position before it; collate refuses a target that opens a sample.
        targets = pack.target_positions
        logits = self.language.lm_head(hidden_1Td[0, targets - 1])
        return cross_entropy(logits, pack.labels[0, targets], reduction="sum")

    @torch.no_grad()
    def next_logits(self, embeddings_BTd: Tensor, cache: Cache) -> Tensor:
        """[B, T, d] of rows of equal length -> [B, vocabulary]: what comes after the last position; the cache grows."""
        arguments: dict[str, Any] = {"past_key_values": cache, "use_cache": True, "attention_mask": None}
        hidden = self.language.model(inputs_embeds=embeddings_BTd, **arguments).last_hidden_state
        logits: Tensor = self.language.lm_head(hidden[:, -1])
        return logits
