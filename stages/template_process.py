"""The program that runs chat templates for stages/chat_template.py: JSON lines in, JSON lines out, limits from its
command line (seconds of CPU for an answer, bytes of memory, characters of an answer).

It imports nothing of ours, so that it starts quickly and holds little. What a template raises, whatever it is, is its
answer; what a limit of the system ends is told by how the process ended.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn


class _TooMuch(Exception):
    """A template prints more than an answer may be long."""


def _serve(seconds: int, memory: int, length: int) -> None:
    """Answer line for line until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks decides when it ends
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, memory)
    environment, compiled = _environment(), {}
    for line in sys.stdin:
        request = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + seconds)
        try:
            source = request["source"]
            if source not in compiled:
                compiled = {source: environment.from_string(source)}
            found: Any = (
                _printed(compiled[source], request, length) if "messages" in request else _words(environment, source)
            )
            reply = {"answer": found}
        except MemoryError:
            reply = {"overruns": f"the chat template takes more memory than {memory >> 20} MiB"}
        except _TooMuch:
            reply = {"overruns": f"the chat template prints more than {length:,} characters"}
        except Exception as error:  # noqa: BLE001  # the template is a program: whatever it raises is what it says
            reply = {"refuses": _one_line(error)}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def _limit(what: int, most: int) -> None:
    """At most so much, and no more than whoever started us allows."""
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _printed(template: Any, request: Mapping[str, Any], most: int) -> str:
    texts, length = [], 0
    given = {"messages": request["messages"], "add_generation_prompt": request["prompt"]}
    if date := request["date"]:
        given["strftime_now"] = datetime.fromisoformat(date).strftime
    for text in template.generate(tools=None, documents=None, **{**request["variables"], **given}):
        texts.append(text)
        length += len(text)
        if length > most:
            raise _TooMuch
    return "".join(texts)


def _words(environment: Any, source: str) -> list[str]:
    from jinja2 import nodes

    parsed = environment.parse(source)
    constants = [node.value for node in parsed.find_all(nodes.Const) if isinstance(node.value, str)]
    return [node.data for node in parsed.find_all(nodes.TemplateData)] + constants


def _one_line(error: Exception) -> str:
    from jinja2 import TemplateError

    kind = "" if type(error) is TemplateError else f"{type(error).__name__}: "
    said = " ".join(str(error).split())
    return f"the chat template says: {kind}{said[:200]}{'...' if len(said) > 200 else ''}"


def _environment() -> Any:
    """What chat templates are written for: Jinja's sandbox with the names that `transformers` adds to it."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """`{% generation %}` marks an answer for those who look for it; what it encloses is printed."""

        tags = {"generation"}  # noqa: RUF012  # as the class above declares it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    class OpenNamespace(Namespace):
        """A namespace that holds nothing whose name begins with an underscore."""

        def __init__(*given: Any, **named: Any) -> None:
            for name in dict(*given[1:], **named):
                _check_name(name)
            Namespace.__init__(*given, **named)

        def __setitem__(self, name: str, value: Any) -> None:
            _check_name(name)
            Namespace.__setitem__(self, name, value)

    def _check_name(name: str) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"namespace: {name!r} begins with an underscore")

    def fail(message: Any) -> NoReturn:
        raise jinja2.TemplateError(str(message))

    def unsteady(*given: Any, **named: Any) -> NoReturn:
        raise jinja2.TemplateError("it asks for the time or for chance, so no two runs give the same tokens")

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters |= {"tojson": tojson, "random": unsteady}
    environment.globals |= {"raise_exception": fail, "strftime_now": unsteady, "lipsum": unsteady}
    environment.globals |= {"dict": lambda *given, **named: dict(*given, **named), "namespace": OpenNamespace}
    return environment


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
