"""Chat templates from elsewhere: faults and excess of theirs are told, and real ones work."""

import time

import pytest
from jinja2 import TemplateError

from cllm.errors import InputError
from cllm.text.chat_template import render_chat

ONE = [{"role": "user", "content": "Hello"}]


def render(template, messages=ONE):
    return render_chat(template, messages, add_generation_prompt=True, eos_token="<|endoftext|>")


FAULTS = [
    "{{ 1 // 0 }}",
    "{{ 'x' + 1 }}",
    "{% include 'x' %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ messages[0].content.index('z') }}",
    "{{ nothing.at.all }}",
    "{% for %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{{ 'x' | nofilter }}",
    "{{ 10 ** 5000 }}",
]
DOUBLE = "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = [] %}{% endfor %}"
NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}[]{% endfor %}{% endfor %}"
TEN = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"
DEEP = "".join(f"{{% set a{n + 1} = [{', '.join([f'a{n}'] * 9)}] %}}" for n in range(12))
EXCESS = {
    "ranges": NESTED.replace("[]", ""),
    "ranges that write": NESTED.replace("[]", "x" * 500),
    "messages": "{% for a in messages %}" * 9 + "{% endfor %}" * 9,
    "recursive loop": f"{{% for a in {TEN} recursive %}}{{{{ loop({TEN}) }}}}{{% endfor %}}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "times": "{{ 'a' * 10**11 }}",
    "times a list": "{{ ([0] * 10**11) | length }}",
    "power": "{{ 9 ** 999999999 }}",
    "powers": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}"
    "{% endfor %}",
    "plus": DOUBLE.replace("[]", "n.x + n.x"),
    "tilde": DOUBLE.replace("[]", "n.x ~ n.x"),
    "lists": DOUBLE.replace("'ab'", "[1]").replace("[]", "n.x + n.x"),
    "block": DOUBLE.replace("{% set n.x = [] %}", "{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}"),
    "slices": "{% set a = 'a' * 8000000 %}{% set n = namespace(x=[]) %}{% for i in range(9999) %}"
    "{% set n.x = n.x + [a[1:]] %}{% endfor %}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (1000000000, 1) }}",
    "percent filter": "{{ '%1000000000d' | format(1) }}",
    "format": "{{ '{:>1000000000}'.format(1) }}",
    "format map": "{{ '{a:>1000000000}'.format_map({'a': 1}) }}",
    "format again": "{{ ('{0}' * 3000).format('a' * 8000000) }}",
    "center": "{{ 'a' | center(10000000000) }}",
    "ljust": "{{ 'a'.ljust(10000000000) }}",
    "bytes": "{{ (1).to_bytes(10000000000, 'big') }}",
    "replace": "{% set a = 'a' * 999999 %}{{ a | replace('a', a) }}",
    "replace method": "{% set a = 'a' * 999999 %}{{ a.replace('a', a) }}",
    "join": "{{ range(99999) | join('a' * 999999) }}",
    "join method": "{% set a = 'a' * 999999 %}{{ a.join(a) }}",
    "map": "{% set a = 'a' * 999999 %}{{ [a] | map('replace', 'a', a) | list }}",
    "round": "{{ 5 | round(-10000000000) }}",
    "indent": "{{ 'a' | tojson(indent=10000000000) }}",
    "deep": "{% set a0 = 1 %}" + DEEP + "{{ a12 }}",
    "deep in a namespace": "{% set a0 = 1 %}" + DEEP + "{{ namespace(x=a12) }}",
    "deep json": "{% set a0 = 1 %}" + DEEP + "{{ a12 | tojson }}",
    "deep plus": "{% set a0 = 1 %}" + DEEP + "{{ a12 ~ 'x' }}",
    "lorem": "{{ lipsum(n=100000) }}",
}


@pytest.mark.parametrize("template", FAULTS, ids=range(len(FAULTS)))
def test_faults_of_a_template_are_told(template):
    with pytest.raises(InputError, match=r"chat template can't render this conversation: .+"):
        render(template)


@pytest.mark.parametrize("name", EXCESS)
def test_a_template_ends_and_stays_small(name):
    messages = ONE * 100 if name == "messages" else ONE
    start = time.monotonic()
    with pytest.raises(InputError, match="chat template") as refused:
        render(EXCESS[name], messages)
    # It was refused, and did not end for lack of memory.
    assert isinstance(refused.value.__cause__, TemplateError | RecursionError)
    assert time.monotonic() - start < 60


# As Qwen's, Llama 3's and Mistral's do: each of their ways with a message, many times over.
REAL = """\
{%- set ns = namespace(system='', last=messages|length - 1) -%}
{%- if messages[0]['role'] == 'system' -%}{%- set ns.system = messages[0]['content'] -%}
{%- set rest = messages[1:] -%}{%- else -%}{%- set rest = messages -%}{%- endif -%}
{%- for message in messages[::-1] -%}{%- set index = (messages|length - 1) - loop.index0 -%}
{%- if message.role == 'user' and not message.content.startswith('<tool>') -%}
{%- set ns.last = index -%}{%- break -%}{%- endif -%}{%- endfor -%}
{{- '<|system|>' + ns.system | trim + '<|eot|>' -}}
{%- for message in rest -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('roles must alternate') -}}{%- endif -%}
{%- set content = message.content.split('</think>')[-1].lstrip('\\n') | trim -%}
{{- '<|' ~ message.role ~ '|>' + content + '<|eot|>\\n' -}}
{%- if loop.last and add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
{%- if loop.index0 == messages|length -%}never{%- endif -%}
{%- endfor -%}"""


def test_long_conversations_are_written():
    turns = [
        {"role": ("user", "assistant")[number % 2], "content": f"<think></think>\n {number} "}
        for number in range(9_999)
    ]
    messages = [{"role": "system", "content": " Be brief. "}, *turns]
    wanted = "<|system|>Be brief.<|eot|>" + "".join(
        f"<|{turn['role']}|>{number}<|eot|>\n" for number, turn in enumerate(turns)
    )
    assert render(REAL, messages) == wanted + "<|assistant|>"


def test_long_messages_are_written():
    content = "Ünï " * 2_000_000
    wanted = f"<|system|><|eot|><|user|>{content.strip()}<|eot|>\n<|assistant|>"
    assert render(REAL, [{"role": "user", "content": content}]) == wanted


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{{ {'a': [1, 'é']} | tojson(indent=4) }}", '{\n    "a": [\n        1,\n        "\\u00e9"'
         "\n    ]\n}"),
        ("{{ '%s is %03d' % ('x', 7) }}{{ '{:>4}'.format('y') }}", "x is 007   y"),
        ("{{ ['a', 'b'] | map('upper') | join(', ') }}{{ '-'.join(['c', 'd']) }}", "A, Bc-d"),
        ("{% for x in 'ab' %}{{ loop.length }}{{ loop.last }}{{ x }}{% endfor %}", "2Falsea2Trueb"),
        ("{% for x in [] %}{% else %}none{% endfor %}{{ None }}{{ undefined_name }}", "noneNone"),
        ("{{ '-' * 3 }}{{ 2 ** 10 }}{{ [1] + [2] }}{{ 'abc'[1:] }}", "---1024[1, 2]bc"),
        ("{{ messages | tojson }}", '[{"content": "Hello", "role": "user"}]'),
        ("{% for x in [[1, [2]]] recursive %}{{ x }}{% endfor %}", "[1, [2]]"),
    ],
)  # fmt: skip
def test_what_templates_may_do(template, wanted):
    assert render(template) == wanted
