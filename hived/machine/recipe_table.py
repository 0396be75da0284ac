"""The kinds that hived can start: a recipe each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hived.machine.recipes import Recipe
from hived.machine.start_llamacpp import LlamaCppRecipe
from hived.machine.start_lm_studio import LmStudioRecipe
from hived.machine.start_ollama import OllamaRecipe
from hived.machine.start_vllm import VllmRecipe


def recipes(studio: Callable[[Mapping[str, str]], str]) -> dict[str, Recipe]:
    """Return the recipes by the names of their kinds. ``studio`` finds LM Studio's own folder."""
    table: tuple[Recipe, ...] = (LlamaCppRecipe(), OllamaRecipe(), VllmRecipe(), LmStudioRecipe(studio))
    return {recipe.kind.name: recipe for recipe in table}
