"""Chat templates of public model families in a small form of our own: their turns, ends, dates and reasoning."""

from dataclasses import dataclass

from tests.tiny import CHATML, CHATML_WITH_SYSTEM, tiny_tokenizer


@dataclass(frozen=True, kw_only=True)
class Family:
    """A chat template, the tokens that it needs, and what it must lead to."""

    template: str
    special: tuple[str, ...] = ()
    """Tokens that decoding skips."""
    plain: tuple[str, ...] = ()
    """Tokens that decoding keeps."""
    eos: str = "</s>"
    asked: str
    """The prompt for "Hi there"."""
    learned: str
    """The two turns of `CHAT`, with what is learned in [[ ]]."""
    end: str | None
    """The token that ends a turn."""
    system: bool = True
    """Whether there is a system role."""

    def tokenizer(self):
        made = tiny_tokenizer(self.template)
        made.add_tokens(list(self.plain))
        made.add_special_tokens({"additional_special_tokens": [*self.special, "</s>", "<s>"]})
        made.eos_token, made.bos_token = self.eos, "<s>"
        return made


CHAT = [
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "Good day."},
    {"role": "user", "content": "Who is it?"},
    {"role": "assistant", "content": "It is me."},
]

_LLAMA3 = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_LLAMA3_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_LLAMA3_LEARNED = (
    "<|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    "[[Good day.<|eot_id|>]]<|start_header_id|>user<|end_header_id|>\n\nWho is it?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n[[It is me.<|eot_id|>]]"
)
_LLAMA3_ASKED = (
    "<|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
_DATED_SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\nToday Date: 01 Jan 2026\n\n<|eot_id|>"

_CHATML_LEARNED = (
    "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n[[Good day.<|im_end|>\n]]"
    "<|im_start|>user\nWho is it?<|im_end|>\n<|im_start|>assistant\n[[It is me.<|im_end|>\n]]"
)
_CHATML_ASKED = "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n"

QWEN3_TEMPLATE = """\
{%- set last = namespace(query=-1) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set last.query = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- if tools -%}{{- '<|im_start|>system\n' -}}{%- for t in tools -%}{{- (t | tojson) + '\n' -}}{%- endfor -%}
{{- '<|im_end|>\n' -}}{%- endif -%}
{%- for m in messages -%}
{%- set said = m.content if m.content is string else '' -%}
{{- '<|im_start|>' + m.role + '\n' -}}
{%- if m.role == 'assistant' -%}
{%- set thought = m.reasoning_content if m.reasoning_content is string else '' -%}
{%- if '</think>' in said -%}
{%- set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') -%}
{%- set said = said.split('</think>')[-1].lstrip('\n') -%}
{%- endif -%}
{%- generation -%}
{%- if loop.index0 > last.query -%}{{- '<think>\n' + thought + '\n</think>\n\n' -}}{%- endif -%}
{{- said -}}
{%- for call in m.tool_calls or [] -%}
{%- set call = call.function or call -%}
{{- '<tool_call>\n{"name": "' + call.name + '", "arguments": ' -}}
{{- call.arguments if call.arguments is string else call.arguments | tojson -}}{{- '}\n</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>' -}}
{%- endgeneration -%}
{%- else -%}{{- said + '<|im_end|>' -}}{%- endif -%}
{{- '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}
{%- endif -%}
"""
_HARMONY = """\
{{- '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '<|end|>' -}}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{- '<|start|>developer<|message|># Instructions\n\n' + m.content + '<|end|>' -}}
{%- elif m.role == 'user' -%}{{- '<|start|>user<|message|>' + m.content + '<|end|>' -}}
{%- elif m.role == 'assistant' and loop.last -%}
{%- if m.thinking -%}{{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' -}}{%- endif -%}
{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' -}}
{%- else -%}{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start|>assistant' -}}{%- endif -%}
"""
_R1 = """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{- '<｜User｜>' + m.content -}}
{%- elif m.role == 'system' -%}{{- m.content -}}
{%- else -%}
{%- generation -%}
{{- '<｜Assistant｜>' + m.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' -}}
{%- endgeneration -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<｜Assistant｜><think>\n' -}}{%- endif -%}
"""
_V31 = """\
{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{- '<｜User｜>' + m.content -}}
{%- elif m.role == 'system' -%}{{- m.content -}}
{%- else -%}{{- '<｜Assistant｜></think>' + m.content + '<｜end▁of▁sentence｜>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<｜Assistant｜>' + ('<think>' if thinking is defined and thinking else '</think>') -}}
{%- endif -%}
"""
_GLM = """\
{{- '[gMASK]<sop>' -}}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}{{- '<|assistant|>\n<think></think>\n' + m.content -}}
{%- else -%}{{- '<|' + m.role + '|>\n' + m.content -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- if enable_thinking is defined and not enable_thinking -%}{{- '\n<think></think>\n' -}}{%- endif -%}
{%- endif -%}
"""
_SMOL3 = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "<|im_start|>system\nToday Date: {{ strftime_now('%d %B %Y') }}\n"
    "Reasoning Mode: {{ '/think' if enable_thinking else '/no_think' }}\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\n{% endif %}<|im_end|>\n"
    "{% for m in messages %}{% if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if not enable_thinking %}<think>\n\n</think>\n{% endif %}"
    "{% endif %}"
)
_SMOL3_SYSTEM = "<|im_start|>system\nToday Date: 01 January 2026\nReasoning Mode: /think\n<|im_end|>\n"

FAMILIES = {
    "ChatML": Family(template=CHATML, eos="<|im_end|>", asked=_CHATML_ASKED, learned=_CHATML_LEARNED, end="<|im_end|>"),
    "Qwen2.5, with a system prompt of its own": Family(
        template=CHATML_WITH_SYSTEM,
        eos="<|im_end|>",
        asked="<|im_start|>system\nYou are tiny.<|im_end|>\n" + _CHATML_ASKED,
        learned="<|im_start|>system\nYou are tiny.<|im_end|>\n" + _CHATML_LEARNED,
        end="<|im_end|>",
    ),
    "Llama 2": Family(
        template="{% if messages[0]['role'] == 'system' %}{% set first = '<<SYS>>\\n' + messages[0]['content'] + "
        "'\\n<</SYS>>\\n\\n' %}{% set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}"
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token }}[INST] {{ first if loop.first else '' }}"
        "{{ m['content'] | trim }} [/INST]{% else %} {{ m['content'] | trim }} {{ eos_token }}{% endif %}{% endfor %}",
        asked="<s>[INST] Hi there [/INST]",
        learned="<s>[INST] Hi there [/INST][[ Good day. </s>]]<s>[INST] Who is it? [/INST][[ It is me. </s>]]",
        end="</s>",
    ),
    "Llama 3": Family(
        template="<|begin_of_text|>" + _LLAMA3,
        special=_LLAMA3_TOKENS,
        asked="<|begin_of_text|>" + _LLAMA3_ASKED,
        learned="<|begin_of_text|>" + _LLAMA3_LEARNED,
        end="<|eot_id|>",
    ),
    "Llama 3.2, with a date": Family(
        template="<|begin_of_text|>{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
        "{% endif %}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n"
        "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% set messages = messages[1:] %}"
        "{% endif %}<|eot_id|>" + _LLAMA3,
        special=_LLAMA3_TOKENS,
        asked="<|begin_of_text|>" + _DATED_SYSTEM + _LLAMA3_ASKED,
        learned="<|begin_of_text|>" + _DATED_SYSTEM + _LLAMA3_LEARNED,
        end="<|eot_id|>",
    ),
    "Gemma, without a system role": Family(
        template="{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}<start_of_turn>"
        "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        special=("<start_of_turn>", "<end_of_turn>"),
        asked="<s><start_of_turn>user\nHi there<end_of_turn>\n<start_of_turn>model\n",
        learned="<s><start_of_turn>user\nHi there<end_of_turn>\n<start_of_turn>model\n[[Good day.<end_of_turn>\n]]"
        "<start_of_turn>user\nWho is it?<end_of_turn>\n<start_of_turn>model\n[[It is me.<end_of_turn>\n]]",
        end="<end_of_turn>",
        system=False,
    ),
    "Gemma 3, texts or parts": Family(
        template="{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + "
        "'\\n\\n' %}{% set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}{% for m in messages %}"
        "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ first if loop.first else '' }}"
        "{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}{% for part in m['content'] %}"
        "{{ part['text'] | trim }}{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        special=("<start_of_turn>", "<end_of_turn>"),
        asked="<s><start_of_turn>user\nHi there<end_of_turn>\n<start_of_turn>model\n",
        learned="<s><start_of_turn>user\nHi there<end_of_turn>\n<start_of_turn>model\n[[Good day.<end_of_turn>\n]]"
        "<start_of_turn>user\nWho is it?<end_of_turn>\n<start_of_turn>model\n[[It is me.<end_of_turn>\n]]",
        end="<end_of_turn>",
    ),
    "SmolVLM, parts alone": Family(
        template="<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}: {% for part in m['content'] %}"
        "{{ part['text'] }}{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:"
        "{% endif %}",
        special=("<end_of_utterance>",),
        asked="<|im_start|>User: Hi there<end_of_utterance>\nAssistant:",
        learned="<|im_start|>User: Hi there<end_of_utterance>\nAssistant:[[ Good day.<end_of_utterance>\n]]"
        "User: Who is it?<end_of_utterance>\nAssistant:[[ It is me.<end_of_utterance>\n]]",
        end="<end_of_utterance>",
    ),
    "Mistral": Family(
        template="{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}[/INST]"
        "{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}",
        special=("[INST]", "[/INST]"),
        asked="<s>[INST] Hi there[/INST]",
        learned="<s>[INST] Hi there[/INST][[ Good day.</s>]][INST] Who is it?[/INST][[ It is me.</s>]]",
        end="</s>",
        system=False,
    ),
    "Mistral Small 3": Family(
        template="{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]"
        "{% elif m['role'] == 'system' %}[SYSTEM_PROMPT]{{ m['content'] }}[/SYSTEM_PROMPT]"
        "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}",
        special=("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        asked="<s>[INST]Hi there[/INST]",
        learned="<s>[INST]Hi there[/INST][[Good day.</s>]][INST]Who is it?[/INST][[It is me.</s>]]",
        end="</s>",
    ),
    "Magistral, with [THINK]": Family(
        template="{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]"
        "{% elif m['role'] == 'system' %}[SYSTEM_PROMPT]{{ m['content'] }}[/SYSTEM_PROMPT]"
        "{% else %}{% if m['reasoning_content'] %}[THINK]{{ m['reasoning_content'] }}[/THINK]{% endif %}"
        "{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}",
        special=("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]"),
        asked="<s>[INST]Hi there[/INST]",
        learned="<s>[INST]Hi there[/INST][[Good day.</s>]][INST]Who is it?[/INST][[It is me.</s>]]",
        end="</s>",
    ),
    "Qwen3, which thinks": Family(
        template=QWEN3_TEMPLATE,
        plain=("<think>", "</think>"),
        eos="<|im_end|>",
        asked=_CHATML_ASKED,
        learned="<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n[[Good day.<|im_end|>\n]]"
        "<|im_start|>user\nWho is it?<|im_end|>\n<|im_start|>assistant\n"
        "[[<think>\n\n</think>\n\nIt is me.<|im_end|>\n]]",
        end="<|im_end|>",
    ),
    "QwQ, whose prompt opens <think>": Family(
        template=CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"),
        plain=("<think>", "</think>"),
        eos="<|im_end|>",
        asked=_CHATML_ASKED + "<think>\n",
        learned="",
        end="<|im_end|>",
    ),
    "DeepSeek-R1": Family(
        template=_R1,
        special=("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
        plain=("<think>", "</think>"),
        eos="<｜end▁of▁sentence｜>",
        asked="<s><｜User｜>Hi there<｜Assistant｜><think>\n",
        learned="<s><｜User｜>Hi there<｜Assistant｜>[[Good day.<｜end▁of▁sentence｜>]]"
        "<｜User｜>Who is it?<｜Assistant｜>[[It is me.<｜end▁of▁sentence｜>]]",
        end="<｜end▁of▁sentence｜>",
    ),
    "DeepSeek-V3.1, whose thinking is switched": Family(
        template=_V31,
        special=("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
        plain=("<think>", "</think>"),
        eos="<｜end▁of▁sentence｜>",
        asked="<s><｜User｜>Hi there<｜Assistant｜></think>",
        learned="<s><｜User｜>Hi there<｜Assistant｜></think>[[Good day.<｜end▁of▁sentence｜>]]"
        "<｜User｜>Who is it?<｜Assistant｜></think>[[It is me.<｜end▁of▁sentence｜>]]",
        end="<｜end▁of▁sentence｜>",
    ),
    "gpt-oss, in harmony": Family(
        template=_HARMONY,
        special=("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>"),
        eos="<|return|>",
        asked="<|start|>system<|message|>Current date: 2026-01-01<|end|><|start|>user<|message|>Hi there<|end|>"
        "<|start|>assistant",
        learned="",
        end="<|return|>",
    ),
    "Phi-3": Family(
        template="{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        special=("<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>"),
        eos="<|endoftext|>",
        asked="<|user|>\nHi there<|end|>\n<|assistant|>\n",
        learned="<|user|>\nHi there<|end|>\n<|assistant|>\n[[Good day.<|end|>\n]]"
        "<|user|>\nWho is it?<|end|>\n<|assistant|>\n[[It is me.<|end|>\n]]",
        end="<|end|>",
    ),
    "Phi-4": Family(
        template="{% for m in messages %}<|im_start|>{{ m['role'] }}<|im_sep|>{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}",
        special=("<|im_sep|>",),
        eos="<|im_end|>",
        asked="<|im_start|>user<|im_sep|>Hi there<|im_end|><|im_start|>assistant<|im_sep|>",
        learned="<|im_start|>user<|im_sep|>Hi there<|im_end|><|im_start|>assistant<|im_sep|>[[Good day.<|im_end|>]]"
        "<|im_start|>user<|im_sep|>Who is it?<|im_end|><|im_start|>assistant<|im_sep|>[[It is me.<|im_end|>]]",
        end="<|im_end|>",
    ),
    "Vicuna, in plain text": Family(
        template="{% for m in messages %}{% if m['role'] == 'user' %}USER: {{ m['content'] }} "
        "{% elif m['role'] == 'system' %}{{ m['content'] }}\n\n{% else %}ASSISTANT: {{ m['content'] }}{{ eos_token }}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}",
        asked="USER: Hi there ASSISTANT:",
        learned="USER: Hi there ASSISTANT:[[ Good day.</s>]]USER: Who is it? ASSISTANT:[[ It is me.</s>]]",
        end="</s>",
    ),
    "Zephyr": Family(
        template="{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        asked="<|user|>\nHi there</s>\n<|assistant|>\n",
        learned="<|user|>\nHi there</s>\n<|assistant|>\n[[Good day.</s>\n]]"
        "<|user|>\nWho is it?</s>\n<|assistant|>\n[[It is me.</s>\n]]",
        end="</s>",
    ),
    "Command R": Family(
        template="{{ bos_token }}{% for m in messages %}<|START_OF_TURN_TOKEN|><|"
        "{{ {'user': 'USER', 'assistant': 'CHATBOT', 'system': 'SYSTEM'}[m['role']] }}_TOKEN|>"
        "{{ m['content'] | trim }}<|END_OF_TURN_TOKEN|>{% endfor %}"
        "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}",
        special=("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        asked="<s><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi there<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        learned="<s><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi there<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>[[Good day.<|END_OF_TURN_TOKEN|>]]"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Who is it?<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>[[It is me.<|END_OF_TURN_TOKEN|>]]",
        end="<|END_OF_TURN_TOKEN|>",
    ),
    "SmolLM3, with a date and a switch": Family(
        template=_SMOL3,
        plain=("<think>", "</think>"),
        eos="<|im_end|>",
        asked=_SMOL3_SYSTEM + _CHATML_ASKED,
        learned=_SMOL3_SYSTEM + _CHATML_LEARNED,
        end="<|im_end|>",
    ),
    "GLM-4.5, whose turns have no end": Family(
        template=_GLM,
        special=("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>"),
        plain=("<think>", "</think>"),
        eos="<|endoftext|>",
        asked="[gMASK]<sop><|user|>\nHi there<|assistant|>",
        learned="[gMASK]<sop><|user|>\nHi there<|assistant|>[[\n<think></think>\nGood day.]]"
        "<|user|>\nWho is it?<|assistant|>[[\n<think></think>\nIt is me.]]",
        end="<|user|>",
    ),
    "OLMo and Tulu": Family(
        template="{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}"
        "{{ eos_token if m['role'] == 'assistant' else '' }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        asked="<s><|user|>\nHi there\n<|assistant|>\n",
        learned="<s><|user|>\nHi there\n<|assistant|>\n[[Good day.</s>\n]]"
        "<|user|>\nWho is it?\n<|assistant|>\n[[It is me.</s>\n]]",
        end="</s>",
    ),
    "Alpaca, in plain text": Family(
        template="{% for m in messages %}{% if m['role'] == 'user' %}### Instruction:\n{{ m['content'] }}\n\n"
        "{% elif m['role'] == 'system' %}{{ m['content'] }}\n\n{% else %}### Response:\n{{ m['content'] }}\n\n"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}",
        asked="### Instruction:\nHi there\n\n### Response:\n",
        learned="### Instruction:\nHi there\n\n### Response:\n[[Good day.\n\n]]"
        "### Instruction:\nWho is it?\n\n### Response:\n[[It is me.\n\n]]",
        end=None,
    ),
}
