"""Write a tiny GGUF model that says one sentence and makes one tool call, on any llama.cpp.

Nothing is trained. Attention and feed-forward are zero, so what comes out depends on the last token
alone: the embedding of a token points along an axis of its own, and along that axis stands the output
row of the token that follows it. The texts are thus two chains of tokens, and each begins at a marker
that only the chat template writes: the call, while the tool is offered and the last message is not a
tool's answer, else the sentence.

The vocabulary is the 256 bytes, so any text can be put to the model, and the pieces of its own texts.
This is the one home of numpy and gguf.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Union

import gguf
import numpy as np

JSON = Union[str, int, float, bool, None, list["JSON"], dict[str, "JSON"]]  # noqa: UP007

HEADS = 2
WEIGHT = 8.0
"""Of one link, on both sides. The next token's logit is at least 8·8·√64, and every other one's zero."""

_END, _TURN, _CALL, _TALK = SPECIALS = ("<|im_end|>", "<|im_start|>", "<|call|>", "<|talk|>")

_TEMPLATE = """\
{%- set wanted = namespace(call=false) -%}
{%- if tools -%}
<|im_start|>system
You may call these functions:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- if tool.function.name == "@TOOL@" %}{% set wanted.call = true %}{% endif %}
{%- endfor %}
</tools>
To call one, answer with a JSON object between tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if wanted.call and messages[-1].role != "tool" %}<|call|>{% else %}<|talk|>{% endif %}
{%- endif -%}
"""


def write_speaking_model(
    path: str | os.PathLike[str],
    *,
    say: str,
    tool: str,
    arguments: Mapping[str, JSON],
    name: str = "tiny-agent",
    context: int = 4096,
) -> None:
    """Write the model to ``path``, whole or not at all. The same arguments give the same bytes.

    ``say`` may be any text; ``tool`` is a function's name. With temperature 0 or 1 alike, the model
    answers exactly these. Where the end token is forbidden (a benchmark), it begins again. Raises
    ValueError for a name that no function has. Two traps in llama.cpp: it aborts on ``tool_choice``
    ``required``, and on ``none`` it still shows the template the tools, so the call comes as plain text.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", tool):
        raise ValueError(f"a function is named [A-Za-z0-9_.-]{{1,64}}, not {tool!r}")
    call = json.dumps({"name": tool, "arguments": dict(arguments)}, ensure_ascii=False)
    vocabulary = _Vocabulary()
    # The sentence first: the call has more pieces, and so can always be cut another way.
    talk_chain = vocabulary.add_chain(_TALK, say)
    call_chain = vocabulary.add_chain(_CALL, f"<tool_call>\n{call}\n</tool_call>")
    target = os.fspath(path)
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        out = gguf.GGUFWriter(temporary, "llama")
        _describe(out, vocabulary.tokens, name=name, context=context, tool=tool)
        _add_tensors(out, len(vocabulary.tokens), (talk_chain, call_chain))
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


class _Vocabulary:
    """Tokens by number: the specials, the bytes, and the pieces that the chains are made of."""

    def __init__(self) -> None:
        shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
        hidden = iter(range(0x100, 0x200))
        # Byte-level BPE (GPT-2) writes each byte as a printable character: itself, or one from U+0100 on.
        self._alphabet = [chr(byte if byte in shown else next(hidden)) for byte in range(256)]
        self.tokens = [*SPECIALS, *self._alphabet]
        self._linked = set(SPECIALS)

    def add_chain(self, marker: str, text: str) -> list[int]:
        """Add the pieces of a text, and return the chain from its marker to the end token."""
        pieces = _cut(text, self._linked)
        self._linked.update(pieces)
        return [self._number(marker), *map(self._number, map(self._spell, pieces)), self._number(_END)]

    def _spell(self, piece: str) -> str:
        return "".join(self._alphabet[byte] for byte in piece.encode())

    def _number(self, token: str) -> int:
        if token not in self.tokens:
            self.tokens.append(token)
        return self.tokens.index(token)


def _cut(text: str, taken: Iterable[str]) -> list[str]:
    """Cut a text into words, none twice and none that is taken: a piece has one successor only.

    A word that occurred already is joined with what follows it, or at the end with what comes before.
    """
    used, pieces, rest = set(taken), list[str](), ""
    for word in re.findall(r"\S{1,16}\s*|\s+", text):
        rest += word
        if rest not in used:
            used.add(rest)
            pieces.append(rest)
            rest = ""
    while rest:
        if not pieces:
            raise ValueError(f"this text cannot be told apart from a marker or another text: {text!r}")
        used.discard(pieces[-1])
        rest = pieces.pop() + rest
        if rest not in used:
            pieces.append(rest)
            rest = ""
    return pieces


def _describe(out: gguf.GGUFWriter, tokens: list[str], *, name: str, context: int, tool: str) -> None:
    kinds = [gguf.TokenType.CONTROL if one in SPECIALS else gguf.TokenType.NORMAL for one in tokens]
    out.add_type(gguf.GGUFType.MODEL)
    out.add_name(name)
    out.add_license("cc0-1.0")
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    out.add_vocab_size(len(tokens))
    out.add_context_length(context)
    out.add_block_count(1)
    out.add_head_count(HEADS)
    out.add_head_count_kv(1)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    # llama.cpp wants merges; one whose result is no token changes nothing: the bytes are taken.
    out.add_token_merges([f"{tokens[4]} {tokens[4]}"])
    out.add_bos_token_id(tokens.index(_TURN))
    out.add_eos_token_id(tokens.index(_END))
    out.add_add_bos_token(False)
    out.add_chat_template(_TEMPLATE.replace("@TOOL@", tool))


def _add_tensors(out: gguf.GGUFWriter, count: int, chains: Iterable[list[int]]) -> None:
    links = [link for chain in chains for link in pairwise(chain)]
    width = 64
    while width < len(links):
        width *= 2
    embedding = np.zeros((count, width), dtype=np.float16)
    output = np.zeros((count, width), dtype=np.float16)
    for axis, (here, after) in enumerate(links):
        embedding[here, axis] = output[after, axis] = WEIGHT
    axis = 0
    for chain in chains:
        axis += len(chain) - 1
        output[chain[1], axis - 1] += WEIGHT / 2  # after the last piece: second to the end token
    out.add_embedding_length(width)
    out.add_feed_forward_length(width)
    out.add_rope_dimension_count(width // HEADS)
    ones, key = np.ones(width, dtype=np.float32), width // HEADS
    square, narrow = np.zeros((width, width), np.float16), np.zeros((key, width), np.float16)
    tensors: dict[str, np.ndarray] = {
        "token_embd": embedding,
        "blk.0.attn_norm": ones,
        "blk.0.attn_q": square,
        "blk.0.attn_k": narrow,
        "blk.0.attn_v": narrow,
        "blk.0.attn_output": square,
        "blk.0.ffn_norm": ones,
        "blk.0.ffn_gate": square,
        "blk.0.ffn_up": square,
        "blk.0.ffn_down": square,
        "output_norm": ones,
        "output": output,
    }
    for title, tensor in tensors.items():
        out.add_tensor(f"{title}.weight", tensor)
