"""A folder loaded by plain transformers, in a process that knows nothing of ours.

    python -I alone.py FOLDER QUESTIONS.json OUT.safetensors

Of each question (messages with the paths of images) it writes what the processor made and what the model says of it:
input_ids, pixel_values, logits in float32, and the ids of the greedy answer.
"""

import json
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, AutoProcessor, LlavaForConditionalGeneration


def main(folder: str, questions: str, out: str) -> None:
    with open(questions, encoding="utf-8") as file:  # noqa: PTH123
        asked = json.load(file)
    kind = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    loads = LlavaForConditionalGeneration if kind.model_type == "llava" else AutoModel
    model, told = loads.from_pretrained(
        folder, trust_remote_code=True, dtype=torch.float32, output_loading_info=True, attn_implementation="sdpa"
    )
    wrong = {name: sorted(map(str, keys)) for name, keys in told.items() if keys and name.endswith("_keys")}
    if wrong:
        sys.exit(f"weights do not fit: {wrong}")
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    # A control token in a text is text, as in training; a processor of the folder's own does so anyway
    how = {"sanitize_control_tokens": True} if kind.model_type == "llava" else {}
    found: dict[str, torch.Tensor] = {}
    for number, messages in enumerate(asked):
        inputs = processor.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt", **how
        )
        with torch.no_grad():
            logits = model.eval()(**inputs).logits
        new = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        length = inputs["input_ids"].shape[1]
        found |= {f"{number}.{name}": tensor for name, tensor in inputs.items()}
        found[f"{number}.logits"] = logits
        found[f"{number}.new"] = new[:, length:] if kind.model_type == "llava" else new
    if strange := sorted({"train", "stages", "schemas"} & set(sys.modules)):
        sys.exit(f"it imported {strange}")
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
