"""Write a GGUF model that takes a moment to load: 400 MB of zeros in the form of a Llama."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH, INNER, LAYERS, HEADS, CONTEXT = 1024, 16_384, 4, 16, 512


def write_heavy_model(path: Path) -> None:
    """Write it; it can be loaded, and has nothing to say."""
    tokens = ["<end>", *(chr(0x100 + n) for n in range(256))]
    out = gguf.GGUFWriter(path, "llama")
    out.add_name(path.stem)
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    out.add_vocab_size(len(tokens))
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_feed_forward_length(INNER)
    out.add_block_count(LAYERS)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    out.add_token_types([gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * 256])
    out.add_token_merges([f"{tokens[1]} {tokens[1]}"])
    out.add_bos_token_id(0)
    out.add_eos_token_id(0)
    ones = np.ones(WIDTH, np.float32)
    out.add_tensor("token_embd.weight", np.zeros((len(tokens), WIDTH), np.float16))
    out.add_tensor("output_norm.weight", ones)
    out.add_tensor("output.weight", np.zeros((len(tokens), WIDTH), np.float16))
    for layer in range(LAYERS):
        of = f"blk.{layer}."
        out.add_tensor(f"{of}attn_norm.weight", ones)
        out.add_tensor(f"{of}ffn_norm.weight", ones)
        for part in ("q", "k", "v", "output"):
            out.add_tensor(f"{of}attn_{part}.weight", np.zeros((WIDTH, WIDTH), np.float16))
        out.add_tensor(f"{of}ffn_gate.weight", np.zeros((INNER, WIDTH), np.float16))
        out.add_tensor(f"{of}ffn_up.weight", np.zeros((INNER, WIDTH), np.float16))
        out.add_tensor(f"{of}ffn_down.weight", np.zeros((WIDTH, INNER), np.float16))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
