# The same in a lambda.
# gate: forbidden_state
# alone: values
remember = lambda x, seen=[]: (seen.append(x), len(seen))[1]

def revise_state(s):
    return float(remember(s))
