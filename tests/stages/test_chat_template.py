"""Templates that fail, never end, fill the memory or ask for what a sandbox refuses: one line, and no more harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from subprocess import Popen

import pytest

from stages import chat_template
from stages.chat import ChatError, ChatFormat, ImageTokens, TemplateRefuses
from stages.chat_template import Template
from stages.pretokenise import pretokenise
from stages.shard_rows import PretokeniseParams
from tests.stages.byte_tokenizer import TEMPLATE, byte_tokenizer
from tests.stages.pictures import sample, table, talk

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}BODY{% endfor %}{% endfor %}"
DOUBLES = "{% set n = namespace(t='x') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}"
BROKEN = {
    "{{ 1 + 'a' }}": "TypeError: unsupported operand",
    "{{ 1 // 0 }}": "ZeroDivisionError: ",
    "{{ 'abc'.index('x') }}": "ValueError: substring not found",
    "{{ nothing.of.this }}": "UndefinedError: 'nothing' is undefined",
    "{{ range(10 ** 9) }}": "OverflowError: ",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": "RecursionError: ",
    "{% for %}": "TemplateSyntaxError: ",
    "{{ ''.__class__.__mro__ }}": "SecurityError: access to attribute '__class__'",
    "{{ messages.append(1) }}": "SecurityError: ",
    "{{ messages[0].update(a=1) }}": "SecurityError: ",
    "{% set n = namespace(__x=1) %}": "SecurityError: ",
    "{{ [1, 2] | random }}": "no two runs give the same tokens",
    "{{ lipsum() }}": "no two runs give the same tokens",
    "{{ raise_exception('two\nlines') }}": "the chat template says: two lines",
    "{{ 'x' * 10 ** 10 }}": "more memory than",
    DOUBLES: "more memory than",
    LOOP.replace("BODY", ""): "does not come to an end in 1 s",
    "{{ (messages | length + 7) ** (9 ** 9) }}": "does not come to an end in 1 s",
    LOOP.replace("BODY", "x" * 500): "prints more than",
}


@pytest.fixture(scope="module", autouse=True)
def _short_patience() -> Iterator[None]:
    chat_template._end()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_template, "SECONDS", 1)
        yield
    chat_template._end()


@pytest.fixture
def patience(broken: str) -> Iterator[None]:
    """To fill the memory by doubling takes a busy machine more than the second that all others get."""
    if broken != DOUBLES:
        yield
        return
    chat_template._end()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_template, "SECONDS", 20)
        yield
    chat_template._end()


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("broken", BROKEN)
def test_a_template_that_cannot_lay_out_a_question_is_refused_at_load_in_one_line(broken: str) -> None:
    began = time.monotonic()
    with pytest.raises(ChatError) as caught:
        ChatFormat(byte_tokenizer(broken + TEMPLATE), ImageTokens())
    said = str(caught.value)
    assert BROKEN[broken] in said and "\n" not in said and len(said) < 400
    assert time.monotonic() - began < 30


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("broken", [name for name in BROKEN if not name.startswith("{% for %}")])
def test_where_it_depends_on_the_row_the_row_is_dropped_and_the_others_stay(broken: str) -> None:
    guarded = "{% if messages | length == 5 %}" + broken + "{% endif %}"
    chat = ChatFormat(byte_tokenizer(guarded + TEMPLATE), ImageTokens())
    good = [sample(name) for name in "abc"]
    bad = sample("bad", messages=talk(*[("user", "q"), ("assistant", "a")] * 2, ("user", "q")))
    (done,) = pretokenise([table(good[0], bad, *good[1:])], {}, chat, PretokeniseParams())
    assert done.verdict["reason"].to_pylist() == [None, "template_refuses", None, None]
    assert BROKEN[broken] in done.verdict["detail"][1].as_py()


def test_a_process_that_somebody_ended_is_started_again() -> None:
    template = Template(TEMPLATE, {})
    told = template.render([{"role": "user", "content": "q"}], False)
    running = chat_template._running
    assert running is not None
    os.kill(running[1].pid, signal.SIGKILL)
    running[1].wait()
    assert template.render([{"role": "user", "content": "q"}], False) == told == "<s>user:q</s>"


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    template = Template(TEMPLATE, {})

    def interrupted(process: Popen[str], request: str) -> str:
        assert process.stdin is not None
        process.stdin.write(request + "\n")
        process.stdin.flush()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chat_template, "_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            template.render([{"role": "user", "content": "one"}], False)
    assert template.render([{"role": "user", "content": "two"}], False) == "<s>user:two</s>"


SAME = [
    "{% if true %}\n  {% set a = 1 %}\n  x\n{% endif %}\ny\n",
    "  {%- for m in messages -%}  {{ m.role }}  {%- endfor -%}  ",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for m in messages %}{% generation %}{% set x = 1 %}{{ m.role }}{% endgeneration %}{{ x }}{% endfor %}",
    "{{ messages | tojson }}{{ {'b': '<é>', 'a': 1} | tojson(indent=2, sort_keys=true) }}",
    "{% set n = namespace(a=1) %}{% for m in messages %}{% set n.a = n.a + 1 %}{% endfor %}{{ n.a }}",
    "{{ dict(a=1).items() | list }}",
    "{{ tools is none }} {{ documents is none }} {{ eos_token }} {{ bos_token is defined }}",
    "{{ missing }}|{{ messages[0].missing }}|{{ missing is defined }}",
    "{{ messages | map(attribute='content') | join('+') | upper | trim }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{% for m in messages[::-1] %}{{ loop.index0 }}{{ loop.last }}{{ m['content'][:2] }}{% endfor %}",
    "{{ messages[0].content.strip().split('o') }}{{ 'a' in 'abc' }}{{ 'x' ~ 1 }}{{ '%d' % 3 }}{{ '{}'.format(4) }}",
    "{% macro m(x, y=2) %}[{{ x }}{{ y }}{{ caller() }}]{% endmacro %}{% call m(1) %}c{% endcall %}",
]


@pytest.mark.parametrize("source", SAME)
@pytest.mark.parametrize("prompt", [False, True])
def test_a_template_prints_what_transformers_prints(source: str, prompt: bool) -> None:
    tokenizer = byte_tokenizer(source + "{{ add_generation_prompt }}")
    messages = [{"role": "user", "content": " How? "}, {"role": "assistant", "content": "so\n"}]
    theirs = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    ours = Template(tokenizer.chat_template, tokenizer.special_tokens_map).render(messages, prompt)
    assert ours == theirs


def test_a_template_is_asked_for_its_words_and_not_run_for_them() -> None:
    words = Template(LOOP.replace("BODY", "<a>{{ '<b>' + \"<\\x63>\" }}"), {}).words()
    assert {"<a>", "<b>", "<c>"} <= set(words)
    with pytest.raises(TemplateRefuses, match="TemplateSyntaxError"):
        Template("{% for %}", {}).words()


def test_a_limit_of_the_machine_that_is_lower_than_ours_is_kept() -> None:
    script = (
        "import resource; from stages.chat_template import Template\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (600, 600))\n"
        "print(Template('{{ messages[0].content }}', {}).render([{'role': 'user', 'content': 'seen'}], False))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "seen\n", done.stderr
