"""A language model as judge, over any OpenAI-compatible server, and whether it can be trusted."""
