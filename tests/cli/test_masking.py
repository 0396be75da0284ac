"""What is taken for a secret, and what is left alone."""

from __future__ import annotations

import pytest

from hived.cli.masking import masking

ENVIRONMENT = {
    "HF_TOKEN": "abcdef123456",
    "LAB": "named-in-the-configuration",
    "OPENAI_API_KEY": "abcdef123456-longer",
    "SSH_AUTH_SOCK": "/run/user/1/agent",
    "MAX_TOKENS": "16384",
    "TOKENIZERS_PARALLELISM": "false",
    "GIT_AUTHOR_NAME": "somebody",
    "KEYBOARD_LAYOUT": "dvorak-de",
    "PLAIN": "not-a-secret",
}

TEXTS: list[tuple[str, str]] = [
    ("the key abcdef123456 is wrong", "the key *** is wrong"),
    ("abcdef123456-longer", "***"),
    ("named-in-the-configuration", "***"),
    ("http://me:p@ss@host:1/x", "http://***@host:1/x"),
    ("Authorization: Bearer eyJhbGciOi.x-y_z", "Authorization: Bearer ***"),
    ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
    ('{"api_key": "0123456789"}', '{"api_key": "***"}'),
    ("--api-key 0123456789 --port 1", "--api-key *** --port 1"),
    ("token=0123456789", "token=***"),
    ("sk-proj-0123456789 hf_0123456789", "*** ***"),
    # What must stay to be read.
    ("/run/user/1/agent somebody dvorak-de false 16384 not-a-secret", ""),
    ("print_info: BOS token        = 1 '<s>'", ""),
    ("prompt eval: 12 tokens, n_tokens = 4096000000", ""),
    ("the token was refused; basic auth", ""),
    ("http://127.0.0.1:8080/v1 user@host", ""),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_secrets_are_masked_and_nothing_else(text: str, expected: str) -> None:
    masked = masking(ENVIRONMENT, frozenset({"LAB"}))
    assert masked(text) == (expected or text)


def test_without_secrets_nothing_is_looked_for() -> None:
    assert masking({})("abcdef123456") == "abcdef123456"
