"""How chats look to models of the Qwen kind whose GGUF does not say it.

Ollama's own builds of Qwen3 carry no chat template: that server writes chats by rules of its own. Their vocabulary
shows the format, ``<|im_start|>role … <|im_end|>``, with thoughts in ``<think>`` and calls in ``<tool_call>``.
"""

from collections.abc import Container

OPEN, CLOSE = "<|im_start|>", "<|im_end|>"

TEMPLATE = """
{%- macro text(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- elif content -%}
        {%- for part in content -%}
            {%- if part is string -%}{{- part -}}{%- elif part.text is defined -%}{{- part.text -}}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- set told = messages and messages[0].role == 'system' -%}
{%- if told or tools -%}
    {{- '<|im_start|>system\\n' + (text(messages[0].content) if told else '') -}}
    {%- if tools -%}
        {{- ('\\n\\n' if told else '') + '# Tools\\n\\n<tools>' -}}
        {%- for tool in tools -%}{{- '\\n' + (tool | tojson) -}}{%- endfor -%}
        {{- '\\n</tools>\\n\\nTo call one of them, answer with its name and arguments:\\n<tool_call>\\n' -}}
        {{- '{"name": <name>, "arguments": <object>}\\n</tool_call>' -}}
    {%- endif -%}
    {{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'tool' -%}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}
        {{- '\\n<tool_response>\\n' + text(message.content) + '\\n</tool_response>' -}}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{- '<|im_end|>\\n' -}}{%- endif -%}
    {%- elif not (loop.first and told) -%}
        {{- '<|im_start|>' + message.role + '\\n' -}}
        {%- if loop.last and message.reasoning_content -%}
            {{- '<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' -}}
        {%- endif -%}
        {{- text(message.content) -}}
        {%- for call in message.tool_calls or [] -%}
            {%- set call = call.function or call -%}
            {{- ('\\n' if message.content or not loop.first else '') + '<tool_call>\\n{"name": "' + call.name -}}
            {{- '", "arguments": ' + (call.arguments if call.arguments is string else call.arguments | tojson) -}}
            {{- '}\\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def fits(tokens: Container[str]) -> bool:
    """Whether a vocabulary has the marks that this format needs."""
    return OPEN in tokens and CLOSE in tokens
