"""Plain arithmetic as a LangChain tool."""

from langchain_core.tools import tool

from artrag.arithmetic import evaluate
from artrag.errors import CalculationError


@tool
def calculator(expression: str) -> str:
    """Calculate plain arithmetic such as "12 * (3 + 4.5)"; returns the value, or why there is none."""
    try:
        return f"{evaluate(expression):.12g}"
    except CalculationError as error:
        return str(error)
