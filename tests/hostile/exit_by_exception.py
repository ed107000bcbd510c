# Leaves by SystemExit.
# gate: forbidden_name
# alone: raised
def revise_state(s):
    raise SystemExit(0)
