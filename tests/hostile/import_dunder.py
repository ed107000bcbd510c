# Imports by the function that import statements call.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    return list(__import__("pathlib").Path("@SECRET@").read_bytes())
