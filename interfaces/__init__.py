"""The doors: the command line, and the graphs as LangGraph Studio opens them."""
