"""Answers of language models that are made up: real replies, so that a new field of theirs breaks no test."""

from llmrl.llm.client import Reply


def reply(text: str, fault: str = "") -> Reply:
    return Reply(text, "a model", 1, 1, 0.0, "stop", fault)
