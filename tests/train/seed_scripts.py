"""The quick starts of two published model cards, as their authors wrote them but for the id and the device."""

QWEN = """
import sys
import torch
from transformers import LlavaForConditionalGeneration, AutoProcessor
from PIL import Image

model_id = sys.argv[1]
model     = LlavaForConditionalGeneration.from_pretrained(model_id, dtype=torch.DTYPE)
processor = AutoProcessor.from_pretrained(model_id)

image = Image.open(sys.argv[2]).convert("RGB")
messages = [{
    "role": "user",
    "content": [
        {"type": "image"},
        {"type": "text", "text": "Describe this image in detail."},
    ],
}]

prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
inputs = processor(text=prompt, images=image, return_tensors="pt").to(model.device)
inputs["pixel_values"] = inputs["pixel_values"].to(torch.DTYPE)

out = model.generate(**inputs, max_new_tokens=12, do_sample=False)
reply = processor.decode(out[0][inputs["input_ids"].shape[1]:], skip_special_tokens=True)
print([reply])
"""

LLM_JP = """
import sys
import torch
from transformers import AutoProcessor, AutoModel

model_id = sys.argv[1]
model = (
    AutoModel.from_pretrained(
        model_id,
        torch_dtype=torch.DTYPE,
        trust_remote_code=True,
        use_flash_attn=True,
    )
    .eval()
)
processor = AutoProcessor.from_pretrained(model_id, trust_remote_code=True)

def generate(messages, max_new_tokens=12, temperature=0.0):
    inputs = processor.apply_chat_template(
        messages,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    ).to(model.device)
    if "pixel_values" in inputs:
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype=model.dtype)
    outputs = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        temperature=temperature if temperature > 0 else None,
    )
    text = processor.decode(outputs[0], skip_special_tokens=False)
    text = text.replace("<|channel|>final<|message|>", "")
    text = text.replace("<|return|>", "")
    text = text.replace(processor.tokenizer.eos_token, "")
    return text.strip()

one, two = sys.argv[2:]
image = lambda path: {"type": "image", "image": path}
text = lambda words: {"type": "text", "text": words}
print([
    generate([{"role": "user", "content": [text("富士山について簡潔に説明してください。")]}]),
    generate([{"role": "user", "content": [image(one), text("このキャラクターの名前は何ですか?")]}]),
    generate([{"role": "user", "content": [image(one), image(two), text("それぞれの動物の名前を教えてください。")]}]),
    generate([
        {"role": "user", "content": [image(one), text("このキャラクターが登場する映画のタイトルは何ですか?")]},
        {"role": "assistant", "content": [text("千と千尋の神隠し")]},
        {"role": "user", "content": [text("監督は誰ですか?")]},
    ]),
])
"""
