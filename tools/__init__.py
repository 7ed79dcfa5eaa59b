"""Tools for agents and for `refine`: the calculator, and an index as a tool."""

from artrag.tools.calculator import calculator
from artrag.tools.search import search_tool

__all__ = ["calculator", "search_tool"]
