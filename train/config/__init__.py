"""A training config: one YAML file -> frozen dataclasses. An unknown key is an error that names the nearest one.

`data`, `model` and `optimiser` are the identity of a run: changing any of them makes another model. `run` is
execution: where to write, how many threads, how often to save; no result depends on it. Tile and patch size, merge,
vocabulary and the image token are not here: they are read from the manifest of the shards.

Of a model also: `vision.feature_layers` (which layers are read: tower.py), `language.architecture` (qwen3, llama or
qwen3_moe with `num_experts` and `experts_per_token`, `intermediate_size` being one expert's), `language.head_dim`,
`vocab_size` (rows of the tables), `extra_vocab_size` (rows more in the embedding than in the head: jina),
`tie_embeddings`, `rope_theta`, `norm_eps`, and `projector_size` (jina's SwiGLU).

    data:
      shards: PATH              # shard folder, or an output folder of the pipeline that holds exactly one
                                # or several: a list, or names and paths; names then stand before their sources'
      seed: 0                   # keys the order of every epoch
      epochs: 10                # or `steps: 60000`, or a `schedule`
      batch_size: 64            # samples per step; or `batch_tokens`: as many samples as come to so many tokens
      max_tokens_per_pack: 2048 # a step is cut into packs of at most this many tokens; one forward each
    model:
      family: internvl_siglip   # or llava, jina: which tower, connector and weights' names (train/models/)
      vision: {hidden_size: 128, num_layers: 4, num_heads: 4, intermediate_size: 384}
      language: {hidden_size: 128, num_layers: 4, num_heads: 4, num_kv_heads: 2, intermediate_size: 384}
      init_seed: 0              # the weights before the first step
      # lora: {rank: 128, alpha: 256, dropout: 0.05}  # adapters; language is frozen but for them (lora.py)
      # from: PATH              # first weights of the whole model, or vision.from and language.from (pretrained.py)
    optimiser:
      matrices: muon            # how matrices learn: muon or adamw; all other parameters learn by adamw
      learning_rate: 0.001      # the highest of the schedule
      warmup_steps: 50          # from 0 to learning_rate, linearly; or `warmup: 0.03`, a share of all steps
      weight_decay: 0.05        # on matrices; not on norms, biases and embeddings
      clip: 1.0                 # largest norm of the gradient
      schedule: cosine          # half a cosine, or wsd: level, then a line; both to floor
      floor: 0.0                # the end of the schedule, as a share of learning_rate
      # decay: 0.2              # goes with wsd: the share of all steps over which it falls
      betas: [0.9, 0.95]        # adamw's
      eps: 1e-8                 # adamw's
      compute: float32          # or bfloat16: matrix products, and what is held of frozen parts
      states: float32           # or bfloat16: weights and moments of what learns, rounded by chance; adamw alone
      parts: {}                 # how vision, projector or language learn, where not as above
      weigh: tokens             # each target token alike; or samples: each sample, sqrt: by the root of its targets
    run:
      out: PATH                 # checkpoints, log.jsonl, summary.json
      threads: 2                # packs computed side by side
      checkpoint_every: 100     # steps
      log_every: 10             # steps between printed lines; log.jsonl has every step
      keep_last: 1              # checkpoints that stay, the newest ones
      keep_every: 1000          # steps; checkpoints at their multiples stay for good; none where not given
      recompute: false          # compute layers again in the backward pass: less memory, a third more time
      device: auto              # cuda where there is one; or cpu, cuda
      validation: PATH          # shards whose loss is measured, given like data.shards; nothing is learnt from them
      validate_every: 500       # steps between two such measurements; goes with validation
      evaluate: {benchmarks: [PATH], every: 1000, limit: 200}  # scores on ingested benchmarks while it is trained, of
                                # the first so many questions of each where there is a limit; for one process
      tensorboard: false        # the log for TensorBoard, too

Of a part in `optimiser.parts`: frozen, or what it has of its own of learning_rate, warmup_steps or warmup, floor and
weight_decay:

    parts: {vision: frozen, projector: {learning_rate: 2e-5, warmup: 0.01, floor: 0.1, weight_decay: 0.0}}

Also in `data`, all of them optional; `python -m train plan CONFIG` shows what they come to:

    group_by: modality          # length or modality: batches as HF's and LLaVA's samplers make them
    mixture:
      by: source                # or subset: what the names below are, `source` or `source/subset`
      unit: samples             # samples, tokens or targets: what weights are shares of
      weights: {a: 3, b: 1}     # kept at every step; every source is named, 0 leaves one out
      repeats: {a: 2}           # in place of weights: passes over a source in an epoch; 1 where none is named
      caps: 4                   # most passes over a source in the whole run, or by name; the others get what is above
    leave_out: PATH             # a file with the ids of samples that are left out, one on each line
    schedule:                   # in place of epochs and steps
      - {steps: 30000, batches: single}  # each step of one source
      - {steps: 30000, batches: mixed}

A second stage begins from the first one's config: `extends: stage1.yaml` at the top, and below it what differs. What is
given replaces the other file's keys, one by one in `data`, `model`, `model.vision`, `model.language`, `optimiser` and
`run`; null takes a key out, which then has its default, as in `vision: {from: null}` beside `from: out/stage1`. The
path is relative to the config's own folder, and the file that is named extends no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from schemas import strict, yaml_file
from schemas.extends import extended
from schemas.strict import RecipeError
from train.config.data import DataConfig, Mixture, Phase
from train.config.model import FamilyName, Language, Lora, ModelConfig, Vision
from train.config.optimiser import PARTS, OptimiserConfig, Part
from train.config.run import EvaluateConfig, RunConfig

__all__ = [
    "PARTS",
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "FamilyName",
    "Language",
    "Lora",
    "Mixture",
    "ModelConfig",
    "OptimiserConfig",
    "Part",
    "Phase",
    "RunConfig",
    "Vision",
    "load",
]

_SECTIONS = ("data", "model", "model.vision", "model.language", "optimiser", "run")  # their keys are extended singly


@dataclass(frozen=True)
class Config:
    data: DataConfig
    model: ModelConfig
    optimiser: OptimiserConfig
    run: RunConfig

    def __post_init__(self) -> None:
        if self.model.lora and self.optimiser.parts.get("language") == "frozen":
            raise ValueError("model.lora: adapts language, which optimiser.parts freezes; take one of them out")


def load(path: str | Path) -> Config:
    """Read a config file. Raises RecipeError."""
    folder = Path(path).parent
    given = yaml_file.read(path)
    mapping = extended(given, lambda name: folder / Path(name).expanduser(), "", "stage1.yaml", _SECTIONS)
    data = mapping.get("data")
    if isinstance(data, dict) and "sources" in data:
        raise RecipeError(f"{path}: is a recipe of the pipeline; give it to `python -m pipeline run`")
    return strict.build(Config, mapping)
