"""One module per command of `llmrl`: `main(args) -> exit code`, and a docstring that is the command's help."""
