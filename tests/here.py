"""In place of llmrl's executor: what runs build on is made in the process that asks for it, as in `llmrl check`."""

CHILDREN = "from llmrl.runs import children; from llmrl.commands import check; children.default = check.InProcess"
