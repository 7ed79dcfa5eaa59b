"""artrag as a tool of an agent: the agent reads text, the app keeps confidence and sources.

    AGENT=openai:gpt-4.1-mini python examples/agent_tool.py "What does alarm PMP-417 mean?"

Without AGENT a stand-in calls the tool once, because the embedded model calls none.
"""

import os
import sys
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage

import artrag
from artrag.models import load_chat

CORPUS = Path(__file__).parent / "corpus"
INDEX = ".artrag/examples"


class StandIn(GenericFakeChatModel):
    """Says what it is told to."""

    def bind_tools(self, tools: Any, **_: Any) -> BaseChatModel:
        """It knows its tool already."""
        return self


def agent_model(question: str) -> BaseChatModel:
    """The model that AGENT names, else the stand-in."""
    if "AGENT" in os.environ:
        return load_chat(os.environ["AGENT"])
    call = {"name": "ask_documents", "args": {"question": question}, "id": "1"}
    return StandIn(messages=iter([AIMessage("", tool_calls=[call]), AIMessage("As the documents say.")]))


def main(question: str) -> None:
    """Give an agent the tool, ask it, and look at what the app knows beside the text."""
    artrag.ingest(CORPUS, index=INDEX)
    tool = artrag.answer_tool(settings=artrag.Settings(index=INDEX))
    agent = create_agent(agent_model(question), tools=[tool])
    said = agent.invoke({"messages": [("user", question)]})["messages"]
    print(said[-1].text)
    for message in said:
        if isinstance(message, ToolMessage) and message.artifact:  # none where the tool failed
            print("the agent read:", message.text, sep="\n")
            print(
                "the app knows:", message.artifact["confidence"], [s["document"] for s in message.artifact["sources"]]
            )


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "What does alarm PMP-417 mean?")
