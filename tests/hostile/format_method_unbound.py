# The same through str.format, without a text in front of the dot.
# gate: forbidden_name
# alone: values
def revise_state(s):
    return list(str.format("{0.__code__.co_filename}", revise_state).encode())
