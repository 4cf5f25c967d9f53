"""Writes NAME.golden.json for every NAME.jinja here and for the embedded model's own template.

Python's Jinja, set up as transformers' `apply_chat_template` sets it up, is the reference. Needs `pip install jinja2`.
"""

import json
import pathlib

import jinja2.ext
import jinja2.sandbox

HERE = pathlib.Path(__file__).parent
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


class Generation(jinja2.ext.Extension):
    """`{% generation %}` without the recording of offsets."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class Raised(Exception):
    pass


def raise_exception(message):
    raise Raised(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment():
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    return made


def render(template, chat):
    try:
        text = template.render(
            messages=chat["messages"],
            tools=chat.get("tools"),
            documents=None,
            add_generation_prompt=True,
            **SPECIAL,
            **chat.get("arguments", {}),
        )
        return {"text": text}
    except Raised as raised:
        return {"raised": str(raised)}
    except Exception as error:
        return {"fails": f"{type(error).__name__}: {error}"}


def main():
    inputs = json.loads((HERE / "inputs.json").read_text())
    sources = {path.stem: path.read_text() for path in HERE.glob("*.jinja")}
    config = HERE.parents[2] / "models/tiny-r1/tokenizer_config.json"
    sources["tiny-r1"] = json.loads(config.read_text())["chat_template"]
    for name, source in sorted(sources.items()):
        template = environment().from_string(source)
        golden = {key: render(template, chat) for key, chat in inputs.items()}
        text = json.dumps(golden, ensure_ascii=False, indent=1) + "\n"
        (HERE / f"{name}.golden.json").write_text(text)


main()
