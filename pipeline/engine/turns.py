"""The prompt formats that a checkpoint need not bring itself, as chat templates (Jinja).

Gemma's own turns (technical report, arXiv 2503.19786, table 4): a system text has no turn of its
own, it precedes the first user's text as it is; other texts are trimmed; an image is
`<start_of_image>`. And raw text: nothing but `<bos>`, the images and the texts as they are, which
the model continues.
"""

GEMMA = """\
{{- bos_token -}}
{%- set before = namespace(text='') -%}
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
        {%- for item in message['content'] -%}
            {%- set before.text = before.text + item['text'] + '\\n\\n' -%}
        {%- endfor -%}
    {%- else -%}
        {{- '<start_of_turn>' + message['role'] + '\\n' + before.text -}}
        {%- set before.text = '' -%}
        {%- for item in message['content'] -%}
            {{- '<start_of_image>' if item['type'] == 'image' else item['text'] | trim -}}
        {%- endfor -%}
        {{- '<end_of_turn>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""

RAW = """\
{{- bos_token -}}
{%- for message in messages -%}
    {%- for item in message['content'] -%}
        {{- '<start_of_image>' if item['type'] == 'image' else item['text'] -}}
    {%- endfor -%}
    {%- if message['role'] == 'system' -%}{{- '\\n\\n' -}}{%- endif -%}
{%- endfor -%}
"""
