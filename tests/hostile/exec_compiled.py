# Compiles a text and executes it.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    found = {}
    exec(compile("import os; found = os.listdir('/')", "x", "exec"), found)
    return list(" ".join(found["found"]).encode())
