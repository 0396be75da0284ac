"""What a run comes to, in the fields that Hive's own ``ExecutionResult`` has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hived_client.vocabulary.faults import Fault


@dataclass
class ExecutionResult:
    """The outcome of one run. ``output`` holds what went in and what came out."""

    success: bool
    output: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    steps_executed: int = 0
    total_tokens: int = 0
    """Tokens of all prompts and answers, as the server counted them."""
    total_latency_ms: int = 0
    path: list[str] = field(default_factory=list)
    paused_at: str | None = None
    session_state: dict[str, Any] = field(default_factory=dict)
    total_retries: int = 0
    nodes_with_failures: list[str] = field(default_factory=list)
    retry_details: dict[str, int] = field(default_factory=dict)
    had_partial_failures: bool = False
    execution_quality: str = "clean"
    """``clean``, ``degraded`` or ``failed``."""
    node_visit_counts: dict[str, int] = field(default_factory=dict)
    fault: Fault | None = None
    """Why it failed, with the command that mends it. This one is hived's own."""
    warnings: tuple[Fault, ...] = ()
    """What should be known of the model that was called. hived's own, too."""

    @property
    def is_clean_success(self) -> bool:
        """Whether it succeeded with nothing done twice."""
        return self.success and self.execution_quality == "clean"

    @property
    def is_degraded_success(self) -> bool:
        """Whether it succeeded after something had to be done again or had failed."""
        return self.success and self.execution_quality == "degraded"
