"""Ask, Refine, Trust as middleware: whatever an agent says at last is doubted, refined where needed, and judged.

    python examples/agent_middleware.py "Tom has 12 bags of 3 apples and eats 5. How many are left?"

Runs on the embedded model; AGENT=openai:gpt-4.1-mini names another one. An agent with tools is held against what its
tools brought.
"""

import os
import sys

from langchain.agents import create_agent

import artrag
from artrag.models import load_chat

QUESTION = "Tom has 12 bags of 3 apples and eats 5. How many are left?"


def main(question: str) -> None:
    """Let an agent answer, and look at what became of its answer."""
    model = load_chat(os.environ.get("AGENT") or artrag.Settings().chat)
    doubting = artrag.ArtMiddleware(chat=model, settings=artrag.Settings(rounds=1))
    agent = create_agent(model, system_prompt="Work it out step by step.", middleware=[doubting])
    answer = agent.invoke({"messages": [("user", question)]})["messages"][-1]
    about = answer.additional_kwargs
    print(answer.text)
    print(f"confidence {about['confidence']:.2f}, refined: {about['refined']}, abstained: {about['abstained']}")
    print(f"doubt: {about['doubt']}\ndecision: {about['decision']}")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or QUESTION)
