# Wants another argument.
# gate: raised
# alone: raised
def revise_state(s, dt):
    return s * dt
