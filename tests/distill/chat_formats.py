"""How chats look to five families of models: templates of our own that keep their rules, and vocabularies for them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A family's template and the marks it needs, the one that closes a turn first."""

    template: str
    closing: str
    marks: tuple[str, ...]
    bos: str | None = None
    eos: str | None = None  # if another than ``closing``
    system: bool = True
    tools: bool = True


QWEN3 = Format(
    r"""
{%- if tools -%}
{{- '<|im_start|>system\n' -}}
{%- if messages[0].role == 'system' -%}{{- messages[0].content + '\n\n' -}}{%- endif -%}
{{- '# Tools\n\n<tools>' -}}{%- for tool in tools -%}{{- '\n' + (tool | tojson) -}}{%- endfor -%}
{{- '\n</tools>\n\nCall them as <tool_call>\n{"name": <name>, "arguments": <object>}\n</tool_call><|im_end|>\n' -}}
{%- elif messages[0].role == 'system' -%}{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' -}}
{%- endif -%}
{%- set ns = namespace(last=-1) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for m in messages -%}
{%- if m.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}
{{- '\n<tool_response>\n' + m.content + '\n</tool_response>' -}}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{- '<|im_end|>\n' -}}{%- endif -%}
{%- elif m.role == 'assistant' -%}
{%- set thought = m.reasoning_content if m.reasoning_content is string else '' -%}
{{- '<|im_start|>assistant\n' -}}
{%- if loop.index0 > ns.last and (loop.last or thought) -%}
{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + m.content.lstrip('\n') -}}
{%- else -%}{{- m.content -}}{%- endif -%}
{%- for call in m.tool_calls or [] -%}
{%- if not loop.first or m.content -%}{{- '\n' -}}{%- endif -%}
{%- set call = call.function or call -%}
{{- '<tool_call>\n{"name": "' + call.name + '", "arguments": ' -}}
{%- if call.arguments is string -%}{{- call.arguments -}}{%- else -%}{{- call.arguments | tojson -}}{%- endif -%}
{{- '}\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\n' -}}
{%- elif m.role == 'user' or not loop.first -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}
{%- endif -%}
""",
    closing="<|im_end|>",
    marks=("<|im_start|>", "<|im_end|>"),
)

LLAMA3 = Format(
    r"""
{{- bos_token -}}
{%- if messages[0].role == 'system' -%}
{%- set told = messages[0].content | trim -%}{%- set messages = messages[1:] -%}
{%- else -%}{%- set told = '' -%}{%- endif -%}
{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\n' + told + '<|eot_id|>' -}}
{%- for m in messages -%}
{%- if m.tool_calls -%}
{%- set call = m.tool_calls[0].function -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "' + call.name + '", "parameters": ' -}}
{{- call.arguments | tojson -}}{{- '}<|eot_id|>' -}}
{%- elif m.role in ['tool', 'ipython'] -%}
{{- '<|start_header_id|>ipython<|end_header_id|>\n\n' + m.content + '<|eot_id|>' -}}
{%- else -%}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' -}}
{%- if tools and loop.first -%}
{{- 'Answer with JSON to call one of these.\n\n' -}}
{%- for tool in tools -%}{{- tool | tojson(indent=4) -}}{{- '\n\n' -}}{%- endfor -%}
{%- endif -%}
{{- m.content | trim + '<|eot_id|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}
""",
    closing="<|eot_id|>",
    marks=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    bos="<|begin_of_text|>",
)

MISTRAL = Format(
    r"""
{%- if messages[0].role == 'system' -%}
{%- set told = messages[0].content + '\n\n' -%}{%- set messages = messages[1:] -%}
{%- else -%}{%- set told = '' -%}{%- endif -%}
{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}
{{- '[INST] ' + (told if loop.first else '') + m.content + ' [/INST]' -}}
{%- elif m.role == 'assistant' -%}{{- ' ' + m.content + eos_token -}}
{%- else -%}{{- raise_exception('roles are user and assistant here') -}}
{%- endif -%}
{%- endfor -%}
""",
    closing="</s>",
    marks=("<s>", "</s>", "[INST]", "[/INST]"),
    bos="<s>",
    tools=False,
)

GEMMA = Format(
    r"""
{{- bos_token -}}
{%- if messages[0].role == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}
{%- for m in messages -%}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + '<end_of_turn>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}
""",
    closing="<end_of_turn>",
    marks=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    bos="<bos>",
    eos="<eos>",
    system=False,
    tools=False,
)

PHI3 = Format(
    r"""
{%- for m in messages -%}
{{- '<|' + m.role + '|>\n' + m.content + '<|end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\n' -}}{%- else -%}{{- eos_token -}}{%- endif -%}
""",
    closing="<|end|>",
    marks=("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    eos="<|endoftext|>",
    tools=False,
)

FORMATS = {"qwen3": QWEN3, "llama3": LLAMA3, "mistral": MISTRAL, "gemma": GEMMA, "phi3": PHI3}
