"""The quick starts of the published systems run with an export of ours, by the id alone, and say what we say."""

from __future__ import annotations

import ast
import os
import subprocess
import sys

import pytest
import torch
from seed_scripts import LLM_JP, QWEN
from test_train_export import greedy
from tiny_exports import FP32, exported, tiny, turn
from tiny_models import picture

from stages.chat_rules import ChatRules

HARMONY, CHATML = ChatRules(layout="llm-jp-4-vl"), ChatRules(layout="chatml")


def run(script, place, *arguments):
    """What a script prints, by a Python that knows nothing of this project, from another folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    own = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(place / "modules")}
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=place,
        env={**kept, **own},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return ast.literal_eval(done.stdout.strip().splitlines()[-1])


def said(of, messages, pictures):
    with torch.no_grad():
        return of.chat.decode([id for id in greedy(of, messages, pictures, 12) if id not in of.stops])


@pytest.fixture
def pictures(tmp_path):
    found = [picture(seed, *size) for seed, size in ((1, (40, 30)), (2, (30, 90)))]
    for number, data in enumerate(found):
        (tmp_path / f"{number}.png").write_bytes(data)
    return found


def test_vqwen3s_script_runs_and_says_what_we_say(tmp_path, pictures):
    of = tiny("llava+square", tmp_path, CHATML)
    out = exported(tmp_path / "out", of)
    found = run(QWEN.replace("DTYPE", "float32"), tmp_path, out, tmp_path / "0.png")
    assert found == [said(of, [turn("user", None, "Describe this image in detail.")], pictures[:1])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rules"), [("internvl_siglip+within", HARMONY), pytest.param("jina", CHATML, marks=pytest.mark.slow)]
)
def test_llm_jps_script_runs_and_says_what_we_say(name, rules, tmp_path, pictures):
    """Text alone, one picture, two, and several turns."""
    of = tiny(name, tmp_path, rules)
    out = exported(tmp_path / "out", of, FP32)
    found = run(LLM_JP.replace("DTYPE", "float32"), tmp_path, out, tmp_path / "0.png", tmp_path / "1.png")
    about, title = "富士山について簡潔に説明してください。", "このキャラクターが登場する映画のタイトルは何ですか?"
    asked = [
        ([turn("user", about)], []),
        ([turn("user", None, "このキャラクターの名前は何ですか?")], pictures[:1]),
        ([turn("user", None, None, "それぞれの動物の名前を教えてください。")], pictures),
        (
            [turn("user", None, title), turn("assistant", "千と千尋の神隠し"), turn("user", "監督は誰ですか?")],
            pictures[:1],
        ),
    ]
    assert found == [said(of, *each).strip() for each in asked]


@pytest.mark.slow
def test_both_scripts_run_in_bfloat16(tmp_path, pictures):
    for name, script, files in (("llava", QWEN, 1), ("internvl_siglip", LLM_JP, 2)):
        (place := tmp_path / name).mkdir()
        out = exported(place / "out", tiny(name, place, CHATML))
        assert run(script.replace("DTYPE", "bfloat16"), place, out, *[tmp_path / f"{n}.png" for n in range(files)])
