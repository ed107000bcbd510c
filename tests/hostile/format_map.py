# The same through format_map.
# gate: forbidden_name
# alone: values
def revise_state(s):
    return list("{s.__class__.__mro__}".format_map({"s": s}).encode())
