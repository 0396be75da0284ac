"""Write a Llama of 60 thousand random parameters, and an adapter for it, as Hugging Face folders.

Run as a script with a Python that has numpy, safetensors and tokenizers, which every vLLM brings:
``python tiny_llama.py MODEL ADAPTER``. The tokens are the 256 bytes and three marks, so that no vocabulary
has to be learnt. What it says is noise. Two heads of 32, since vLLM refuses smaller ones on a CPU.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

WIDTH, HEADS, LAYERS, INNER, CONTEXT, RANK = 64, 2, 2, 128, 2048, 4
MARKS = ("<bos>", "<end>", "<pad>")
BYTES = 256
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def write_model(folder: Path) -> None:
    """Write a model and its tokenizer; the same bytes each time."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    words = _write_tokenizer(folder)
    random = np.random.default_rng(1)

    def matrix(rows: int, columns: int) -> object:
        return (random.standard_normal((rows, columns)) * 0.05).astype(np.float32)

    ones = np.ones(WIDTH, np.float32)
    weights = {
        "model.embed_tokens.weight": matrix(words, WIDTH),
        "model.norm.weight": ones,
        "lm_head.weight": matrix(words, WIDTH),
    }
    for layer in range(LAYERS):
        of = f"model.layers.{layer}."
        for part in ("q", "k", "v", "o"):
            weights[f"{of}self_attn.{part}_proj.weight"] = matrix(WIDTH, WIDTH)
        weights[f"{of}mlp.gate_proj.weight"] = matrix(INNER, WIDTH)
        weights[f"{of}mlp.up_proj.weight"] = matrix(INNER, WIDTH)
        weights[f"{of}mlp.down_proj.weight"] = matrix(WIDTH, INNER)
        weights[f"{of}input_layernorm.weight"] = ones
        weights[f"{of}post_attention_layernorm.weight"] = ones
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "float32",
            "vocab_size": words,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": WIDTH // HEADS,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "bos_token_id": BYTES,
            "eos_token_id": BYTES + 1,
            "pad_token_id": BYTES + 2,
        },
    )


def write_adapter(folder: Path) -> None:
    """Write a LoRA adapter of the query and value projections, in PEFT's form."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(2)
    weights = {}
    for layer in range(LAYERS):
        for part in ("q", "v"):
            of = f"base_model.model.model.layers.{layer}.self_attn.{part}_proj.lora_"
            weights[f"{of}A.weight"] = random.standard_normal((RANK, WIDTH)).astype(np.float32)
            weights[f"{of}B.weight"] = random.standard_normal((WIDTH, RANK)).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    _write_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": RANK,
            "lora_alpha": RANK,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": ["q_proj", "v_proj"],
        },
    )


def _write_tokenizer(folder: Path) -> int:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    tokenizer.save(str(folder / "tokenizer.json"))
    begin, end, padding = MARKS
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": begin,
            "eos_token": end,
            "pad_token": padding,
            "model_max_length": CONTEXT,
            "chat_template": TEMPLATE,
        },
    )
    return int(tokenizer.get_vocab_size())


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_model(Path(sys.argv[1]))
    write_adapter(Path(sys.argv[2]))
