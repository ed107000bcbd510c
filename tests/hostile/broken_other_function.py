# Another name than asked for.
# gate: missing_function
# alone: missing_function
def revise(s):
    return s
