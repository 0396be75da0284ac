"""What plug-ins import is a promise: a name that goes breaks somebody else's code."""

from __future__ import annotations

import msgspec
import pytest

from hived.daemon.probes import BUILT_IN
from hived.providers import base
from hived_client.vocabulary.kinds import KINDS

PROMISED = {
    "Answer",
    "Endpoint",
    "Heard",
    "Http",
    "LARGE",
    "Locked",
    "MEDIUM",
    "Model",
    "NoAnswer",
    "Outcome",
    "Probe",
    "Provider",
    "ProviderKind",
    "SMALL",
    "Stranger",
    "Unusable",
    "check",
    "key_for",
    "timeout_for",
}


def test_every_promised_name_is_there_and_no_other_is_promised() -> None:
    assert set(base.__all__) == PROMISED
    assert all(hasattr(base, name) for name in PROMISED)


@pytest.mark.parametrize("provider", BUILT_IN, ids=[provider.kind.name for provider in BUILT_IN])
def test_hiveds_own_providers_pass_the_check_that_plug_ins_do(provider: base.Provider) -> None:
    base.check(provider)
    with pytest.raises(ValueError, match="its kind's litellm"):
        base.check(msgspec.structs.replace(provider, kind=msgspec.structs.replace(provider.kind, litellm="")))


def test_every_kind_of_hiveds_own_has_a_probe() -> None:
    assert {provider.kind for provider in BUILT_IN} == set(KINDS)
