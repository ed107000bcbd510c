"""One file per suite; `conf/env/<suite>/<task>.yaml` holds a task and what an LLM is told of it."""
