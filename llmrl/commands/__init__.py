"""One module per command of `llmrl`: `main(args) -> exit code`, and a docstring that is the command's help."""

COMMANDS = {
    "run": "train; the same command goes on where it was interrupted (-m sweeps)",
    "check": "try in seconds whether a run would work: 20 env_steps, an update, a checkpoint",
    "probe": "ask a language model a method's prompts, without training: is it good enough?",
    "list": "what there is to choose from",
    "eval": "play more evaluation episodes of a run, or film one",
    "status": "how all runs below a directory stand",
    "plan": "the runs of a paper's table: done, missing, what they cost; --run and --submit make them",
    "cancel": "stop runs, in a cluster's queue or here; they checkpoint first",
    "table": "a paper's table from the runs on disk, beside the published numbers",
    "tune": "search hyper-parameters, with Optuna; its result is a preset",
    "plot": "learning curves, bars, profiles and the papers' own figures, as png and pdf",
    "report": "one html page about a study",
    "view": "a live page about all runs, on this machine alone unless asked otherwise",
    "doctor": "what is installed here, what is missing, and what would help",
    "completion": "print the tab completion for bash or zsh",
}
