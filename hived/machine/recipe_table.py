"""The kinds that hived can start: a recipe each."""

from __future__ import annotations

from hived.machine.recipes import Recipe
from hived.machine.start_llamacpp import LlamaCppRecipe
from hived.machine.start_ollama import OllamaRecipe

RECIPES: tuple[Recipe, ...] = (LlamaCppRecipe(), OllamaRecipe())
