"""Search over hyper-parameters, `llmrl tune`: what is searched (space), the study on disk and its workers (study), and
the preset that it ends in (preset)."""
