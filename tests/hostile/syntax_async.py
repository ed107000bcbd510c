# A coroutine, whose frame would lead out.
# gate: forbidden_syntax
# alone: bad_output
async def revise_state(s):
    return s
